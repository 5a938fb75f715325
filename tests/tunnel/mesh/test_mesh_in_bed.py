"""The mesh with real engines and a real relay across two NATs."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed
from tests.tunnel.mesh.site import Network, Node, until

pytestmark = pytest.mark.bed


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Bed() as bed:
        yield Network(bed, tmp_path)


def answers(node: Node, address: str = "10.99.0.2") -> bool:
    return node.space.run(f"ping -c1 -W1 {address}", check=False).returncode == 0


def both(network: Network, kind: str) -> bool:
    return network.a.kinds().get("b") == kind and network.b.kinds().get("a") == kind


def gap(log: str) -> float:
    """The longest time between two answers of `ping -D`."""
    times = [float(line[1 : line.index("]")]) for line in log.splitlines() if "bytes from" in line]
    return max(b - a for a, b in itertools.pairwise(times))


def test_relayed_then_direct_then_back_and_direct_again(network: Network, tmp_path: Path) -> None:
    network.start_relay()
    for node in (network.a, network.b):
        node.start_engine()
        node.start_mesh()
    with contextlib.suppress(AssertionError):
        until(lambda: both(network, "direct"), 8, "direct")
    print((tmp_path / "a.mesh").read_text()[-1500:], (tmp_path / "a.engine").read_text())
    assert both(network, "direct")
    until(lambda: answers(network.a), 3, "an answer")
    log = tmp_path / "ping"
    network.a.space.popen("ping -D -i 0.02 10.99.0.2", log=log)
    until(lambda: log.read_text().count("bytes from") > 100, 10, "answers")
    for router, what in ((0, ""), (1, "udp sport 40001"), (0, "udp sport 40002")):
        network.break_direct(router, what)
        print(until(lambda: both(network, "relayed"), 1.5, "back on the relay"))
        network.heal()
        print(until(lambda: both(network, "direct"), 8, "direct again"))
    print("gap", gap(log.read_text()))
    assert gap(log.read_text()) < 1.1
