"""Who owns an index, and which keypair of a peer plays which role.

An index is 32 random bits that the other end puts into each message for us: it names a handshake under way, and
afterwards the keypair that came of it. The roles move so (`peer` says what each is for):

    we answered an initiation    next <- new, what was there goes
    our initiation was answered  previous <- current <- new
    next opened a message        previous <- current <- next, and a handshake of ours under way ends; but when both
                                 ends began at once and ours is the lower public key, previous <- next

When both begin at once, each may have a session of its own making as `current` and the other's as `next`; they would
go on with two sessions and renew both. The last rule makes them agree on one: the lower key's.

Invariants: an index belongs to one handshake or keypair at a time; a peer has at most one handshake and three
keypairs, all in the table and nowhere else; what loses its role leaves the table.
"""

from collections.abc import Callable

from tunnel.wireguard.keypair import Keypair
from tunnel.wireguard.noise import Initiated, SessionKeys
from tunnel.wireguard.peer import Peer

AT_ONCE = 5.0
"""Seconds within which our initiation is answered after we answered the other's, when both began at once
(REKEY_TIMEOUT). The other way round there is no collision: the other end began anew, for it may have restarted."""


class Sessions:
    """The table of one device. `random(n)` gives n random bytes."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._handshakes: dict[int, Peer] = {}
        self._keypairs: dict[int, Keypair] = {}
        self.keypair: Callable[[int], Keypair | None] = self._keypairs.get

    def __len__(self) -> int:
        return len(self._handshakes) + len(self._keypairs)

    def new_index(self) -> int:
        """An index that nothing has."""
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index not in self._handshakes and index not in self._keypairs:
                return index

    def owner(self, index: int) -> Peer | None:
        """The peer whose handshake or keypair this is."""
        if (peer := self._handshakes.get(index)) is not None:
            return peer
        keypair = self._keypairs.get(index)
        return None if keypair is None else keypair.peer

    def begin(self, peer: Peer, initiated: Initiated) -> None:
        """An initiation goes out; one before it is answered in vain from now on."""
        self._end_handshake(peer)
        peer.initiated = initiated
        self._handshakes[initiated.sender] = peer

    def initiated(self, index: int) -> tuple[Peer, Initiated] | None:
        """The handshake under way that a response to this index belongs to."""
        peer = self._handshakes.get(index)
        return None if peer is None or peer.initiated is None else (peer, peer.initiated)

    def answered(self, peer: Peer, keys: SessionKeys, local_index: int, remote_index: int, now: float) -> Keypair:
        """We answered an initiation: a new `next`."""
        keypair = Keypair(peer, keys, initiator=False, local_index=local_index, remote_index=remote_index, now=now)
        self._keypairs[local_index] = keypair
        self._drop(peer.next)
        peer.next = keypair
        return keypair

    def completed(self, peer: Peer, keys: SessionKeys, local_index: int, remote_index: int, now: float) -> Keypair:
        """Our initiation was answered: a new `current`."""
        self._end_handshake(peer)
        keypair = Keypair(peer, keys, initiator=True, local_index=local_index, remote_index=remote_index, now=now)
        self._keypairs[local_index] = keypair
        self._drop(peer.previous)
        peer.previous, peer.current = peer.current, keypair
        return keypair

    def confirmed(self, keypair: Keypair, *, lower: bool) -> bool:
        """A message was opened with it; True when that made it `current`. `lower`: our public key is the lower one."""
        peer, current = keypair.peer, keypair.peer.current
        if keypair is not peer.next:
            return False
        self._drop(peer.previous)
        peer.next = None
        if lower and current is not None and current.initiator and 0 <= current.created - keypair.created < AT_ONCE:
            peer.previous = keypair
            return False
        peer.previous, peer.current = current, keypair
        self._end_handshake(peer)
        return True

    def forget(self, peer: Peer) -> None:
        """End a peer's sessions and handshake."""
        for keypair in peer.keypairs():
            self._drop(keypair)
        peer.current = peer.previous = peer.next = None
        self._end_handshake(peer)

    def _drop(self, keypair: Keypair | None) -> None:
        if keypair is not None:
            self._keypairs.pop(keypair.local_index, None)

    def _end_handshake(self, peer: Peer) -> None:
        if peer.initiated is not None:
            self._handshakes.pop(peer.initiated.sender, None)
            peer.initiated = None
