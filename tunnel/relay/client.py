"""A node's side of the relay: registers, binds channels to peers, stays registered. No I/O.

`receive` and `tick` take what came and the time; what is to be sent to the relay's address (from the WireGuard
port) is in `outbox`, what happened in `events`, the next time that something is due in `deadline()`.

There is at most one session (what the relay last welcomed) and one attempt at a new one (a nonce, then a proof).
The session stays in use during an attempt: when the relay says Unknown because this node's address has changed,
channels and their numbers stay, and only Observed tells of it. Down comes when an attempt gets no answer for
PATIENCE, or a sign of life is asked for in vain as long.

Invariants: at most MAX_PEERS channels; an unauthentic message changes nothing but, at most once a second, starts
an attempt; every wait has a retry.
"""

from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tunnel.endpoint import Address
from tunnel.relay import protocol
from tunnel.relay.proof import COOKIE_LIFE, NONCE, Keys, Malformed, shared_secret, verify
from tunnel.relay.protocol import (
    BIND_ENTRIES,
    PROVE_ENTRIES,
    REASONS,
    Ack,
    Challenge,
    Channels,
    Entry,
    Hello,
    Kind,
    Prove,
    Reason,
    Refusal,
    Sign,
    State,
    Unknown,
    Welcome,
)

MAX_PEERS = 512
"""Peers with a channel at one relay; more are Unbound."""

FIRST_RETRY = 0.1
LAST_RETRY = 5.0
"""Seconds until what was not answered is sent again: doubling from the first to the last, each less or more a fifth.
After a refusal it is the last at once.
"""
JOINING = 10.0
SOON = 0.8
"""A relay hears of a node that joins in a moment, and so does one that was started anew: for JOINING seconds a key that
is not admitted is no refusal, and the waits double up to SOON only. That is about 16 tries; a relay allows an address
20 a second, and 100 at once.
"""
KEEPALIVE = 12.0
"""Seconds between signs of life: the NATs of shortest memory hold 30 s, and two of three may be lost."""
SIGN_RETRY = 0.5
PATIENCE = 1.5
"""A sign of life is asked for again every SIGN_RETRY; after PATIENCE without an answer the relay is down."""
RECENT = 1.0
"""Seconds in which a second Unknown starts no second attempt."""


class Up(msgspec.Struct, frozen=True):
    """Registered. `observed` is this node's address as the relay sees it: its mapped address behind a NAT."""

    observed: Address


class Down(msgspec.Struct, frozen=True):
    """The relay does not answer (any more); channels are void until the next Bound. The client goes on trying."""

    reason: str


class Bound(msgspec.Struct, frozen=True):
    """A channel to a peer, new or changed. Data passes once `present`: the other side has bound it as well."""

    peer: bytes
    channel: int
    present: bool


class Unbound(msgspec.Struct, frozen=True):
    """There is no channel to a wanted peer (any more), and why."""

    peer: bytes
    reason: str


class Observed(msgspec.Struct, frozen=True):
    """This node's address as the relay sees it has changed, without the relay having been lost."""

    address: Address


class Pending(msgspec.Struct, frozen=True):
    """The relay does not admit this node's key, which may be new (told once). Refused follows if that lasts."""

    reason: str


class Refused(msgspec.Struct, frozen=True):
    """The relay will not have this node, and why (told once a reason). The client goes on trying, slowly."""

    reason: str


Event = Up | Down | Bound | Unbound | Observed | Pending | Refused


class _Retry(msgspec.Struct):
    """When to send again what has not been answered."""

    due: float
    tries: int = 0


class _Peer(msgspec.Struct):
    """A wanted peer: its channel (0 while there is none), and the bind that is not answered yet."""

    channel: int = 0
    present: bool = False
    retry: _Retry | None = msgspec.field(default_factory=lambda: _Retry(0.0))


class _Attempt(msgspec.Struct):
    """A registration under way: a Hello, and after its Challenge a Prove, sent until answered."""

    nonce: bytes
    started: float
    retry: _Retry
    prove: bytes = b""
    proved: float = 0.0
    keys: Keys | None = None
    sent: int = 0


class _Joining(msgspec.Struct):
    """A key that is not admitted, and may be new: since when, and the next try."""

    since: float
    retry: _Retry


