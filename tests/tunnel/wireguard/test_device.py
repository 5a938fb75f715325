"""The device's rules, one at a time, mostly on a network that loses nothing."""

import random
from ipaddress import ip_network

import pytest

from tests.tunnel.wireguard.network import Network, Node, pair
from tunnel.endpoint import COOKIE_REPLY, DATA, INITIATION, RESPONSE, Endpoint
from tunnel.wireguard.device import EVENTS, OUTBOX, Device, Refused
from tunnel.wireguard.handshakes import INITIATION_INTERVAL
from tunnel.wireguard.limiter import LOAD_BURST
from tunnel.wireguard.noise import PrivateKey
from tunnel.wireguard.timers import REKEY_TIMEOUT

ELSEWHERE = Endpoint("198.51.100.7", 4000)


def up(network: Network, **options: int) -> tuple[Node, Node]:
    """Two nodes with a session that both ends use."""
    a, b = pair(network, **options)
    a.send(b, b"first")
    network.run(1.0)
    assert b.got == [b"first"]
    return a, b


def test_a_packet_starts_a_handshake_and_goes_after_it() -> None:
    network = Network(1)
    a, b = up(network)
    b.send(a, b"back")
    network.run(1.0)
    assert a.got == [b"back"]
    assert len(a.ready) == len(b.ready) == 1
    assert a.ready[0].initiator
    assert not b.ready[0].initiator
    assert a.device.dropped == b.device.dropped == 0
    assert a.device.peers[b.key].last_handshake == pytest.approx(1_700_001_000, abs=1)


def test_a_responder_does_not_seal_before_the_initiator_was_heard() -> None:
    network = Network(1)
    a, b = pair(network)
    b.device.update(b.device.peers[a.key], network.now, endpoint=a.endpoint)
    a.device.initiate(a.device.peers[b.key], network.now)
    _, initiation = a.device.outbox.popleft()
    b.device.receive(initiation, a.endpoint, network.now)
    peer = b.device.peers[a.key]
    assert peer.next is not None
    assert peer.sending(network.now) is None
    assert list(b.device.events) == []


def test_counters_count_all_bytes_of_the_protocol() -> None:
    network = Network(1)
    a, b = up(network)
    there, back = a.device.peers[b.key], b.device.peers[a.key]
    # initiation, response, keepalive, data of 20 + 5 bytes
    assert there.tx_bytes == back.rx_bytes == 148 + 32 + 57
    assert there.rx_bytes == back.tx_bytes == 92


# keys


def test_our_own_key_and_bad_keys_are_no_peers() -> None:
    device = Device(random.Random(1).randbytes, lambda: 0.0)
    device.set_private_key(b"k" * 32, 0.0)
    assert device.public_key is not None
    with pytest.raises(Refused, match="own"):
        device.add(device.public_key)
    with pytest.raises(Refused, match="31 bytes"):
        device.add(bytes(31))
    with pytest.raises(Refused, match="low order"):
        device.add(bytes(32))
    assert device.peers == {}


def test_a_peer_that_has_our_new_key_goes() -> None:
    device = Device(random.Random(1).randbytes, lambda: 0.0)
    peer = device.add(PrivateKey(b"k" * 32).public)
    device.allow(peer, [ip_network("10.0.0.0/8")])
    device.set_private_key(b"k" * 32, 0.0)
    assert device.peers == {}
    assert device.route(bytes([10, 0, 0, 1])) is None


def test_a_new_private_key_ends_sessions_and_the_same_one_does_not() -> None:
    network = Network(1)
    a, b = up(network)
    peer = a.device.peers[b.key]
    session = peer.current
    assert session is not None
    a.device.set_private_key(network.random.randbytes(32), network.now)
    assert peer.keypairs() == []
    assert a.device.keypair(session.local_index) is None
    # b must learn the new key; then all goes on
    b.know(a)
    a.send(b, b"again")
    network.run(1.0)
    assert b.got == [b"first", b"again"]


def test_peers_kept_alive_get_a_handshake_with_the_new_key_at_once() -> None:
    network = Network(1)
    a, b = up(network, keepalive=25)
    private = network.random.randbytes(32)
    a.device.set_private_key(private, network.now)
    b.know(a)
    a.flush()
    network.run(1.0)
    assert a.device.peers[b.key].sending(network.now)
    a.device.set_private_key(private, network.now)
    assert a.device.peers[b.key].sending(network.now)


