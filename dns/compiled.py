"""Answers as bytes, ready to be copied behind a client's question.

The key is a whole query without its id, in lower case: header, question, OPT record. So one look-up decides
everything, and nothing of a repeated question is read again. The answer's bytes are made from the table when a
query is first seen, and all are forgotten when the table changes.

Only queries whose bytes outside the name hold no letters are kept: what lower-casing does to such a query is to fold
its name, so two queries with one key ask the same. (Letters there would be, for instance, type 65.) Queries with
EDNS options, such as cookies, differ each time and are not kept either.

Two generations bound the memory: when the young one is full it becomes the old one, and what is asked for again
moves over.
"""

from __future__ import annotations

from dns import wire
from dns.table import Answer
from dns.wire import Query

MAX_COMPILED = 8192
"""Answers kept, both generations together."""
_OPT_SIZE = 11
_ADDRESS_SIZE = {wire.A: 16, wire.AAAA: 28}
"""Bytes of an address record whose owner is a pointer."""

Entry = tuple[int, bytes, bytes, int, int]
"""Where the question ends in the query; the 10 bytes from its id on; what follows the question; and, where the
answer is several addresses, the bytes of one record and of all (they take turns at being first), else 0 and 0."""


class Compiled:
    """The answers by query; `young` is for the hot loop, which asks `find` when it has none."""

    def __init__(self) -> None:
        self.young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}
        self._heads: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def clear(self) -> None:
        """Forget everything: the table has changed."""
        self.young.clear()
        self._old.clear()
        self._heads.clear()

    def find(self, key: bytes) -> Entry | None:
        """An answer of either generation."""
        entry = self.young.get(key)
        if entry is None and (entry := self._old.pop(key, None)) is not None:
            self._keep(key, entry)
        return entry

    def add(self, message: bytes, query: Query, answer: Answer, reply: bytes) -> None:
        """Keep `reply`, made from `answer` for `query`, if the query is one that others will ask in the same bytes."""
        end = wire.HEADER + len(query.question)
        outside = message[2 : wire.HEADER] + message[end - 4 :]
        if len(message) != end + (_OPT_SIZE if query.edns else 0) or outside.lower() != outside.upper():
            return
        if reply[2] & (wire.TC >> 8):
            return  # which records fit takes turns
        unit = span = 0
        count = len(answer.answers)
        if count > 1 and all(record.owner == query.name and record.type == query.type for record in answer.answers):
            unit = _ADDRESS_SIZE.get(query.type, 0)
            span = unit * count
        head = reply[2 : wire.HEADER]
        head = self._heads.setdefault(head, head)
        self._keep(message[2:].lower(), (end, head, reply[end:], unit, span))

    def _keep(self, key: bytes, entry: Entry) -> None:
        if len(self.young) >= MAX_COMPILED // 2:
            self._old = self.young.copy()
            self.young.clear()  # the hot loop holds this very dictionary
            self._heads.clear()
        self.young[key] = entry


def turned(tail: bytes, unit: int, span: int, turn: int) -> bytes:
    """The addresses of an answer with another one first."""
    cut = turn * unit % span
    return tail[cut:span] + tail[:cut] + tail[span:]