class _Session(msgspec.Struct):
    """What the relay has welcomed; numbers of messages sent and received, signs of life."""

    keys: Keys
    observed: Address
    received: int
    sent: int
    sign: _Retry
    asked: float | None = None


class RelayClient:
    """One node at one relay."""

    def __init__(self, relay: Address, private_key: bytes, random: Callable[[int], bytes]) -> None:
        """`private_key` is the node's WireGuard key, 32 bytes; `random` gives that many random bytes."""
        self.relay = relay
        self.outbox: deque[bytes] = deque()
        self.events: deque[Event] = deque()
        self._private = X25519PrivateKey.from_private_bytes(private_key)
        self._public = self._private.public_key().public_bytes_raw()
        self._random = random
        self._peers: dict[bytes, _Peer] = {}
        self._leaving: dict[bytes, _Retry] = {}
        self._session: _Session | None = None
        self._attempt: _Attempt | None = None
        self._attempted = float("-inf")
        self._refused: Reason | None = None
        self._joining: _Joining | None = None
        self._down = False
        self._recent: deque[bytes] = deque(maxlen=16)
        self._started = False

    @property
    def observed(self) -> Address | None:
        """This node's address as the relay sees it; None while not registered."""
        return self._session.observed if self._session else None

    def want(self, peers: Iterable[bytes]) -> None:
        """The public keys to have a channel with, all of them: others are given up. Capped at MAX_PEERS."""
        wanted = [peer for peer in dict.fromkeys(peers) if peer != self._public]
        for peer in wanted[MAX_PEERS:]:
            self.events.append(Unbound(peer, f"more than {MAX_PEERS} peers wanted at relay {_shown(self.relay)}"))
        kept = dict.fromkeys(wanted[:MAX_PEERS])
        for peer in [peer for peer in self._peers if peer not in kept]:
            del self._peers[peer]
            if self._session and len(self._leaving) < MAX_PEERS:
                self._leaving[peer] = _Retry(0.0)
        for peer in kept:
            if peer not in self._peers:
                self._peers[peer] = _Peer()
                self._leaving.pop(peer, None)

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a datagram of first word RELAY from the relay's address (the caller has checked the source)."""
        try:
            kind, message = protocol.decode(datagram)
        except Malformed:
            return
        match message:
            case Challenge():
                self._challenged(message, now)
            case Welcome():
                self._welcomed(message, datagram, now)
            case Refusal():
                self._refuse(message, now)
            case Unknown():
                known = message.token in self._recent or int.from_bytes(message.token, "little") in self._channels()
                if self._session and not self._attempt and known and now >= self._attempted + RECENT:
                    self._begin(now)
            case Channels() if kind is Kind.BOUND and self._authentic(datagram, message.number, now):
                self._bound(message, now)
            case Sign() if kind is Kind.ALIVE:
                self._authentic(datagram, message.number, now)

    def tick(self, now: float) -> None:
        """Send what is due; call at `deadline()`, after `want` and once at the start."""
        if not self._started:
            self._started = True
            self._begin(now)
        if self._attempt:
            self._try(self._attempt, now)
        if self._session:
            self._keep(self._session, now)
        if self._session:
            self._bind(self._session, now)

    def deadline(self) -> float | None:
        """When `tick` is due next; None before the first tick, which is due at once."""
        due = []
        if self._attempt:
            due.append(self._attempt.retry.due)
        if self._attempt and self._impatient:
            due.append(self._attempt.started + PATIENCE)
        if self._session:
            due.append(self._session.sign.due)
            due += [peer.retry.due for peer in self._peers.values() if peer.retry]
            due += [retry.due for retry in self._leaving.values()]
        return min(due, default=None)

    def check(self, now: float) -> None:
        """Ask the relay for a sign of life now, not at the next keepalive: Down follows in 1.5 s without one."""
        if self._session and self._session.asked is None:
            self._session.sign.due = now

    # Registration

    @property
    def _impatient(self) -> bool:
        """Whether an attempt's silence is still to be told."""
        return bool(self._session) or not (self._down or self._refused)

    def _begin(self, now: float) -> None:
        self._attempt = _Attempt(self._random(NONCE), now, _Retry(now))
        self._attempted = now

    def _try(self, attempt: _Attempt, now: float) -> None:
        """Send Hello or Prove when due; a challenge grown old is asked for anew."""
        if now >= attempt.started + PATIENCE and self._impatient:
            if self._session:
                self._lose(f"relay {_shown(self.relay)} has forgotten this node and does not answer", now)
            else:
                self._down = True
                why = f"has not answered: does it run, and is UDP port {self.relay.port} open to it?"
                self.events.append(Down(f"relay {_shown(self.relay)} {why}"))
        if now < attempt.retry.due:
            return
        if attempt.prove and now >= attempt.proved + COOKIE_LIFE / 2:
            attempt.prove, attempt.keys, attempt.nonce = b"", None, self._random(NONCE)
        self.outbox.append(attempt.prove or protocol.hello(Hello(self._public, attempt.nonce)))
        self._again(attempt.retry, now)

    def _challenged(self, message: Challenge, now: float) -> None:
        attempt = self._attempt
        if not attempt or attempt.prove or message.nonce != attempt.nonce:
            return
        try:
            secret = shared_secret(self._private, message.relay_key)
        except Malformed:
            return
        asked = tuple(Entry(peer, state.channel, State.WANTED) for peer, state in self._peers.items())
        keys = Keys(secret, message.relay_key, self._public, attempt.nonce, message.cookie)
        proof = Prove(self._public, attempt.nonce, message.cookie, asked[:PROVE_ENTRIES])
        attempt.keys, attempt.prove, attempt.proved = keys, protocol.prove(proof, keys.node), now
        self.outbox.append(attempt.prove)
        attempt.retry = _Retry(now)
        self._again(attempt.retry, now)
        # those that do not fit follow at once, and are asked for again if they overtake the proof
        attempt.sent = self._send_binds(asked[PROVE_ENTRIES:], 0, keys)

    def _welcomed(self, message: Welcome, datagram: bytes, now: float) -> None:
        attempt = self._attempt
        if not attempt or not attempt.keys or not verify(datagram, attempt.keys.relay):
            return
        before = self._session
        sign = _Retry(now + self._jitter(KEEPALIVE))
        self._session = _Session(attempt.keys, message.observed, message.number, attempt.sent, sign)
        self._attempt = self._refused = self._joining = None
        self._down = False
        if not before:
            self.events.append(Up(message.observed))
        elif before.observed != message.observed:
            self.events.append(Observed(message.observed))
        answered = {entry.peer for entry in message.entries}
        for peer, state in self._peers.items():
            if peer not in answered:
                state.retry = _Retry(now + FIRST_RETRY)
        for entry in message.entries:
            self._take(entry, now)

    def _refuse(self, message: Refusal, now: float) -> None:
        attempt = self._attempt
        if not attempt or message.nonce != attempt.nonce:
            return
        attempt.prove, attempt.keys, attempt.nonce = b"", None, self._random(NONCE)
        if message.reason is Reason.STALE:
            self._again(attempt.retry, now)
            return
        if message.reason is Reason.NOT_ADMITTED and self._may_be_new(attempt, now):
            return
        attempt.retry.due = now + self._jitter(LAST_RETRY)
        if message.reason is self._refused:
            return
        self._refused = message.reason
        reason = f"relay {_shown(self.relay)}: {REASONS[message.reason]}"
        self.events.append(Refused(reason))
        if self._session:
            self._lose(reason, now)

    def _may_be_new(self, attempt: _Attempt, now: float) -> bool:
        """Whether a key that is not admitted may be one that the relay will hear of; then it is tried again soon."""
        if self._refused:
            return False
        if not self._joining:
            self._joining = _Joining(now, _Retry(now))
            if self._session:
                self._lose(f"relay {_shown(self.relay)} does not admit this node's key any more", now)
            else:
                self.events.append(Pending(f"relay {_shown(self.relay)} does not admit this node's key yet"))
        if now >= self._joining.since + JOINING:
            return False
        self._again(self._joining.retry, now, SOON)
        attempt.retry.due = self._joining.retry.due
        attempt.started = now  # silence from here on is to be told
        return True

    # A session

    def _authentic(self, datagram: bytes, number: int, now: float) -> bool:
        """Whether a message is the relay's, and new; then it is a sign of life."""
        session = self._session
        if not session or number <= session.received or not verify(datagram, session.keys.relay):
            return False
        session.received = number
        session.asked = None
        session.sign = _Retry(now + self._jitter(KEEPALIVE))
        return True

    def _keep(self, session: _Session, now: float) -> None:
        if session.asked is not None and now >= session.asked + PATIENCE:
            self._lose(f"relay {_shown(self.relay)} has not answered for {now - session.asked:.1f} s", now)
        elif now >= session.sign.due:
            if session.asked is None:
                session.asked = now
            session.sign.due = now + SIGN_RETRY
            self._send(protocol.sign(Kind.KEEPALIVE, Sign(self._number(session)), session.keys.node))

    def _lose(self, reason: str, now: float) -> None:
        self._session = None
        self._down = True
        self._leaving.clear()
        for peer in self._peers.values():
            peer.channel, peer.present, peer.retry = 0, False, _Retry(now)
        self.events.append(Down(reason))
        if not self._attempt:
            self._begin(now)

    def _bind(self, session: _Session, now: float) -> None:
        """Ask for the channels that are due, as many as fit in a datagram at a time."""
        entries = []
        for key, peer in self._peers.items():
            if peer.retry and now >= peer.retry.due:
                entries.append(Entry(key, peer.channel, State.WANTED))
                self._again(peer.retry, now)
        for key, retry in self._leaving.items():
            if now >= retry.due:
                entries.append(Entry(key, 0, State.GONE))
                self._again(retry, now)
        session.sent = self._send_binds(tuple(entries), session.sent, session.keys)

    def _send_binds(self, entries: tuple[Entry, ...], sent: int, keys: Keys) -> int:
        """Send as many datagrams as it takes; the number of the last."""
        for start in range(0, len(entries), BIND_ENTRIES):
            sent += 1
            part = Channels(sent, entries[start : start + BIND_ENTRIES])
            self._send(protocol.channels(Kind.BIND, part, keys.node))
        return sent

    def _bound(self, message: Channels, now: float) -> None:
        if message.update and self._session:
            answer = Ack(self._number(self._session), message.number)
            self._send(protocol.ack(answer, self._session.keys.node))
        for entry in message.entries:
            self._take(entry, now)

    def _take(self, entry: Entry, now: float) -> None:
        """What the relay says of one peer."""
        self._leaving.pop(entry.peer, None)
        peer = self._peers.get(entry.peer)
        if not peer:
            if entry.state in (State.ABSENT, State.PRESENT) and len(self._leaving) < MAX_PEERS:
                self._leaving[entry.peer] = _Retry(now)
            return
        if entry.state in (State.ABSENT, State.PRESENT) and entry.channel:
            present = entry.state is State.PRESENT
            if (peer.channel, peer.present) != (entry.channel, present):
                self.events.append(Bound(entry.peer, entry.channel, present))
            peer.channel, peer.present, peer.retry = entry.channel, present, None
            return
        full = entry.state is State.REFUSED
        if peer.channel or (full and peer.retry and peer.retry.tries <= 1):
            why = "has no room for another channel" if full else "has closed the channel"
            self.events.append(Unbound(entry.peer, f"relay {_shown(self.relay)} {why}"))
        peer.channel, peer.present = 0, False
        peer.retry = _Retry(now + self._jitter(LAST_RETRY if full else FIRST_RETRY), 2 if full else 0)

    # Common

    def _channels(self) -> set[int]:
        return {peer.channel for peer in self._peers.values() if peer.channel}

    def _send(self, datagram: bytes) -> None:
        self._recent.append(protocol.token_of(datagram))
        self.outbox.append(datagram)

    def _number(self, session: _Session) -> int:
        session.sent += 1
        return session.sent

    def _again(self, retry: _Retry, now: float, longest: float = LAST_RETRY) -> None:
        """Put off: twice as long each time."""
        retry.due = now + self._jitter(min(FIRST_RETRY * 2.0 ** min(retry.tries, 16), longest))
        retry.tries += 1

    def _jitter(self, seconds: float) -> float:
        """Less or more a fifth, so that nodes that lost a relay together do not come back in step."""
        return seconds * (0.8 + 0.4 * self._random(1)[0] / 255)


def _shown(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
