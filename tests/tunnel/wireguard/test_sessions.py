"""The table of indices and roles, walked at random: nothing leaks, nothing is in it twice."""

import random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tunnel.wireguard.keypair import Keypair
from tunnel.wireguard.noise import Initiated, PrivateKey, SessionKeys, Symmetric
from tunnel.wireguard.peer import Peer
from tunnel.wireguard.sessions import AT_ONCE, Sessions

KEYS = SessionKeys(b"a" * 32, b"b" * 32, b"c" * 32)
EPHEMERAL = PrivateKey(b"e" * 32)
STATE = Symmetric(bytes(32), bytes(32))
PEERS = st.sampled_from([0, 1, 2])


class Walk(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # one byte of randomness, so that indices are nearly used up and collide
        chance = random.Random(3)
        self.sessions = Sessions(lambda size: bytes([chance.randrange(16)]).ljust(size, b"\0"))
        self.now = 0.0
        self.peers = [Peer(bytes([number]) * 32, bytes(32)) for number in range(3)]

    @rule(number=PEERS)
    def begin(self, number: int) -> None:
        peer = self.peers[number]
        before = peer.initiated
        index = self.sessions.new_index()
        assert self.sessions.owner(index) is None
        self.sessions.begin(peer, Initiated(index, EPHEMERAL, STATE))
        assert self.sessions.initiated(index) == (peer, peer.initiated)
        assert before is None or self.sessions.initiated(before.sender) is None

    @rule(number=PEERS)
    def answered(self, number: int) -> None:
        peer = self.peers[number]
        current, previous = peer.current, peer.previous
        keypair = self.sessions.answered(peer, KEYS, self.sessions.new_index(), 9, self.now)
        assert (peer.next, peer.current, peer.previous) == (keypair, current, previous)

    @rule(number=PEERS)
    def completed(self, number: int) -> None:
        peer = self.peers[number]
        if peer.initiated is None:
            return
        index = peer.initiated.sender
        current, next_ = peer.current, peer.next
        keypair = self.sessions.completed(peer, KEYS, index, 9, self.now)
        assert keypair.local_index == index
        assert peer.keypairs() == [kept for kept in (keypair, current, next_) if kept]
        assert peer.current is keypair
        assert peer.next is next_
        assert self.sessions.initiated(index) is None

    @rule(seconds=st.sampled_from([0.1, 120.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(number=PEERS, role=st.sampled_from(["current", "previous", "next"]), lower=st.booleans())
    def confirmed(self, number: int, role: str, lower: bool) -> None:
        peer = self.peers[number]
        keypair: Keypair | None = getattr(peer, role)
        if keypair is None:
            return
        before = (peer.current, peer.previous, peer.next)
        current = peer.current
        collision = current is not None and current.initiator and 0 <= current.created - keypair.created < AT_ONCE
        promoted = self.sessions.confirmed(keypair, lower=lower)
        after = (peer.current, peer.previous, peer.next)
        if role != "next":
            assert after == before
            assert not promoted
        elif lower and collision:
            assert after == (current, keypair, None)
            assert not promoted
        else:
            assert after == (keypair, current, None)
            assert promoted
            assert peer.initiated is None

    @rule(number=PEERS)
    def forget(self, number: int) -> None:
        peer = self.peers[number]
        self.sessions.forget(peer)
        assert peer.keypairs() == []
        assert peer.initiated is None

    @invariant()
    def the_table_holds_just_what_the_peers_hold(self) -> None:
        keypairs = [keypair for peer in self.peers for keypair in peer.keypairs()]
        handshakes = [peer.initiated.sender for peer in self.peers if peer.initiated]
        indices = [keypair.local_index for keypair in keypairs] + handshakes
        assert len(set(indices)) == len(indices) == len(self.sessions)
        for keypair in keypairs:
            assert self.sessions.keypair(keypair.local_index) is keypair
            assert self.sessions.owner(keypair.local_index) is keypair.peer


TestWalk = Walk.TestCase


def test_an_end_that_restarts_at_once_is_followed() -> None:
    """The other end answered our initiation, then lost its keys and began anew: no collision, whoever is lower."""
    sessions, peer = Sessions(random.Random(1).randbytes), Peer(b"k" * 32, bytes(32))
    first = sessions.completed(peer, KEYS, sessions.new_index(), 1, 100.0)
    second = sessions.answered(peer, KEYS, sessions.new_index(), 2, 100.2)
    assert sessions.confirmed(second, lower=True)
    assert (peer.current, peer.previous) == (second, first)
