"""Watches: what happens from a revision on, a line of JSON an event.

An event is encoded once, whoever watches, and its chunk of HTTP is the same bytes for all. What one commit made goes
out in one write. A client that does not read has a bounded buffer here and a bounded queue in the store, then it is
told 410 and cut off.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from aiohttp import HttpVersion11, web

from sync.api import forms, lists, status, tables, versions
from sync.api.forms import METADATA, TABLE, Form
from sync.api.options import ListOptions, revision
from sync.api.recent import Recent
from sync.api.registry import ResourceType
from sync.api.status import ApiError
from sync.store import Ahead, Closed, Entry, Event, Expired, Store, Watch

INITIAL_END = "k8s.io/initial-events-end"
BOOKMARK_EVERY = 60.0
DEFAULT_TIMEOUT = 1800.0
"""Seconds, and at most as many more by chance, where a client names none."""
BUFFER = 128 * 1024
"""Bytes that may wait in a client's connection before its watch waits too."""
SLICE = 64 * 1024
STALLED = 30.0
"""Seconds that a client may not read for."""
CACHED = 8 << 20
"""Bytes of events' lines that are kept for others who watch the same; of objects to be matched as many."""


class Lines:
    """Events as framed lines; the last ones are kept, since all who watch the same come for them at once."""

    def __init__(self) -> None:
        self._lines: Recent[bytes] = Recent(CACHED)
        self._objects: Recent[dict[str, Any]] = Recent(CACHED)

    def line(self, kind: str, type: ResourceType, entry: Entry, form: Form, headers: bool, at: int) -> bytes:
        """`kind` of an event with an object; `at`: the revision that it says, another than the entry's if the object
        left the watched set."""
        key = (kind, entry.key, entry.revision, at, type.version, type.group, form, headers)
        line = self._lines.get(key)
        if line is None:
            line = frame(kind, self._body(type, entry, form, headers, at))
            self._lines.put(key, line, len(line))
        return line

    def first(self, type: ResourceType, entry: Entry, form: Form, headers: bool) -> bytes:
        """A line for what is there when a watch begins; not kept."""
        return frame("ADDED", self._body(type, entry, form, headers, entry.revision))

    def object(self, type: ResourceType, entry: Entry) -> dict[str, Any]:
        """An entry's object, to be read only."""
        key = (entry.key, entry.revision, type.version, type.group)
        obj = self._objects.get(key)
        if obj is None:
            obj = versions.read(type, entry.data)
            self._objects.put(key, obj, len(entry.data))
        return obj

    def _body(self, type: ResourceType, entry: Entry, form: Form, headers: bool, at: int) -> bytes:
        if not form.shape and at == entry.revision:
            return versions.show(type, entry.data)
        obj = self.object(type, entry)
        if at != entry.revision:
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(at)}}
        if form.shape == METADATA:
            obj = forms.partial(obj, form.version)
        elif form.shape == TABLE:
            obj = tables.table(type, [obj], form.version, form.include, now=time.time(), headers=headers)
            obj["metadata"] = {"resourceVersion": str(at)}
        return msgspec.json.encode(obj)


def frame(kind: str, body: bytes) -> bytes:
    """An event's line as a chunk (RFC 9112 7.1)."""
    line = b'{"type":"%s","object":%s}\n' % (kind.encode(), body)
    return b"%x\r\n%s\r\n" % (len(line), line)


