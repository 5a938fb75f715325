"""Questions that are upstream's to answer: cache, retries, failover, coalescing. No sockets, no clock, no chance.

`ask` takes a client's question; `received`, `failed` and `advance` are told what happened on the wire and that time
has passed; all of them leave effects (`Send`, `Close`, `Reply`), which `effects` hands over. `deadline` is when
`advance` wants to be called next.

The life of a question in flight: it is sent over UDP to the first server that is well, and again, each time to the
next server, after `RETRY` seconds; earlier tries go on listening, so a slow link costs only duplicates. A truncated
answer is asked for again over TCP. The first usable answer ends it. SERVFAIL and REFUSED count when nobody says
better. Where a stale answer is kept, clients get it after `STALE_AFTER`, or at once while all servers are down, and
the search goes on without them. With all servers down every one is asked at once, and for a shorter time.

Equal questions in flight are one (so a forwarding loop ends in itself), and every table here has a cap.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import msgspec

from dns import wire
from dns.cache import Cache, Entry, Question, entry_of
from dns.upstream import Upstream, Upstreams
from dns.wire import Malformed, Query, Record

MAX_PENDING = 256
"""Different questions in flight."""
MAX_WAITERS = 64
"""Clients that wait for one of them."""
RETRY = (0.5, 1.0, 1.5)
"""Seconds between the tries of a question."""
MAX_TRIES = len(RETRY) + 1
GIVE_UP = 4.5
"""Seconds to SERVFAIL: just before the 5 seconds of resolv.conf(5) run out on the client."""
GIVE_UP_DOWN = 2.0
"""The same when every server is known to be down."""
STALE_AFTER = 1.8
"""Seconds after which a stale answer is better than waiting (RFC 8767, 5)."""
RECHECK = 5.0
"""Seconds for which a stale answer is given at once after a failed search (RFC 8767, 5: failure recheck timer)."""
MAX_RECHECKS = 1024
MAX_TIMERS = 4 * MAX_PENDING
"""Timers kept, those of questions that are done included; then the latter are thrown out."""


class Waiter(NamedTuple):
    """A client that wants an answer: `prefix` are the CNAMEs of ours that led to the question."""

    client: Hashable
    query: Query
    limit: int
    prefix: tuple[Record, ...] = ()


class Send(NamedTuple):
    """Ask a server: over UDP from a fresh port, or over TCP. What comes back is told under the number `attempt`."""

    attempt: int
    address: str
    tcp: bool
    message: bytes


class Close(NamedTuple):
    """Stop listening for an attempt's answer."""

    attempt: int


class Reply(NamedTuple):
    """Send this to the client."""

    client: Hashable
    message: bytes


Effect = Send | Close | Reply


class _Attempt(msgspec.Struct, eq=False):
    upstream: Upstream
    id: int
    tcp: bool
    edns: bool
    started: float
    pending: _Pending


class _Pending(msgspec.Struct, eq=False):
    question: Question
    give_up: float
    stale_at: float
    waiters: dict[tuple[Hashable, int], Waiter] = msgspec.field(default_factory=dict)
    attempts: dict[int, _Attempt] = msgspec.field(default_factory=dict)
    tried: list[Upstream] = msgspec.field(default_factory=list)
    next_try: float = 0.0
    patient: bool = True
    lame: Entry | None = None
    done: bool = False

    def wakes(self) -> float:
        return min(self.give_up, self.stale_at, self.next_try)


