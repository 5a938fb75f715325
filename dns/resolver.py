"""What is done with a query: refused, answered from the table, or handed to the forwarder. No I/O.

Everything a client can send ends in exactly one of: bytes to send back, nothing (it was no query), or a question in
flight whose answer comes as an effect of `forwarder`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from dns import wire
from dns.cache import Question
from dns.compiled import Compiled, turned
from dns.forward import Forwarder, Waiter
from dns.records import Name, Zone
from dns.table import Table


class Resolver:
    """Table, compiled answers and forwarder together.

    `entropy(n)` gives n unpredictable bytes; `look` is called before a question goes upstream, so that the list of
    upstreams can be brought up to date.
    """

    def __init__(self, entropy: Callable[[int], bytes], look: Callable[[], None]) -> None:
        self._look = look
        self.table = Table()
        self.compiled = Compiled()
        self.forwarder = Forwarder(entropy)
        self.queries = 0
        """Queries that were answered or will be; those answered from `compiled` in the hot loop are added by it."""
        self.hits = 0
        """Those of them answered by bytes that were ready."""
        self.turn = 0
        """Counts answers of several addresses, so that each of these is first in its turn."""

    def replace(self, zones: Iterable[Zone], names: Iterable[Name]) -> list[str]:
        """The table becomes this; see `Table.replace`."""
        faults = self.table.replace(zones, names)
        self.compiled.clear()
        return faults

    def update(self, changed: Iterable[Name], gone: Iterable[str]) -> list[str]:
        """The table changes by this; see `Table.update`."""
        faults = self.table.update(changed, gone)
        self.compiled.clear()
        return faults

    def ask_udp(self, message: bytes, client: Hashable, now: float) -> bytes | None:
        """A datagram that the hot loop had no answer for: the answer, or None where there is none, or none yet."""
        entry = self.compiled.find(message[2:].lower())
        if entry is None:
            return self._ask(message, client, now, udp=True)
        end, head, tail, unit, span = entry
        self.queries += 1
        self.hits += 1
        if unit:
            self.turn += 1
            tail = turned(tail, unit, span, self.turn)
        return message[:2] + head + message[wire.HEADER : end] + tail

    def ask_tcp(self, message: bytes, client: Hashable, now: float) -> bytes | None:
        """A message from a TCP connection; as `ask_udp`, with room for all of the answer."""
        return self._ask(message, client, now, udp=False)

    def _ask(self, message: bytes, client: Hashable, now: float, udp: bool) -> bytes | None:
        query = wire.parse_query(message)
        if query is None:
            return None
        self.queries += 1
        if query.rcode:
            return wire.encode_refusal(query, query.rcode)
        limit = query.size if udp else wire.MAX_MESSAGE
        answer = self.table.find(query.name, query.type)
        if answer is None or answer.chase is not None:
            name, prefix = (
                (query.name, ()) if answer is None or answer.chase is None else (answer.chase, answer.answers)
            )
            self._look()
            self.forwarder.ask(Question(name, query.type), Waiter(client, query, limit, prefix), now)
            return None
        answers = answer.answers
        if len(answers) > 1 and answers[0].type in (wire.A, wire.AAAA):
            self.turn += 1
            first = self.turn % len(answers)
            answers = answers[first:] + answers[:first]
        reply = wire.encode_answer(query, answer.flags, limit, answers, answer.authority, answer.additional)
        if udp:
            self.compiled.add(message, query, answer, reply)
        return reply
