"""Two and more devices on a bad network, by seed: what must hold whatever is lost, late or doubled."""

import pytest

from tests.tunnel.wireguard.network import Network, Node, pair
from tunnel.endpoint import Endpoint


@pytest.mark.parametrize("seed", range(12))
def test_data_flows_through_a_bad_network(seed: int) -> None:
    network = Network(seed, loss=0.2, duplication=0.1, delay=0.05)
    a, b = pair(network)
    wanted: dict[Node, list[bytes]] = {a: [], b: []}
    for number in range(1500):
        sender, receiver = (a, b) if network.random.random() < 0.5 else (b, a)
        body = b"%d" % number
        wanted[receiver].append(body)
        sender.send(receiver, body)
        network.run(network.random.uniform(0.0, 0.6))
    network.run(20.0)
    for node in (a, b):
        assert len(node.got) == len(set(node.got)), "a packet came twice"
        assert set(node.got) <= set(wanted[node])
        assert len(node.got) > 0.7 * len(wanted[node])
        assert len(node.device._sessions) <= 4
    assert a.failed == b.failed == 0
    # some eight minutes: rekeyed, and more than the first handshake
    assert len(a.ready) + len(b.ready) >= 6


@pytest.mark.parametrize("seed", range(12))
def test_a_handshake_always_completes_in_the_end(seed: int) -> None:
    network = Network(seed, loss=0.5, duplication=0.3, delay=0.3)
    a, b = pair(network)
    for _ in range(30):
        a.send(b, b"knock")
        network.run(5.0)
        if b.got:
            break
    assert b"knock" in b.got
    assert a.device.peers[b.key].sending(network.now)


@pytest.mark.parametrize("seed", range(6))
def test_both_sides_busy_for_an_hour_lose_nothing_but_what_the_network_loses(seed: int) -> None:
    network = Network(seed, delay=0.1)
    a, b = pair(network)
    sent = 0
    for _ in range(3600):
        a.send(b, b"x")
        b.send(a, b"y")
        sent += 1
        network.run(1.0)
    network.run(1.0)
    assert len(a.got) == len(b.got) == sent
    assert a.refused == b.refused == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_partition_heals(seed: int) -> None:
    network = Network(seed, delay=0.02)
    a, b = pair(network, keepalive=25)
    network.run(5.0)
    network.loss = 1.0
    for _ in range(300):
        a.send(b, b"lost")
        network.run(1.0)
    network.loss = 0.0
    for _ in range(30):
        a.send(b, b"found")
        b.send(a, b"found")
        network.run(1.0)
    assert b.got.count(b"found") >= 20
    assert a.got.count(b"found") >= 20


def test_everyone_with_everyone() -> None:
    network = Network(7, loss=0.05, delay=0.02)
    nodes = [Node(network, number) for number in range(1, 9)]
    for node in nodes:
        for other in nodes:
            if node is not other:
                node.know(other, keepalive=25)
    network.run(20.0)
    for node in nodes:
        for other in nodes:
            if node is not other:
                assert node.device.peers[other.key].sending(network.now)


@pytest.mark.parametrize("seed", range(4))
def test_an_attacker_who_sees_and_repeats_everything_changes_nothing(seed: int) -> None:
    network = Network(seed, delay=0.02)
    a, b = pair(network)
    attacker = Endpoint("203.0.113.66", 6666)
    sent = 0
    for number in range(400):
        a.send(b, b"%d" % number)
        sent += 1
        network.run(1.0)
        for _ in range(3):
            _, destination, datagram = network.random.choice(network.captured)
            if network.random.random() < 0.5:
                changed = bytearray(datagram)
                changed[network.random.randrange(len(changed))] ^= 1 << network.random.randrange(8)
                datagram = bytes(changed)
            network.nodes[destination].deliver(datagram, attacker)
    assert b.got == [b"%d" % number for number in range(sent)]
    assert a.device.peers[b.key].endpoint == b.endpoint
    assert b.device.peers[a.key].endpoint == a.endpoint
    assert len(a.ready) <= 5
