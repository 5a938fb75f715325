"""The mesh with real engines and a real relay: across two NATs, and on one link."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed
from tests.tunnel.mesh.site import Network, Node, neighbours, until

pytestmark = pytest.mark.bed


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Bed() as bed:
        yield Network(bed, tmp_path)


def answers(node: Node, address: str = "10.99.0.2") -> bool:
    return node.space.run(f"ping -c1 -W1 {address}", check=False).returncode == 0


def both(a: Node, b: Node, kind: str) -> bool:
    return a.kinds().get("b") == kind and b.kinds().get("a") == kind


def gap(log: Path, since: float) -> float:
    """The longest time without an answer in the log of `ping -D`, from then on."""
    lines = [line for line in log.read_text().splitlines() if "bytes from" in line]
    times = [float(line[1 : line.index("]")]) for line in lines]
    return max(b - a for a, b in itertools.pairwise([since, *(t for t in times if t > since), time.time()]))


def pinging(node: Node, directory: Path) -> Path:
    """Ping the other node all the time; the log, once there are answers."""
    log = directory / "ping"
    node.space.popen("ping -D -i 0.02 10.99.0.2", log=log)
    until(lambda: log.read_text().count("bytes from") > 25, 10, "answers through the tunnel")
    return log


def test_relayed_at_once_then_direct_and_back_within_a_second(network: Network, tmp_path: Path) -> None:
    a, b = network.a, network.b
    network.start_relay()
    for node in (a, b):
        node.start_engine()
        node.start_mesh()
    until(lambda: both(a, b, "direct"), 8, "direct")
    kinds = [told["paths"][0]["kind"] for told in a.told()]
    assert kinds.index("relayed") < kinds.index("direct")
    log = pinging(a, tmp_path)
    for router, what in ((0, ""), (1, "udp sport 40001"), (0, "udp sport 40002")):
        broken = time.time()
        network.break_direct(router, what)
        until(lambda: both(a, b, "relayed"), 2, f"on the relay after a break ({what or 'both ways'})")
        network.heal()
        until(lambda: both(a, b, "direct"), 10, "direct again")
        assert gap(log, broken) < 1.2


def test_the_direct_path_outlives_the_relay_and_the_tunnel_an_engine(network: Network, tmp_path: Path) -> None:
    a, b = network.a, network.b
    network.start_relay()
    for node in (a, b):
        node.start_engine()
        node.start_mesh()
    until(lambda: both(a, b, "direct"), 8, "direct")
    log = pinging(a, tmp_path)
    assert network.relay
    assert b.engine
    dead = time.time()
    network.relay.kill()
    time.sleep(2)
    assert both(a, b, "direct")
    assert gap(log, dead) < 0.5
    dead = time.time()
    b.engine.kill()
    time.sleep(1)
    b.start_engine()
    time.sleep(3)
    assert gap(log, dead) < 3
    assert answers(a)


def test_neighbours_are_direct_without_relay(tmp_path: Path) -> None:
    with Bed() as bed:
        a, b = neighbours(bed, tmp_path)
        for node in (a, b):
            node.start_engine()
            node.start_mesh()
        until(lambda: both(a, b, "lan"), 5, "direct in the LAN")
        until(lambda: answers(a), 3, "an answer")
