"""What upstreams said, for as long as they allowed, and longer while none of them answers.

Positive answers live for the shortest of their TTLs, absent names and types for what their SOA says (RFC 2308, 5),
both within bounds. An entry that has run out is kept for a day more, to be served when upstream is away (RFC 8767).
The least recently used entry goes when there are too many entries or bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import msgspec

from dns import wire
from dns.wire import Record, Response, WireName

MAX_ENTRIES = 2048
MAX_BYTES = 1 << 20
"""Of all records together, counted as they are kept in memory, roughly."""
MAX_TTL = 3600
MAX_NEGATIVE_TTL = 900
MAX_STALE = 86400
"""Seconds after its end that an entry may still be served (RFC 8767, 5)."""
STALE_TTL = 30
"""The TTL of a stale answer (RFC 8767, 5)."""
_RECORD_OVERHEAD = 200
_ENTRY_OVERHEAD = 400


class Question(NamedTuple):
    """What is asked, of class IN."""

    name: WireName
    type: int


class Entry(msgspec.Struct, frozen=True):
    """An upstream's answer. `stored` and `expires` are in the clock of whoever put it there."""

    rcode: int
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]
    stored: float
    expires: float
    size: int

    def aged(self, records: tuple[Record, ...], now: float) -> list[Record]:
        """The records with what is left of their TTLs."""
        if now >= self.expires:
            return [record._replace(ttl=STALE_TTL) for record in records]
        age = int(now - self.stored)
        return [record._replace(ttl=min(max(record.ttl - age, 0), MAX_TTL)) for record in records]


def entry_of(response: Response, now: float) -> Entry:
    """The entry an answer makes: for a negative one only the SOA of its authority section; it may expire at once."""
    authority = tuple(record for record in response.authority if record.type == wire.SOA)
    negative = response.rcode == wire.NXDOMAIN or not any(
        record.type == response.type or response.type == wire.ANY for record in response.answers
    )
    if not negative:
        authority = ()
    ttl = 0
    if response.rcode in (wire.NOERROR, wire.NXDOMAIN):
        ttls = [record.ttl for record in response.answers]
        # without SOA a negative answer is not to be cached (RFC 2308, 5)
        ttls += [min(record.ttl, _minimum(record), MAX_NEGATIVE_TTL) for record in authority] or [0] * negative
        ttl = min([*ttls, MAX_TTL])
    size = _ENTRY_OVERHEAD + sum(
        _RECORD_OVERHEAD + len(record.owner) + len(record.data) for record in response.answers + authority
    )
    return Entry(response.rcode, response.answers, authority, now, now + ttl, size)


def _minimum(soa: Record) -> int:
    return int.from_bytes(soa.data[-4:], "big")


class Cache:
    """Entries by question."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Question, Entry] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, question: Question, now: float) -> Entry | None:
        """The entry, fresh or stale (see its `expires`), None when there is none or it is too old even for that."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if now >= entry.expires + MAX_STALE:
            self._forget(question)
            return None
        self._entries.move_to_end(question)
        return entry

    def put(self, question: Question, entry: Entry) -> None:
        """Keep an entry, unless it has run out already."""
        if entry.expires <= entry.stored:
            return
        self._forget(question)
        self._entries[question] = entry
        self.bytes += entry.size
        while len(self._entries) > MAX_ENTRIES or (self.bytes > MAX_BYTES and len(self._entries) > 1):
            self._forget(next(iter(self._entries)))

    def _forget(self, question: Question) -> None:
        entry = self._entries.pop(question, None)
        if entry is not None:
            self.bytes -= entry.size
