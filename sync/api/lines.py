"""Events as lines of JSON, framed for HTTP, and made once for all who watch.

`Lines` has the last events' lines; a `View` what all streams with one question see of a batch, so that an event costs
each of them a write and no more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec

from sync.api import forms, lists, tables, versions
from sync.api.forms import METADATA, TABLE, Form
from sync.api.lists import Match
from sync.api.options import ListOptions
from sync.api.recent import Recent
from sync.api.registry import ResourceType
from sync.store import Entry, Event

SLICE = 64 * 1024
"""Bytes that are written at a time, or one line."""
CACHED = 256 * 1024
"""Bytes of events' lines that are kept for others who watch the same; of objects to be matched as many."""


class _Question(NamedTuple):
    type: ResourceType
    labels: str
    fields: str
    form: Form


class Lines:
    """Events as framed lines; the last ones are kept, since all who watch the same come for them at once."""

    def __init__(self) -> None:
        self._lines: Recent[bytes] = Recent(CACHED)
        self._objects: Recent[dict[str, Any]] = Recent(CACHED)
        self._views: WeakValueDictionary[_Question, View] = WeakValueDictionary()

    def view(self, type: ResourceType, options: ListOptions, form: Form) -> View:
        """What all see who ask this. Raises ApiError for what can't be watched."""
        question = _Question(type, options.label_selector, options.field_selector, form)
        view = self._views.get(question)
        if view is None:
            view = self._views[question] = View(self, type, lists.matcher(type, options), form)
        return view

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


class View:
    """A kind, as selectors let it through, in a form."""

    def __init__(self, lines: Lines, type: ResourceType, match: Match | None, form: Form) -> None:
        self.type = type
        self.form = form
        self._lines = lines
        self._match = match
        self._last: Sequence[Event] = ()
        self._slices: list[bytes] = []

    def first(self, entries: Sequence[Entry], *, headers: bool) -> Iterator[bytes]:
        """Lines for what is there when a watch begins. `headers`: the first table names its columns."""
        for entry in entries:
            if self._match is None or self._match(self._lines.object(self.type, entry)):
                yield self._lines.first(self.type, entry, self.form, headers)
                headers = False

    def slices(self, batch: Sequence[Event], *, headers: bool) -> list[bytes]:
        """The lines of a batch, joined to `SLICE`. All streams come for the same batch, one after another."""
        if headers:
            return _joined(self._seen(batch, headers=True))
        if self._last is not batch:
            self._slices = _joined(self._seen(batch, headers=False))
            self._last = batch
        return self._slices

    def _seen(self, batch: Sequence[Event], *, headers: bool) -> Iterator[bytes]:
        """What begins or ceases to match was added or deleted for who sees this."""
        match, type = self._match, self.type
        for event in batch:
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
            yield self._lines.line(kind, type, entry, self.form, headers, event.revision)
            headers = False


def frame(kind: str, body: bytes) -> bytes:
    """An event's line as a chunk (RFC 9112 7.1)."""
    line = b'{"type":"%s","object":%s}\n' % (kind.encode(), body)
    return b"%x\r\n%s\r\n" % (len(line), line)


def _joined(lines: Iterator[bytes]) -> list[bytes]:
    slices: list[bytes] = []
    waiting: list[bytes] = []
    size = 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= SLICE:
            slices.append(b"".join(waiting))
            waiting, size = [], 0
    if waiting:
        slices.append(b"".join(waiting))
    return slices
