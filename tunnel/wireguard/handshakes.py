"""One identity's handshakes: makes and reads their messages, and puts what comes of them into the table.

Refuses whatever is malformed, not admitted, forged, replayed, from a stranger or answers nothing of ours, by an
exception and before anything changes. What a message means for endpoints, timers and counters is `device`'s.

Invariants: a peer's timestamps only grow, in both directions; an initiation is taken at most every 20 ms a peer; no
index, ephemeral key or timestamp is used twice.
"""

from collections.abc import Callable, Mapping

from tunnel.endpoint import Endpoint
from tunnel.wireguard import noise
from tunnel.wireguard.admission import Admission
from tunnel.wireguard.keypair import Keypair
from tunnel.wireguard.messages import CookieReply, Initiation, Response
from tunnel.wireguard.noise import KEY, HandshakeError, PrivateKey
from tunnel.wireguard.peer import Peer
from tunnel.wireguard.sessions import Sessions

INITIATION_INTERVAL = 0.02
"""A peer's initiations are taken at most this often, in seconds (wireguard-go)."""


class Handshakes:
    """Handshakes of the owner of a private key. `peers` and `sessions` are the device's, by public key and index."""

    def __init__(
        self,
        private: PrivateKey,
        peers: Mapping[bytes, Peer],
        sessions: Sessions,
        random: Callable[[int], bytes],
    ) -> None:
        self.private = private
        self.admission = Admission(private.public, random)
        self._peers = peers
        self._sessions = sessions
        self._random = random

    def initiate(self, peer: Peer, wall: float, now: float) -> bytes:
        """A new initiation to a peer, at `wall` Unix seconds; one before it is answered in vain from now on."""
        index = self._sessions.new_index()
        initiated, message = noise.initiate(
            self.private,
            peer.public_key,
            peer.static_static,
            self._random(KEY),
            index,
            peer.timestamps.next(wall),
        )
        self._sessions.begin(peer, initiated)
        return peer.macs.write(message.pack(), now)

    def take_initiation(self, datagram: bytes, source: Endpoint, now: float) -> tuple[Peer, bytes]:
        """Whose it is, and the response to it; the peer has a new `next`."""
        message = Initiation.parse(datagram)
        self.admission.check(datagram, message.sender, source, now)
        opened = noise.open_initiation(self.private, message)
        peer = self._peers.get(opened.static)
        if peer is None:
            raise HandshakeError("stranger")
        timestamp = opened.timestamp(peer.static_static)
        if timestamp <= peer.latest_timestamp:
            raise HandshakeError("replayed")
        if now < peer.last_initiation + INITIATION_INTERVAL:
            raise HandshakeError("too many from one peer")
        index = self._sessions.new_index()
        response, keys = noise.respond(opened, peer.preshared_key, self._random(KEY), index)
        peer.latest_timestamp = timestamp
        peer.last_initiation = now
        self._sessions.answered(peer, keys, index, message.sender, now)
        return peer, peer.macs.write(response.pack(), now)

    def take_response(self, datagram: bytes, source: Endpoint, now: float) -> Keypair:
        """The session that comes of it, its peer's new `current`."""
        message = Response.parse(datagram)
        self.admission.check(datagram, message.sender, source, now)
        found = self._sessions.initiated(message.receiver)
        if found is None:
            raise HandshakeError("answers no handshake of ours")
        peer, initiated = found
        keys = noise.finish(initiated, self.private, peer.preshared_key, message)
        return self._sessions.completed(peer, keys, message.receiver, message.sender, now)

    def take_cookie(self, datagram: bytes, now: float) -> None:
        """The peer's next message will carry it."""
        message = CookieReply.parse(datagram)
        peer = self._sessions.owner(message.receiver)
        if peer is None or not peer.macs.take(message, now):
            raise HandshakeError("a cookie nobody asked for")
