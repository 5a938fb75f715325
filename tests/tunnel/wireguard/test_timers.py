"""Timers on virtual time: when each fires, what stops it, and how rarely an idle device wakes."""

from itertools import pairwise

import pytest

from tests.tunnel.wireguard.network import Network, Node, pair
from tunnel.endpoint import DATA, INITIATION, Endpoint
from tunnel.wireguard.keypair import REJECT_AFTER_TIME, REKEY_AFTER_TIME, RENEW_WHEN_RECEIVING
from tunnel.wireguard.timers import (
    DUE,
    FORGET_AFTER,
    JITTER,
    KEEPALIVE_TIMEOUT,
    MAX_ATTEMPTS,
    REKEY_TIMEOUT,
    Timer,
)

NOWHERE = Endpoint("198.51.100.7", 4000)


def up(network: Network, **options: int) -> tuple[Node, Node]:
    a, b = pair(network, **options)
    a.send(b, b"first")
    network.run(1.0)
    assert b.got == [b"first"]
    return a, b


def silence(node: Node) -> None:
    """From now on, nothing reaches the node."""
    del node.network.nodes[node.endpoint]


def test_each_timer_has_a_due_time() -> None:
    assert set(DUE) == set(Timer)


def test_retry_every_five_seconds_with_jitter_for_ninety() -> None:
    network = Network(2)
    a, b = pair(network)
    silence(b)
    a.send(b, b"anybody there")
    network.run(300.0)
    times = a.sent(INITIATION)
    assert len(times) == MAX_ATTEMPTS + 1 == 19
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(REKEY_TIMEOUT <= pause <= REKEY_TIMEOUT + JITTER for pause in pauses)
    assert len({round(pause, 4) for pause in pauses}) > 10
    assert a.failed == 1
    assert not a.staged[a.device.peers[b.key]]
    # nothing is left, in the end not even what the attempts left behind
    network.run(FORGET_AFTER)
    assert a.device.deadline() is None
    assert len(a.device._sessions) == 0


def test_every_initiation_is_a_new_one() -> None:
    network = Network(2)
    a, b = pair(network)
    silence(b)
    a.send(b, b"anybody there")
    network.run(300.0)
    messages = [datagram for _, datagram in a.sent_at]
    assert len({message[4:8] for message in messages}) == len(messages)
    assert len({message[8:40] for message in messages}) == len(messages)


def test_a_responder_whose_initiator_is_lost_begins_itself() -> None:
    """A packet is held while the session waits to be confirmed, and what would confirm it never comes."""
    network = Network(2)
    a, b = pair(network)
    a.device.initiate(a.device.peers[b.key], network.now)
    _, initiation = a.device.outbox.popleft()
    b.deliver(initiation, Endpoint("198.51.100.7", 4000))
    b.device.update(b.device.peers[a.key], network.now, endpoint=a.endpoint)
    b.send(a, b"held")
    assert b.sent(INITIATION) == []
    network.run(REKEY_TIMEOUT + 1.0)
    assert len(b.sent(INITIATION)) == 1
    assert a.got == [b"held"]


def test_a_session_that_should_be_renewed_asks_for_it_once_in_five_seconds() -> None:
    network = Network(2)
    a, b = up(network)
    network.run(REKEY_AFTER_TIME)
    peer = a.device.peers[b.key]
    session = peer.sending(network.now)
    assert session is not None
    peer.handshake_sent = network.now - 1.0  # as after a response
    asked = [a.device.sent(peer, session, 100, True, network.now)]
    a.device.initiate(peer, network.now)
    asked += [a.device.sent(peer, session, 100, True, network.now + second) for second in (0.0, 1.0, 3.9, 4.1)]
    assert asked == [True, False, False, False, True]
    assert not a.device.outbox


def test_passive_keepalive_ten_seconds_after_data_without_answer() -> None:
    network = Network(2)
    a, b = up(network)
    network.run(60.0)
    a.sent_at.clear()
    b.sent_at.clear()
    a.keepalives = 0
    start = network.now
    a.send(b, b"to be acknowledged")
    network.run(60.0)
    assert a.keepalives == 1
    assert len(b.sent_at) == 1
    assert start + KEEPALIVE_TIMEOUT < b.sent_at[0][0] < start + KEEPALIVE_TIMEOUT + 0.1
    assert len(a.sent_at) == 1  # a keepalive is not acknowledged


def test_data_in_time_is_the_acknowledgement() -> None:
    network = Network(2)
    a, b = up(network)
    network.run(60.0)
    b.sent_at.clear()
    a.send(b, b"question")
    network.run(9.0)
    b.send(a, b"answer")
    network.run(9.0)
    assert len(b.sent_at) == 1
    assert b.sent(DATA)


def test_fifteen_seconds_of_silence_after_data_start_a_handshake() -> None:
    network = Network(2)
    a, b = up(network)
    network.run(30.0)
    silence(b)
    a.sent_at.clear()
    start = network.now
    for _ in range(20):
        a.send(b, b"hello?")
        network.run(1.0)
    first = a.sent(INITIATION)[0]
    limit = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
    assert start + limit <= first <= start + limit + JITTER + 0.01


def test_persistent_keepalive_is_sent_at_once_and_then_after_each_silence() -> None:
    network = Network(2)
    a, b = Node(network, 1), Node(network, 2)
    b.know(a, endpoint=False)
    a.know(b, keepalive=25)
    assert a.sent(INITIATION) == [network.now]
    network.run(1.0)
    assert len(b.ready) == 1
    a.sent_at.clear()
    start = network.now
    network.run(100.0)
    assert [round(when - start) for when, _ in a.sent_at] == [24, 49, 74, 99]
    assert b.keepalives == 5