def test_without_private_key_nothing_is_sent_or_taken() -> None:
    network = Network(1)
    a, b = pair(network)
    a.device.set_private_key(None, network.now)
    peer = a.device.peers[b.key]
    a.device.initiate(peer, network.now)
    assert not a.device.outbox
    a.deliver(bytes([INITIATION]).ljust(148, b"\0"), b.endpoint)
    assert a.device.dropped == 1
    a.device.set_private_key(b"k" * 32, network.now)
    assert len(a.device.outbox) == 1  # it was wanted


def test_a_wrong_preshared_key_makes_no_session_and_the_right_one_does() -> None:
    network = Network(1)
    a, b = pair(network)
    a.device.update(a.device.peers[b.key], network.now, preshared_key=b"p" * 32)
    a.send(b, b"secret")
    network.run(3.0)
    assert b.got == []
    b.device.update(b.device.peers[a.key], network.now, preshared_key=b"p" * 32)
    network.run(6.0)
    assert b.got == [b"secret"]


def test_a_removed_peer_takes_its_sessions_along() -> None:
    network = Network(1)
    a, b = up(network)
    peer = a.device.peers[b.key]
    session = peer.current
    assert session is not None
    indices = [keypair.local_index for keypair in peer.keypairs()]
    a.device.initiate(peer, network.now + 10)
    a.device.remove(b.key)
    assert all(a.device.keypair(index) is None for index in indices)
    assert len(a.device._sessions) == 0
    assert a.device.route(b.address) is None
    # whoever still holds the peer can't bring it back
    a.device.outbox.clear()
    a.device.initiate(peer, network.now + 20)
    a.device.keepalive(peer, network.now + 20)
    assert not a.device.outbox
    assert a.device.deadline() is None
    # nor can a message that was being opened meanwhile
    a.device.confirm(session, ELSEWHERE, network.now + 20)
    assert not a.device.events
    # and its packets are nobody's
    b.send(a, b"ghost")
    network.run(1.0)
    assert a.got == []


# replay, strangers, floods


def test_replayed_initiations_are_dropped() -> None:
    network = Network(1)
    a, b = up(network)
    initiation = next(datagram for _, _, datagram in network.captured if datagram[0] == INITIATION)
    session = b.device.peers[a.key].current
    network.run(10.0)
    for source in (a.endpoint, ELSEWHERE):
        b.deliver(initiation, source)
    assert b.device.dropped == 2
    assert b.device.peers[a.key].current is session
    assert b.device.peers[a.key].endpoint == a.endpoint


def test_replayed_data_and_responses_are_dropped() -> None:
    network = Network(1)
    a, b = up(network)
    for source, destination, datagram in list(network.captured):
        if datagram[0] == DATA:
            network.nodes[destination].deliver(datagram, source)
        if datagram[0] == RESPONSE:
            a.deliver(datagram, source)
    assert b.got == [b"first"]
    assert b.refused == 2
    assert a.device.dropped == 1


def test_strangers_are_dropped() -> None:
    network = Network(1)
    a, b = Node(network, 1), Node(network, 2)
    a.know(b)
    a.send(b, b"let me in")
    network.run(1.0)
    assert b.device.dropped == 1
    assert b.sent_at == []
    assert len(b.device._sessions) == 0


def test_a_peer_may_not_send_from_anothers_address() -> None:
    network = Network(1)
    a, b = up(network)
    c = Node(network, 3)
    b.know(c)
    c.know(b)
    a.address = c.address
    a.send(b, b"I am c")
    network.run(1.0)
    assert b.got == [b"first"]
    assert b.refused == 1


def test_initiations_of_a_peer_are_taken_at_most_every_20_ms() -> None:
    network = Network(1)
    a, b = pair(network)
    peer = a.device.peers[b.key]
    taken = 0
    for number in range(10):
        peer.handshake_sent = float("-inf")
        a.device.initiate(peer, network.now)
        _, initiation = a.device.outbox.pop()
        before = b.device.dropped
        b.device.receive(initiation, a.endpoint, network.now + number * INITIATION_INTERVAL / 4)
        taken += b.device.dropped == before
    assert taken == 3


