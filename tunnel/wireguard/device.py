"""The device: peers, handshakes, timers. Its owner's shell moves the bytes.

Theory. Three sorts of calls:

- Under the owner's lock: everything that changes keys, peers or handshakes (`set_private_key`, `add`, `update`,
  `remove`, `receive`, `initiate`, `confirm`, `keepalive`, `tick`). Afterwards the owner sends what is in `outbox`,
  takes `events`, and waits no longer than `deadline()`, which any of them may have brought nearer.
- The data path, without a lock: `route`, `keypair`, `Peer.sending`, `sent`, `received`. The last two only store
  marks, and return True when there is something to do under the lock: `initiate` after `sent`, `confirm` after
  `received`.
- Reading: `peers` and the peers' attributes.

A data message goes out so: `peer = route(destination)`; `keypair = peer.sending(now)`; None: keep the packet, call
`initiate`; else seal and call `sent`. One comes in so: `keypair(index)`, `now < keypair.expires`, open,
`keypair.replay.accept(counter)`, then `received`; then `route(source) is keypair.peer`, or the packet is dropped.

Invariants: `receive` never raises for what the network sent and starts no more work than one handshake; `outbox`
and `events` are capped; an index belongs to one handshake or keypair at a time and is random; a session leaves the
table when its peer does.
"""

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import ClassVar, NamedTuple

from tunnel.endpoint import COOKIE_REPLY, INITIATION, RESPONSE, Endpoint
from tunnel.wireguard.admission import NotAdmitted
from tunnel.wireguard.allowedips import AllowedIPs, Network
from tunnel.wireguard.handshakes import Handshakes
from tunnel.wireguard.keypair import REKEY_AFTER_MESSAGES, Keypair
from tunnel.wireguard.messages import DATA_OVERHEAD, Malformed
from tunnel.wireguard.noise import KEY, HandshakeError, PrivateKey
from tunnel.wireguard.peer import NEVER, Peer
from tunnel.wireguard.sessions import Sessions
from tunnel.wireguard.timers import DUE, FORGET_AFTER, JITTER, MAX_ATTEMPTS, REKEY_TIMEOUT, Timer, look_at

OUTBOX = 4096
EVENTS = 4096


class SessionReady(NamedTuple):
    """A new keypair seals from now on (`peer.current`); packets held for the peer may go."""

    peer: Peer
    keypair: Keypair


class HandshakeFailed(NamedTuple):
    """90 s of initiations went unanswered: packets held for the peer should be dropped."""

    peer: Peer


Event = SessionReady | HandshakeFailed


class Refused(ValueError):
    """A key that can't be a peer's: our own, of the wrong length, or of low order."""