def test_traffic_either_way_puts_a_persistent_keepalive_off() -> None:
    network = Network(2)
    a, b = up(network, keepalive=25)
    network.run(10.0)
    a.sent_at.clear()
    for _ in range(10):
        b.send(a, b"data")
        network.run(9.0)
        a.send(b, b"data")
        network.run(1.0)
    assert len(a.sent(DATA)) == len(a.sent_at) == 10


def test_a_dead_peer_that_is_kept_alive_is_called_for_ever() -> None:
    network = Network(2)
    a, b = pair(network)
    silence(b)
    a.device.update(a.device.peers[b.key], network.now, keepalive=25)
    a.flush()
    network.run(1000.0)
    late = [when for when in a.sent(INITIATION) if when > network.now - 100]
    assert 15 <= len(late) <= 20


@pytest.mark.parametrize("keepalive", [1, 3, 25])
def test_a_responder_that_is_not_confirmed_does_not_spin(keepalive: int) -> None:
    network = Network(2)
    a, b = pair(network)
    a.device.initiate(a.device.peers[b.key], network.now)
    _, initiation = a.device.outbox.popleft()
    silence(a)
    b.device.update(b.device.peers[a.key], network.now, keepalive=keepalive)
    b.flush()
    b.deliver(initiation, a.endpoint)
    network.run(100.0)
    assert b.ticks <= 100 / keepalive + 100 / REKEY_TIMEOUT + 30


def test_the_initiator_renews_when_it_sends_after_two_minutes_and_no_packet_is_lost() -> None:
    network = Network(2)
    a, b = up(network)
    began = a.ready[0].created
    sent = 1
    for _ in range(3000):
        a.send(b, b"a")
        b.send(a, b"b")
        sent += 1
        network.run(0.1)
    network.run(1.0)
    assert len(b.got) == sent
    assert len(a.got) == sent - 1
    assert a.refused == b.refused == 0
    renewals = [keypair.created for keypair in a.ready[1:]]
    assert len(renewals) == 2
    assert began + REKEY_AFTER_TIME <= renewals[0] <= began + REKEY_AFTER_TIME + 0.3
    assert all(keypair.initiator for keypair in a.ready)
    assert not any(keypair.initiator for keypair in b.ready)


def test_an_initiator_that_only_receives_renews_before_the_session_ends() -> None:
    network = Network(2)
    a, b = up(network)
    began = a.ready[0].created
    for _ in range(400):
        b.send(a, b"b")
        network.run(0.5)
    # keepalives that a sends are messages sent, so that it is they that renew, at 120 s
    assert began + REKEY_AFTER_TIME <= a.ready[1].created <= began + REKEY_AFTER_TIME + KEEPALIVE_TIMEOUT + 0.1
    assert len(a.got) == 400
    assert a.refused == 0


def test_a_message_received_late_in_a_session_renews_it() -> None:
    network = Network(2)
    a, b = up(network)
    began = a.ready[0].created
    network.run(RENEW_WHEN_RECEIVING + 1 - (network.now - began))
    a.sent_at.clear()
    b.send(a, b"late")
    network.run(0.1)
    assert a.got == [b"late"]
    assert len(a.sent(INITIATION)) == 1
    network.run(1.0)
    assert len(a.ready) == 2


def test_a_session_is_not_used_beyond_its_time() -> None:
    network = Network(2)
    a, b = up(network)
    network.run(REJECT_AFTER_TIME)
    assert a.device.peers[b.key].sending(network.now) is None
    b.send(a, b"from the old responder")
    network.run(1.0)
    assert a.got == [b"from the old responder"]
    assert b.ready[-1].initiator


def test_keys_are_forgotten_nine_minutes_after_the_last_session() -> None:
    network = Network(2)
    a, b = up(network)
    network.run(FORGET_AFTER - 10)
    assert a.device.peers[b.key].keypairs()
    network.run(20.0)
    for node, other in ((a, b), (b, a)):
        assert node.device.peers[other.key].keypairs() == []
        assert len(node.device._sessions) == 0
        assert node.device.deadline() is None
    a.send(b, b"again")
    network.run(1.0)
    assert b.got == [b"first", b"again"]


def test_a_peer_that_forgot_us_is_called_again() -> None:
    """Restart of the other end: its sessions are gone, ours still stand."""
    network = Network(2)
    a, b = up(network)
    network.run(20.0)
    reborn = Node(network, 2)
    reborn.device.set_private_key(b"z" * 32, network.now)
    a.know(reborn)
    a.send(reborn, b"hello")
    network.run(1.0)
    reborn.know(a, keepalive=25)
    network.run(1.0)
    a.send(reborn, b"there you are")
    network.run(1.0)
    assert b"there you are" in reborn.got
    assert b.got == [b"first"]


def test_idle_devices_rarely_wake() -> None:
    network = Network(2)
    hub = Node(network, 1)
    others = [Node(network, number) for number in range(2, 22)]
    for other in others:
        hub.know(other, keepalive=25)
        other.know(hub, keepalive=25)
    network.run(60.0)
    before = hub.ticks
    network.run(600.0)
    # 20 peers: a keepalive each 25 s, a handshake each two minutes, and one common look every 5 to 10 s
    assert hub.ticks - before < 600 * (20 / 25 + 2 * 20 / 120 + 1 / 5)
    lonely = Node(network, 30)
    network.run(600.0)
    assert lonely.ticks == 0
    assert lonely.device.deadline() is None


def test_tick_may_come_at_any_time() -> None:
    network = Network(2)
    a, b = up(network)
    for _ in range(200):
        a.device.tick(network.now)
        b.device.tick(network.now)
        network.run(0.05)
    assert not a.device.outbox
    assert len(a.sent_at) == 3  # initiation, keepalive, data
