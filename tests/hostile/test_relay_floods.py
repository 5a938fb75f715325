"""Floods at a relay's port: a node registers, binds a channel and passes trains meanwhile, and memory stays.

`EDGEMESH_FLOOD` is the number of datagrams of each kind, as in `test_engine_floods`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed, Space
from tests.tunnel.bed import PUBLIC

pytestmark = pytest.mark.bed

COUNT = int(os.environ.get("EDGEMESH_FLOOD", "20000"))
RATE = 20_000
"""Datagrams a second: more would fill the socket's buffer, where every sender loses alike."""
ENV = {"PYTHONPATH": str(Path(__file__).parents[2])}

STATION = (sys.executable, "-m", "tests.tunnel.relay.station")

PSS = "cat /proc/$(cat /run/relay.pid)/smaps_rollup"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Space, Space, Space]]:
    """A relay's host, and two that are joined to it by a switch."""
    with Bed() as bed:
        relay, *others = (bed.host(name) for name in ("relay", "one", "two"))
        relay.run(f"ip link add name lan type bridge; ip addr add {PUBLIC}/24 dev lan; ip link set lan up")
        for number, host in enumerate(others, 1):
            bed.link(relay, f"port{number}", host, "eth0")
            relay.run(f"ip link set port{number} master lan")
            host.run(f"ip addr add {PUBLIC.rsplit('.', 1)[0]}.{100 + number}/24 dev eth0")
        begin = 'echo $$ > /run/relay.pid; exec "$0" "$@"'
        command = ["sh", "-c", begin, sys.executable, "-m", "tests.tunnel.relay.serve"]
        process = relay.popen(command, env=ENV)
        assert process.stdout
        assert PUBLIC in process.stdout.readline()
        echo = others[0].popen([*STATION, "1", "2", PUBLIC, "4001", "echo"], env=ENV)
        assert echo.stdout
        assert echo.stdout.readline().startswith("up ")
        yield relay, others[0], others[1]


def memory(relay: Space) -> int:
    return int(relay.run(PSS).stdout.split("Pss:", 1)[1].split()[0])


@pytest.mark.parametrize("kind", ["greetings", "relaying", "stun", "channels", "noise"])
def test_a_node_comes_and_is_served_amid_a_flood(hosts: tuple[Space, Space, Space], kind: str) -> None:
    relay, one, two = hosts
    before = memory(relay)
    stranger = f"{PUBLIC.rsplit('.', 1)[0]}.200:4000"
    command = ["tests.hostile.flood", kind, str(COUNT), str(RATE), stranger, f"{PUBLIC}:20006"]
    sender = one.popen([sys.executable, "-m", *command], env=ENV)
    trains = two.run([*STATION, "2", "1", PUBLIC, "4002", "trains", "100", "14480", "60816"], env=ENV)
    assert trains.stdout.splitlines()[2:] == ["100 100 True", "14480 1448 True", "60816 1448 True"]
    assert sender.wait(timeout=60) == 0
    assert memory(relay) < before + 4096