class Device:
    """One WireGuard interface. `random(n)` gives n random bytes, `wall()` Unix seconds (for timestamps only)."""

    def __init__(self, random: Callable[[int], bytes], wall: Callable[[], float]) -> None:
        self._random = random
        self._wall = wall
        self._handshakes: Handshakes | None = None
        self._sessions = Sessions(random)
        self.listen_port = 0
        self.peers: dict[bytes, Peer] = {}
        self.allowed_ips: AllowedIPs[Peer] = AllowedIPs()
        self.outbox: deque[tuple[Endpoint, bytes]] = deque(maxlen=OUTBOX)
        """Datagrams to send, oldest first; when nobody takes them, the oldest go."""
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.dropped = 0
        """Handshake datagrams that were malformed, forged, replayed, from strangers or too many."""
        self.route: Callable[[bytes], Peer | None] = self.allowed_ips.lookup
        """Whose an address of 4 or 16 bytes is."""
        self.keypair: Callable[[int], Keypair | None] = self._sessions.keypair
        """The keypair of a data message's receiver index."""

    # configuration

    @property
    def public_key(self) -> bytes | None:
        """Our own, once there is a private key."""
        return self._handshakes.private.public if self._handshakes else None

    def set_private_key(self, private_key: bytes | None, now: float) -> None:
        """Be someone else: all sessions end; a peer that has the new key goes. None: be nobody."""
        private = PrivateKey(private_key) if private_key is not None else None
        if (private and private.public) == self.public_key:
            return
        self._handshakes = None
        if private:
            self.remove(private.public)
            self._handshakes = Handshakes(private, self.peers, self._sessions, self._random)
        for peer in self.peers.values():
            self._forget(peer)
            peer.static_static = private.exchange(peer.public_key) if private else b""
            peer.handshake_sent = NEVER
            if peer.wanted or peer.keepalive:
                self.initiate(peer, now)

    def add(self, public_key: bytes) -> Peer:
        """The peer with this key, made if there is none; raises Refused."""
        if (peer := self.peers.get(public_key)) is not None:
            return peer
        if len(public_key) != KEY:
            raise Refused(f"peer's public key has {len(public_key)} bytes, expected {KEY}")
        if public_key == self.public_key:
            raise Refused("peer's public key is this device's own")
        private = self._handshakes.private if self._handshakes else None
        try:
            # any private key finds out whether the public one is of low order
            secret = (private or PrivateKey(self._random(KEY))).exchange(public_key)
        except HandshakeError as error:
            raise Refused(f"peer's {error}") from None
        peer = self.peers[public_key] = Peer(public_key, secret if private else b"")
        return peer

    def update(
        self,
        peer: Peer,
        now: float,
        *,
        preshared_key: bytes | None = None,
        endpoint: Endpoint | None = None,
        keepalive: int | None = None,
        pinned: bool | None = None,
    ) -> None:
        """Change what is given; sessions stay.

        Keepalive switched on sends one at once, and so starts a handshake where there is no session. An endpoint
        that moves while a handshake is under way starts that anew, at once.
        """
        if preshared_key is not None:
            peer.preshared_key = preshared_key
        if pinned is not None:
            peer.pinned = pinned
        moved = endpoint is not None and endpoint != peer.endpoint
        if endpoint is not None:
            peer.endpoint = endpoint
        switched_on = bool(keepalive) and not peer.keepalive
        if keepalive is not None:
            peer.keepalive = keepalive
        if moved and peer.sending(now) is None and (peer.wanted or peer.retry_at is not None):
            peer.handshake_sent = min(peer.handshake_sent, now - REKEY_TIMEOUT)
            self.initiate(peer, now)
        elif switched_on:
            self.keepalive(peer, now)
        self._schedule(peer, now)

    def allow(self, peer: Peer, networks: Iterable[Network], *, replace: bool = False) -> None:
        """Give a peer prefixes (taking them from others); with `replace`, these are its only ones."""
        self.allowed_ips.assign(peer, networks, replace=replace)

    def remove(self, public_key: bytes) -> None:
        """Forget a peer, its sessions and prefixes; nothing happens when it isn't there."""
        peer = self.peers.pop(public_key, None)
        if peer is not None:
            self._forget(peer)
            self.allowed_ips.assign(peer, (), replace=True)

    # data path, without a lock

    def sent(self, peer: Peer, keypair: Keypair, n_bytes: int, data: bool, now: float) -> bool:
        """Note a sealed message of `n_bytes`; `data` False for a keepalive. True: call `initiate` under the lock."""
        peer.tx_bytes += n_bytes
        peer.last_sent = now
        peer.unacknowledged_since = None
        if data and peer.unanswered_since is None:
            peer.unanswered_since = now
        return now >= keypair.rekey_at or keypair.counter >= REKEY_AFTER_MESSAGES

    def received(self, keypair: Keypair, source: Endpoint, n_bytes: int, data: bool, now: float) -> bool:
        """Note an authenticated message; `data` False for a keepalive. True: call `confirm` under the lock."""
        peer = keypair.peer
        peer.rx_bytes += n_bytes
        peer.last_received = now
        peer.unanswered_since = None
        if data and peer.unacknowledged_since is None:
            peer.unacknowledged_since = now
        return keypair is peer.next or (source != peer.endpoint and not peer.pinned) or now >= keypair.renew_at

    # under the lock

    def confirm(self, keypair: Keypair, source: Endpoint, now: float) -> None:
        """An authenticated message came by this keypair from this source, and `received` asked for this call."""
        peer = keypair.peer
        if self.keypair(keypair.local_index) is not keypair:
            return
        self._roam(peer, source)
        if self._sessions.confirmed(keypair, lower=(self.public_key or b"") < peer.public_key):
            self._handshake_done(peer, keypair)
        if now >= keypair.renew_at:
            keypair.renew_at = inf
            if keypair is peer.current:
                self.initiate(peer, now)
        self._schedule(peer, now)

    def initiate(self, peer: Peer, now: float) -> None:
        """Start a handshake, unless one was begun in the last 5 s; without an endpoint, as soon as there is one."""
        peer.attempts = 0
        self._send_initiation(peer, now)
        self._schedule(peer, now)

    def keepalive(self, peer: Peer, now: float) -> None:
        """Send an empty data message; without a session, start a handshake."""
        keypair = peer.sending(now)
        if keypair is None:
            self.initiate(peer, now)
        elif peer.endpoint is not None:
            self.outbox.append((peer.endpoint, keypair.seal(b"")))
            if self.sent(peer, keypair, DATA_OVERHEAD, False, now):
                self.initiate(peer, now)

    def under_load(self, now: float) -> bool:
        """Whether handshake messages must carry a cookie now."""
        return self._handshakes is not None and self._handshakes.admission.under_load(now)

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> None:
        """Take a datagram of type 1, 2 or 3; whatever is wrong with it only counts in `dropped`."""
        handshakes = self._handshakes
        kind = datagram[0] if datagram else 0
        try:
            if handshakes is None:
                raise HandshakeError("no private key")
            if kind == INITIATION:
                peer, response = handshakes.take_initiation(datagram, source, now)
                self._answered(peer, response, source, len(datagram), now)
            elif kind == RESPONSE:
                keypair = handshakes.take_response(datagram, source, now)
                self._completed(keypair, source, len(datagram), now)
            elif kind == COOKIE_REPLY:
                handshakes.take_cookie(datagram, now)
            else:
                raise Malformed(f"type byte {kind}")
        except NotAdmitted as refusal:
            self.dropped += 1
            if refusal.reply is not None:
                self.outbox.append((source, refusal.reply.pack()))
        except (Malformed, HandshakeError):
            self.dropped += 1

    def tick(self, now: float) -> None:
        """Do what timers ask for; to be called at `deadline()`, or whenever."""
        for peer in self.peers.values():
            if peer.look_at is None or peer.look_at > now:
                continue
            for timer, due in DUE.items():
                at = due(peer)
                if at is not None and at <= now:
                    self._expired[timer](self, peer, now)
            self._schedule(peer, now)

    def deadline(self) -> float | None:
        """When `tick` must be called next; None for never."""
        return min((peer.look_at for peer in self.peers.values() if peer.look_at is not None), default=None)

    # timers

    def _retry(self, peer: Peer, now: float) -> None:
        if peer.attempts >= MAX_ATTEMPTS:
            peer.retry_at = None
            peer.unacknowledged_since = None
            peer.unanswered_since = None
            if peer.zero_at is None:
                peer.zero_at = now + FORGET_AFTER
            self.events.append(HandshakeFailed(peer))
            return
        peer.attempts += 1
        self._send_initiation(peer, now)

    def _silence(self, peer: Peer, now: float) -> None:
        peer.unanswered_since = None
        self.initiate(peer, now)

    def _acknowledge(self, peer: Peer, now: float) -> None:
        peer.unacknowledged_since = None
        self.keepalive(peer, now)

    def _persistent(self, peer: Peer, now: float) -> None:
        peer.last_persistent = now
        self.keepalive(peer, now)

    def _forget_keys(self, peer: Peer, now: float) -> None:
        self._forget(peer)

    _expired: ClassVar[dict[Timer, Callable[["Device", Peer, float], None]]] = {
        Timer.FORGET_KEYS: _forget_keys,
        Timer.RETRY: _retry,
        Timer.SILENCE: _silence,
        Timer.ACKNOWLEDGE: _acknowledge,
        Timer.PERSISTENT: _persistent,
    }

    def _schedule(self, peer: Peer, now: float) -> None:
        peer.look_at = look_at(peer, now)

    def _jitter(self) -> float:
        return int.from_bytes(self._random(2), "little") / 65536 * JITTER

    # handshakes

    def _send_initiation(self, peer: Peer, now: float) -> None:
        if self.peers.get(peer.public_key) is not peer:
            return
        if peer.endpoint is None or self._handshakes is None:
            peer.wanted = True
            peer.retry_at = None
            return
        earliest = peer.handshake_sent + REKEY_TIMEOUT
        if now < earliest:
            # as the responder, or a moment ago: what it leads to may come yet, but must not be waited for in vain
            session = peer.sending(now)
            if session is not None and session.rekey_at <= now:
                session.rekey_at = earliest
            waiting = peer.retry_at is not None or session is None
            if waiting and (peer.retry_at is None or peer.retry_at <= now):
                peer.retry_at = earliest + self._jitter()
            return
        peer.wanted = False
        self._post(peer, (peer.endpoint,), self._handshakes.initiate(peer, self._wall(), now), now)
        peer.jitter = self._jitter()
        peer.retry_at = now + REKEY_TIMEOUT + peer.jitter
        if peer.current is not None:
            peer.current.rekey_at = now + REKEY_TIMEOUT

    def _post(self, peer: Peer, endpoints: Iterable[Endpoint], message: bytes, now: float) -> None:
        """Send a handshake message, which also counts as a packet sent."""
        for endpoint in endpoints:
            self.outbox.append((endpoint, message))
            peer.tx_bytes += len(message)
        peer.handshake_sent = now
        peer.last_sent = now
        peer.unacknowledged_since = None

    def _answered(self, peer: Peer, response: bytes, source: Endpoint, n_bytes: int, now: float) -> None:
        self._heard(peer, source, n_bytes, now)
        peer.zero_at = now + FORGET_AFTER
        # to where it came from, and to where the owner pinned the peer: either way may be the one that works
        self._post(peer, dict.fromkeys((source, peer.endpoint or source)), response, now)
        self._schedule(peer, now)

    def _completed(self, keypair: Keypair, source: Endpoint, n_bytes: int, now: float) -> None:
        peer = keypair.peer
        self._heard(peer, source, n_bytes, now)
        peer.zero_at = now + FORGET_AFTER
        self._handshake_done(peer, keypair)
        # the responder must not seal before it has heard from us
        self.keepalive(peer, now)
        self._schedule(peer, now)

    def _heard(self, peer: Peer, source: Endpoint, n_bytes: int, now: float) -> None:
        """Note an authenticated handshake message."""
        self._roam(peer, source)
        peer.rx_bytes += n_bytes
        peer.last_received = now
        peer.unanswered_since = None

    def _roam(self, peer: Peer, source: Endpoint) -> None:
        if not peer.pinned or peer.endpoint is None:
            peer.endpoint = source

    def _handshake_done(self, peer: Peer, keypair: Keypair) -> None:
        peer.retry_at = None
        peer.wanted = False
        peer.attempts = 0
        peer.last_handshake = self._wall()
        self.events.append(SessionReady(peer, keypair))

    def _forget(self, peer: Peer) -> None:
        """End a peer's sessions, and what its timers waited for."""
        self._sessions.forget(peer)
        peer.zero_at = peer.retry_at = peer.unanswered_since = peer.unacknowledged_since = None
