"""Watches: what happens from a revision on, a line of JSON an event.

An event is encoded once, whoever watches, and its chunk of HTTP is the same bytes for all. What one commit made goes
out in one write, without a coroutine's being woken for it. A client that does not read has a bounded buffer here and
a bounded queue in the store, then it is told 410 and cut off.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from sync.api import forms, status
from sync.api.forms import TABLE, Form
from sync.api.http import HttpVersion11, web
from sync.api.lines import SLICE, Lines, frame
from sync.api.options import ListOptions, revision
from sync.api.registry import ResourceType
from sync.api.status import ApiError
from sync.store import Ahead, Closed, Entry, Expired, Store, Watch

INITIAL_END = "k8s.io/initial-events-end"
BOOKMARK_EVERY = 60.0
DEFAULT_TIMEOUT = 1800.0
"""Seconds, and at most as many more by chance, where a client names none."""
BUFFER = 128 * 1024
"""Bytes that may wait in a client's connection before its watch waits too."""
STALLED = 30.0
"""Seconds that a client may not read for."""


class Stream:
    """One client's watch. `store` and `lines` are shared.

    Events are written where the store tells of them (`_told`). The coroutine begins, waits where the client is slow,
    sends bookmarks and ends.
    """

    def __init__(
        self, store: Store, lines: Lines, type: ResourceType, namespace: str, options: ListOptions, form: Form
    ) -> None:
        """Raises ApiError for what can't be watched."""
        self.type = type
        self._store = store
        self._view = lines.view(type, options, form)
        self._namespace = namespace
        self._options = options
        self._form = form
        self._since = revision(options.resource_version)
        self._watch: Watch | None = None
        self._headers = form.shape == TABLE
        """Whether the next table is to name its columns: once a watch."""
        self._closing = False
        self._fault: Exception | None = None
        self._woken = asyncio.Event()

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
                self._watch.told = None
                self._watch.close()
        return response

    async def _follow(self, pipe: _Pipe) -> None:
        since, initial = self._begin()
        try:
            watch = self._watch = self._store.watch(self.type.storage, self._namespace, since=since)
        except (Expired, Ahead):
            raise status.too_old(since, self._store.compacted) from None
        if initial is not None:
            for line in self._view.first(initial, headers=self._headers):
                self._headers = False
                pipe.add(line)
                if pipe.size >= SLICE:
                    pipe.flush()
                    await pipe.drained()
            if self._options.initial_events and self._options.bookmarks:
                pipe.add(self._bookmark(since, {INITIAL_END: "true"}))
        watch.told = lambda: self._told(watch, pipe)
        loop = asyncio.get_running_loop()
        asked = self._options.timeout
        end = loop.time() + (asked if asked else DEFAULT_TIMEOUT * (1 + random.random()))
        bookmark = self._next_bookmark(loop.time())
        while loop.time() < end:
            self._woken.clear()
            self._told(watch, pipe)
            if isinstance(self._fault, Expired):
                raise status.expired("too old resource version: the watch was too slow") from None
            if self._fault is not None:
                raise self._fault
            if pipe.full:
                await pipe.drained()
                continue
            try:
                async with asyncio.timeout_at(min(end, bookmark)):
                    await self._woken.wait()
            except TimeoutError:
                if loop.time() >= bookmark:
                    bookmark = self._next_bookmark(loop.time())
                    if self._options.bookmarks and not pipe.full:
                        pipe.write(self._bookmark(watch.progress(), {}))

    def _told(self, watch: Watch, pipe: _Pipe) -> None:
        """Write what waits, as far as the client takes it; wake the coroutine if it does not, or if it is over."""
        try:
            while not pipe.full:
                if pipe.size:
                    pipe.flush()
                    continue
                batches = watch.take()
                if not batches:
                    return
                for batch in batches:
                    for lines in self._view.slices(batch, headers=self._headers):
                        self._headers = False
                        pipe.add(lines)
        except Exception as error:  # the coroutine's, to be told or logged
            self._fault = error
        self._woken.set()

    def _begin(self) -> tuple[int, Sequence[Entry] | None]:
        """After which revision to watch, and what to tell before."""
        options = self._options
        if options.initial_events and self._since > self._store.revision:
            raise status.too_large_revision(self._since, self._store.revision)
        whole = options.initial_events if options.initial_events is not None else not self._since
        if whole:
            page = self._store.list(self.type.storage, self._namespace)
            return page.revision, page.entries
        return self._since or self._store.revision, None

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
    """The way to a client. What is added is written by the slice, as long as little of it waits in the connection."""

    def __init__(self, request: web.BaseRequest, transport: asyncio.Transport) -> None:
        self._protocol = request.protocol
        self._writer = request.writer
        self._transport = transport
        self._waiting: deque[bytes] = deque()
        self.size = 0
        """Bytes that are added and not written."""

    @property
    def full(self) -> bool:
        """Whether the client is to read first."""
        return self._protocol.writing_paused

    def add(self, lines: bytes) -> None:
        """Take lines."""
        self._waiting.append(lines)
        self.size += len(lines)

    def flush(self) -> None:
        """Write a slice of what was added, or all if that is less. Raises Closed when the client is gone."""
        waiting = self._waiting
        parts = [waiting.popleft()]
        size = len(parts[0])
        while waiting and size < SLICE:
            parts.append(waiting.popleft())
            size += len(parts[-1])
        self.size -= size
        self.write(parts[0] if len(parts) == 1 else b"".join(parts))

    async def drained(self) -> None:
        """Wait until it is not full. Raises _Stalled, and Closed when the client is gone."""
        try:
            async with asyncio.timeout(STALLED):
                await self._writer.drain()
        except TimeoutError:
            raise _Stalled from None
        except ConnectionError:
            raise Closed("the client is gone") from None

    def write(self, data: bytes) -> None:
        """Write at once."""
        if self._transport.is_closing():
            raise Closed("the client is gone")
        self._transport.write(data)

    def cut(self) -> None:
        """Say 410 behind all that waits, and let go of the connection, whether it is read or not."""
        error = status.expired("too old resource version: the client did not read")
        self.write(frame("ERROR", msgspec.json.encode(error.status())) + b"0\r\n\r\n")
        self._transport.close()
        asyncio.get_running_loop().call_later(STALLED, self._transport.abort)