class Forwarder:
    """See the module. `entropy(n)` gives n unpredictable bytes."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self.cache = Cache()
        self.upstreams = Upstreams()
        self.troubled = False
        """An upstream has failed since this was last cleared: the list of them may be out of date."""
        self.failures = 0
        """Questions that ended in SERVFAIL for want of an answer."""
        self._entropy = entropy
        self._pending: dict[Question, _Pending] = {}
        self._attempts: dict[int, _Attempt] = {}
        self._rechecks: dict[Question, float] = {}
        self._timers: list[tuple[float, int, _Pending]] = []
        self._numbers = 0
        self._effects: list[Effect] = []

    def __len__(self) -> int:
        return len(self._pending)

    def effects(self) -> list[Effect]:
        """What is to be done now, in order; each is handed over once."""
        taken, self._effects = self._effects, []
        return taken

    def deadline(self) -> float | None:
        """When `advance` has something to do."""
        while self._timers and self._timers[0][2].done:
            heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def ask(self, question: Question, waiter: Waiter, now: float) -> None:
        """A client's question."""
        kept = self.cache.get(question, now)
        if kept is not None and (now < kept.expires or now < self._rechecks.get(question, 0.0)):
            self._reply(waiter, kept, now)
            return
        pending = self._pending.get(question)
        if pending is None:
            if len(self._pending) >= MAX_PENDING or not self.upstreams.all:
                self._give(waiter, kept, now)
                return
            self._start(question, waiter, kept, now)
            return
        key = (waiter.client, waiter.query.id)
        if kept is not None and pending.stale_at == _NEVER:
            self._reply(waiter, kept, now)  # the others have been given the stale answer already
        elif key in pending.waiters or len(pending.waiters) < MAX_WAITERS:
            pending.waiters[key] = waiter
        else:
            self._give(waiter, kept, now)

    def _start(self, question: Question, waiter: Waiter, kept: Entry | None, now: float) -> None:
        healthy = self.upstreams.healthy()
        pending = _Pending(question, now + (GIVE_UP if healthy else GIVE_UP_DOWN), _NEVER)
        self._pending[question] = pending
        if kept is not None and not healthy:
            self._reply(waiter, kept, now)
        else:
            pending.waiters[waiter.client, waiter.query.id] = waiter
            if kept is not None:
                pending.stale_at = now + STALE_AFTER
        if healthy:
            self._try(pending, healthy[0], now)
            if probe := self.upstreams.to_probe(now):
                probe.probe_at = now + RETRY[0]
                self._send(pending, probe, now)
            pending.next_try = now + RETRY[0]
        else:
            pending.patient = False
            pending.next_try = _NEVER
            for upstream in self.upstreams.all:
                self._try(pending, upstream, now)
        self._schedule(pending)

    def _schedule(self, pending: _Pending) -> None:
        if len(self._timers) >= MAX_TIMERS:
            self._timers = [timer for timer in self._timers if not timer[2].done]
            heapify(self._timers)
        self._numbers += 1
        heappush(self._timers, (pending.wakes(), self._numbers, pending))

    def _try(self, pending: _Pending, upstream: Upstream, now: float) -> None:
        pending.tried.append(upstream)
        self._send(pending, upstream, now)

    def _send(self, pending: _Pending, upstream: Upstream, now: float, tcp: bool = False) -> None:
        self._numbers += 1
        ident = int.from_bytes(self._entropy(2), "big")
        attempt = _Attempt(upstream, ident, tcp, upstream.edns, now, pending)
        pending.attempts[self._numbers] = self._attempts[self._numbers] = attempt
        upstream.asked += 1
        message = wire.encode_query(ident, *pending.question, edns=attempt.edns)
        self._effects.append(Send(self._numbers, upstream.address, tcp, message))

    def received(self, number: int, message: bytes, now: float) -> None:
        """Something came back on an attempt's socket; what is no answer to its question is ignored (RFC 5452, 9.1)."""
        attempt = self._attempts.get(number)
        if attempt is None:
            return
        pending = attempt.pending
        if message[:2] != attempt.id.to_bytes(2, "big"):
            return
        try:
            response = wire.parse_response(message)
        except Malformed as fault:
            self.failed(number, f"a malformed answer: {fault}", now)
            return
        same = (response.name, response.type) == pending.question
        # some servers leave the question out of refusals and of truncated answers, which hold nothing to believe
        empty = response.type == 0 and (response.flags & wire.TC or response.rcode in _WITHOUT_QUESTION)
        if not same and not empty:
            return
        if response.flags & wire.TC and attempt.tcp:
            self.failed(number, "an answer truncated even over TCP", now)
            return
        upstream = attempt.upstream
        upstream.answered(now - attempt.started)
        self._end(number)
        if response.flags & wire.TC:
            self._send(pending, upstream, now, tcp=True)
        elif response.rcode in (wire.FORMERR, wire.NOTIMP) and attempt.edns:
            upstream.edns = False  # it knows no EDNS (RFC 6891, 7)
            self._send(pending, upstream, now, tcp=attempt.tcp)
        elif response.rcode in (wire.NOERROR, wire.NXDOMAIN):
            entry = entry_of(response, now)
            self.cache.put(pending.question, entry)
            self._rechecks.pop(pending.question, None)
            self._finish(pending, entry, now)
        else:
            pending.lame = entry_of(response, now)
            self._next(pending, now)

    def failed(self, number: int, reason: str, now: float) -> None:
        """An attempt's socket could not be used, or closed early."""
        attempt = self._attempts.get(number)
        if attempt is None:
            return
        self._end(number)
        attempt.upstream.failed(reason, now)
        self.troubled = True
        self._next(attempt.pending, now)

    def _end(self, number: int) -> None:
        attempt = self._attempts.pop(number)
        del attempt.pending.attempts[number]
        self._effects.append(Close(number))

    def _next(self, pending: _Pending, now: float) -> None:
        """After a bad answer: at once a server not yet tried; else wait for what is under way, or for the next try."""
        if pending.done:
            return
        untried = next((each for each in self.upstreams.order() if each not in pending.tried), None)
        if untried is not None and len(pending.tried) < MAX_TRIES:
            self._try(pending, untried, now)
        elif not pending.attempts and (pending.lame is not None or pending.next_try == _NEVER):
            self._fail(pending, now)

    def advance(self, now: float) -> None:
        """Do what is due."""
        while self._timers and self._timers[0][0] <= now:
            pending = heappop(self._timers)[2]
            if pending.done:
                continue
            if now >= pending.give_up:
                for attempt in pending.attempts.values():
                    self._timed_out(attempt, now)
                self._fail(pending, now)
                continue
            if now >= pending.stale_at:
                pending.stale_at = _NEVER
                kept = self.cache.get(pending.question, now)
                waiters, pending.waiters = pending.waiters, {}
                for waiter in waiters.values():
                    self._give(waiter, kept, now)
            if now >= pending.next_try:
                self._retry(pending, now)
            self._schedule(pending)

    def _retry(self, pending: _Pending, now: float) -> None:
        tries = len(pending.tried)
        for attempt in pending.attempts.values():
            if attempt.upstream is pending.tried[-1] and not attempt.tcp:
                self._timed_out(attempt, now)
        servers = self.upstreams.order()
        if tries >= MAX_TRIES or not servers:
            pending.next_try = _NEVER
            if not pending.attempts:
                self._fail(pending, now)
            return
        fewest = min(pending.tried.count(each) for each in servers)
        self._try(pending, next(each for each in servers if pending.tried.count(each) == fewest), now)
        pending.next_try = now + RETRY[tries] if tries < len(RETRY) else _NEVER

    def _timed_out(self, attempt: _Attempt, now: float) -> None:
        attempt.upstream.failed(f"no answer within {now - attempt.started:.1f} s", now)
        self.troubled = True

    def _fail(self, pending: _Pending, now: float) -> None:
        """No server gave an answer: the stale one, or what the last lame server said, or SERVFAIL."""
        kept = self.cache.get(pending.question, now)
        if kept is not None:
            while len(self._rechecks) >= MAX_RECHECKS:
                del self._rechecks[next(iter(self._rechecks))]
            self._rechecks[pending.question] = now + RECHECK
        self._finish(pending, kept or pending.lame, now)

    def _finish(self, pending: _Pending, entry: Entry | None, now: float) -> None:
        pending.done = True
        del self._pending[pending.question]
        for number in list(pending.attempts):
            self._end(number)
        for waiter in pending.waiters.values():
            self._give(waiter, entry, now)

    def _give(self, waiter: Waiter, entry: Entry | None, now: float) -> None:
        """An answer if there is one, stale or not, else SERVFAIL."""
        if entry is not None:
            self._reply(waiter, entry, now)
            return
        self.failures += 1
        refusal = wire.encode_refusal(waiter.query, wire.SERVFAIL)
        self._effects.append(Reply(waiter.client, refusal))

    def _reply(self, waiter: Waiter, entry: Entry, now: float) -> None:
        answers = (*waiter.prefix, *entry.aged(entry.answers, now))
        flags = entry.rcode | (wire.AA if waiter.prefix else 0)
        authority = entry.aged(entry.authority, now)
        message = wire.encode_answer(waiter.query, flags, waiter.limit, answers, authority)
        self._effects.append(Reply(waiter.client, message))


_NEVER = float("inf")
_WITHOUT_QUESTION = frozenset({wire.FORMERR, wire.NOTIMP, wire.REFUSED, wire.SERVFAIL})