def test_under_load_cookies_are_asked_for_and_the_handshake_succeeds() -> None:
    network = Network(1)
    a, b = pair(network)
    crowd = [Node(network, number) for number in range(3, 8)]
    for node in crowd:
        node.know(b)

    def press() -> None:
        """Strangers who know b's key: well-formed, and too many."""
        for node in crowd:
            peer = node.device.peers[b.key]
            for _ in range(int(LOAD_BURST) // 4):
                peer.handshake_sent = float("-inf")
                node.device.initiate(peer, network.now)
                while node.device.outbox:
                    b.device.receive(node.device.outbox.popleft()[1], node.endpoint, network.now)
        b.device.outbox.clear()
        network.at(0.2, press)

    press()
    assert b.device.under_load(network.now)
    a.send(b, b"through")
    network.run(2.0)
    assert b.got == []  # the first initiation was answered by a cookie
    assert any(datagram[0] == 3 and to == a.endpoint for _, to, datagram in network.captured)
    network.run(REKEY_TIMEOUT)
    assert b.got == [b"through"]


def test_garbage_neither_raises_nor_stays() -> None:
    network = Network(1)
    a, b = up(network)
    before = len(b.device._sessions), b.device.peers[a.key].endpoint
    chance = random.Random(5)
    samples = [datagram for _, _, datagram in network.captured]
    for number in range(100_000):
        if number % 4:
            head = bytes([chance.randrange(6), 0, 0, 0])[: chance.randrange(5)]
            datagram = head + chance.randbytes(chance.randrange(160))
        else:
            changed = bytearray(chance.choice(samples))
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            datagram = bytes(changed[: chance.choice([len(changed), chance.randrange(len(changed))])])
        b.device.receive(datagram, ELSEWHERE, network.now)
    assert (len(b.device._sessions), b.device.peers[a.key].endpoint) == before
    assert b.device.dropped == 100_000
    assert not b.device.events
    # those changed only in mac2 still have a right mac1: too many of them, and they are asked for a cookie
    assert len(b.device.outbox) <= OUTBOX
    assert all(datagram[0] == COOKIE_REPLY and to == ELSEWHERE for to, datagram in b.device.outbox)
    a.send(b, b"still here")
    network.run(1.0)
    assert b.got == [b"first", b"still here"]


def test_outbox_and_events_are_capped() -> None:
    network = Network(1)
    a, b = pair(network)
    peer = a.device.peers[b.key]
    for _ in range(OUTBOX + 10):
        peer.handshake_sent = float("-inf")
        a.device.outbox.append((ELSEWHERE, b""))
    a.device.initiate(peer, network.now)
    assert len(a.device.outbox) == OUTBOX
    assert a.device.outbox[-1][0] == b.endpoint
    assert a.device.events.maxlen == EVENTS


def test_a_device_that_restarts_at_once_is_heard_by_all_its_peers() -> None:
    """However many handshakes it began in the moment before."""
    network = Network(1)
    others = [Node(network, number) for number in range(2, 102)]
    private = network.random.randbytes(32)
    for _ in range(2):
        device = Node(network, 1)
        device.device.set_private_key(private, network.now)
        for other in others:
            other.know(device, endpoint=False)
            device.know(other, keepalive=25)
        network.run(0.3)
        assert len(device.ready) == len(others)


# endpoints


def test_a_peer_without_endpoint_is_found_when_it_calls() -> None:
    network = Network(1)
    a, b = Node(network, 1), Node(network, 2)
    a.know(b)
    b.know(a, endpoint=False)
    b.send(a, b"too early")
    network.run(1.0)
    assert b.sent_at == []
    a.send(b, b"hello")
    network.run(1.0)
    assert b.device.peers[a.key].endpoint == a.endpoint
    assert (b.got, a.got) == ([b"hello"], [b"too early"])


def test_a_handshake_that_was_wanted_starts_when_the_endpoint_comes() -> None:
    network = Network(1)
    a, b = Node(network, 1), Node(network, 2)
    peer = a.know(b, endpoint=False)
    b.know(a, endpoint=False)
    a.send(b, b"where are you")
    network.run(30.0)
    assert a.sent_at == []
    a.device.update(peer, network.now, endpoint=b.endpoint)
    a.flush()
    network.run(1.0)
    assert b.got == [b"where are you"]


def test_an_endpoint_that_moves_amid_a_handshake_starts_it_anew_at_once() -> None:
    network = Network(1)
    a, b = pair(network)
    peer = a.device.peers[b.key]
    a.device.update(peer, network.now, endpoint=ELSEWHERE)
    a.send(b, b"lost at first")
    network.run(0.5)
    a.device.update(peer, network.now, endpoint=b.endpoint)
    a.flush()
    network.run(0.5)
    assert b.got == [b"lost at first"]


@pytest.mark.parametrize("moved", [ELSEWHERE, Endpoint("192.0.2.1", 51820, 9)])
def test_roaming_follows_data_also_between_channels(moved: Endpoint) -> None:
    network = Network(1)
    a, b = up(network)
    a.move(moved)
    a.send(b, b"from elsewhere")
    network.run(1.0)
    assert b.device.peers[a.key].endpoint == moved
    b.send(a, b"I see")
    network.run(1.0)
    assert a.got == [b"I see"]


def test_forged_data_moves_nothing() -> None:
    network = Network(1)
    a, b = up(network)
    sealed = next(datagram for _, to, datagram in network.captured if datagram[0] == DATA and to == b.endpoint)
    b.deliver(sealed[:-1] + bytes([sealed[-1] ^ 1]), ELSEWHERE)
    b.deliver(sealed, ELSEWHERE)  # a replay
    assert b.device.peers[a.key].endpoint == a.endpoint


def test_a_pinned_endpoint_stays_and_the_session_with_it() -> None:
    network = Network(1)
    a, b = up(network)
    home = a.endpoint
    peer = b.device.peers[a.key]
    b.device.update(peer, network.now, pinned=True)
    a.move(ELSEWHERE)
    a.send(b, b"from elsewhere")
    network.run(1.0)
    assert b.got == [b"first", b"from elsewhere"]
    assert peer.endpoint == home
    b.device.update(peer, network.now, pinned=False)
    a.send(b, b"and again")
    network.run(1.0)
    assert peer.endpoint == ELSEWHERE


def test_a_handshake_from_elsewhere_is_answered_there_and_where_the_peer_is_pinned() -> None:
    network = Network(1)
    a, b = pair(network)
    b.device.update(b.device.peers[a.key], network.now, pinned=True)
    home = a.endpoint
    a.move(ELSEWHERE)
    a.send(b, b"hello")
    network.run(1.0)
    assert b.got == [b"hello"]
    assert {to for _, to, datagram in network.captured if datagram[0] == RESPONSE} == {home, ELSEWHERE}
    assert b.device.peers[a.key].endpoint == home


# collisions


@pytest.mark.parametrize("seed", range(8))
def test_when_both_begin_at_once_both_have_a_session_within_a_round_trip(seed: int) -> None:
    network = Network(seed, delay=0.05)
    a, b = pair(network)
    a.send(b, b"ping")
    b.send(a, b"pong")
    network.run(1.0)
    assert (a.got, b.got) == ([b"pong"], [b"ping"])
    for number in range(5):
        a.send(b, b"a%d" % number)
        b.send(a, b"b%d" % number)
        network.run(1.0)
    assert len(a.got) == len(b.got) == 6
    assert a.refused == b.refused == 0
    # and they agree on one session; the one that the lower key began, where both came about
    ours, theirs = a.device.peers[b.key].current, b.device.peers[a.key].current
    assert ours is not None
    assert theirs is not None
    assert (ours.local_index, ours.remote_index) == (theirs.remote_index, theirs.local_index)
    if a.ready[0].initiator and b.ready[0].initiator:
        assert ours.initiator == (a.key < b.key)


def test_an_answer_to_an_older_initiation_is_dropped() -> None:
    network = Network(1)
    a, b = pair(network)
    peer = a.device.peers[b.key]
    a.device.initiate(peer, network.now)
    _, first = a.device.outbox.popleft()
    a.device.initiate(peer, network.now + 6)
    b.device.receive(first, a.endpoint, network.now)
    _, response = b.device.outbox.popleft()
    a.device.receive(response, b.endpoint, network.now + 6)
    assert a.device.dropped == 1
    assert peer.current is None