class Stream:
    """One client's watch. `store` and `lines` are shared."""

    def __init__(
        self, store: Store, lines: Lines, type: ResourceType, namespace: str, options: ListOptions, form: Form
    ) -> None:
        """Raises ApiError for what can't be watched."""
        self.type = type
        self._store = store
        self._lines = lines
        self._namespace = namespace
        self._options = options
        self._form = form
        self._match = lists.matcher(type, options)
        self._since = revision(options.resource_version)
        self._watch: Watch | None = None
        self._headers = True
        self._closing = False

    def close(self) -> None:
        """End it: the kind is gone, the client is, or the server stops."""
        self._closing = True
        if self._watch is not None:
            self._watch.close()

    async def run(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer until it is over."""
        if request.version < HttpVersion11:
            raise status.bad_request("a watch needs HTTP/1.1")
        response = web.StreamResponse(headers={"Content-Type": forms.JSON, "Cache-Control": "no-cache, private"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"")  # the headers: a client waits for them, not for the first event
        transport = request.transport
        if transport is None or self._closing:
            return response
        transport.set_write_buffer_limits(high=BUFFER)
        pipe = _Pipe(request, transport)
        try:
            await self._follow(pipe)
        except _Stalled:
            pipe.cut()
        except Closed:
            pass
        except ApiError as error:
            pipe.write(frame("ERROR", msgspec.json.encode(error.status())))
        finally:
            if self._watch is not None:
                self._watch.close()
        return response

    async def _follow(self, pipe: _Pipe) -> None:
        since, initial = self._begin()
        try:
            watch = self._watch = self._store.watch(self.type.storage, self._namespace, since=since)
        except (Expired, Ahead):
            raise status.too_old(since, self._store.compacted) from None
        if initial is not None:
            for entry in initial:
                if self._match is None or self._match(self._lines.object(self.type, entry)):
                    await pipe.send(self._lines.first(self.type, entry, self._form, self._shown()))
            if self._options.initial_events and self._options.bookmarks:
                await pipe.send(self._bookmark(since, {INITIAL_END: "true"}))
            await pipe.flush()
        loop = asyncio.get_running_loop()
        asked = self._options.timeout
        end = loop.time() + (asked if asked else DEFAULT_TIMEOUT * (1 + random.random()))
        bookmark = self._next_bookmark(loop.time())
        while loop.time() < end:
            try:
                async with asyncio.timeout_at(min(end, bookmark)):
                    while True:
                        for line in self._seen(await watch.next()):
                            await pipe.send(line)
                        await pipe.flush()
            except TimeoutError:
                if loop.time() >= bookmark:
                    bookmark = self._next_bookmark(loop.time())
                    if self._options.bookmarks:
                        await pipe.send(self._bookmark(watch.progress(), {}))
                        await pipe.flush()
            except Expired:
                raise status.expired("too old resource version: the watch was too slow") from None

    def _begin(self) -> tuple[int, Iterable[Entry] | None]:
        """After which revision to watch, and what to tell before."""
        options = self._options
        if options.initial_events and self._since > self._store.revision:
            raise status.too_large_revision(self._since, self._store.revision)
        whole = options.initial_events if options.initial_events is not None else not self._since
        if whole:
            page = self._store.list(self.type.storage, self._namespace)
            return page.revision, page.entries
        return self._since or self._store.revision, None

    def _seen(self, events: list[Event]) -> Iterator[bytes]:
        """Events as this client sees them: what begins or ceases to match was added or deleted for it."""
        match, type = self._match, self.type
        for event in events:
            kind, entry = event.type, event.entry
            if match is not None:
                previous = event.previous
                before = previous is not None and match(self._lines.object(type, previous))
                now = kind != "DELETED" and match(self._lines.object(type, entry))
                if not before and not now:
                    continue
                if previous is not None and not now and kind != "DELETED":
                    entry = previous
                kind = "MODIFIED" if before and now else "ADDED" if now else "DELETED"
            yield self._lines.line(kind, type, entry, self._form, self._shown(), event.revision)

    def _shown(self) -> bool:
        """Whether a table names its columns: once a watch."""
        if self._form.shape != TABLE:
            return False
        shown, self._headers = self._headers, False
        return shown

    def _bookmark(self, at: int, annotations: dict[str, str]) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(at), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        kind, version = self.type.kind, self.type.api_version
        if self._form.shape:
            kind, version = self._form.shape, f"meta.k8s.io/{self._form.version}"
        obj: dict[str, Any] = {"kind": kind, "apiVersion": version, "metadata": metadata}
        if self._form.shape == TABLE:
            obj |= {"columnDefinitions": [], "rows": []}
        return frame("BOOKMARK", msgspec.json.encode(obj))

    def _next_bookmark(self, now: float) -> float:
        return now + BOOKMARK_EVERY * random.uniform(0.8, 1.2)


class _Stalled(Exception):
    """The client does not read."""


class _Pipe:
    """The way to a client: writes are gathered, and wait while its buffer is full."""

    def __init__(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        self._writer = request.writer
        self._transport = transport
        self._waiting: list[bytes] = []
        self._size = 0

    async def send(self, line: bytes) -> None:
        """Add a line."""
        self._waiting.append(line)
        self._size += len(line)
        if self._size >= SLICE:
            await self.flush()

    async def flush(self) -> None:
        """Write what was added. Raises _Stalled, and Closed when the client is gone."""
        if not self._waiting:
            return
        data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        self.write(data)
        if self._transport.get_write_buffer_size() > BUFFER:
            try:
                async with asyncio.timeout(STALLED):
                    await self._writer.drain()
            except TimeoutError:
                raise _Stalled from None
            except ConnectionError:
                raise Closed("the client is gone") from None

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise Closed("the client is gone")
        self._transport.write(data)

    def cut(self) -> None:
        """Say 410 behind all that waits, and let go of the connection, whether it is read or not."""
        error = status.expired("too old resource version: the client did not read")
        self.write(frame("ERROR", msgspec.json.encode(error.status())) + b"0\r\n\r\n")
        self._transport.close()
        asyncio.get_running_loop().call_later(STALLED, self._transport.abort)
