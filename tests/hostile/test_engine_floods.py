"""Floods at an engine's port: what is served goes on being served, memory stays, and a new peer still gets in.

`EDGEMESH_FLOOD` is the number of datagrams of each kind, 20,000 by default; a million take some minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tunnel.engine.bed import DEVICE, ROOT, End, two_ends, wait_for

pytestmark = pytest.mark.bed

COUNT = int(os.environ.get("EDGEMESH_FLOOD", "20000"))
STRANGER = "10.9.0.99:4000"
PEER = "10.9.0.2:51820"
KINDS = (
    "short",
    "noise",
    "frames",
    "parts",
    "data",
    "initiations",
    "responses",
    "cookies",
    "stun",
    "probes",
    "channels",
)

INDICES = """
import socket
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800)) as sniffer:
    sniffer.bind(("e0", 0))
    sniffer.settimeout(5)
    print("ready", flush=True)
    while True:
        packet = sniffer.recv(65536)[42:]
        if packet[:1] in (b"\\4", b"\\5"):
            print(int.from_bytes(packet[4:8], "little"))
            break
"""
"""Prints the receiver index of the first data that comes by, as whoever sits on the way would see it."""


def flood(end: End, kind: str, count: int, rate: int, source: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.hostile.flood", kind, str(count), str(rate), source, "10.9.0.1:51820"]
    return end.space.popen([*command, *more], env={"PYTHONPATH": ROOT})


def lost(end: End, address: str, count: int = 5, interval: str = "0.05") -> int:
    """How many of some pings get no answer."""
    said = end.space.run(["ping", "-c", str(count), "-i", interval, "-W", "1", "-q", address], check=False).stdout
    return count - int(said.split(" received")[0].rsplit(" ", 1)[1])


def joined(left: End, right: End) -> bool:
    return lost(right, f"10.8.0.{left.number}", count=1) == 0


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[End, End, str]]:
    with two_ends(tmp_path_factory.mktemp("flood")) as (_, left, right):
        for end, other in ((left, right), (right, left)):
            end.start()
            end.meet(other)
            end.address()
        sniffer = right.space.popen([sys.executable, "-c", INDICES])
        assert sniffer.stdout
        assert sniffer.stdout.readline() == "ready\n"
        wait_for(lambda: joined(left, right), "no tunnel before the flood")
        index = sniffer.stdout.readline().strip()
        sniffer.wait()
        yield left, right, index


@pytest.mark.parametrize(
    ("source", "kind"),
    [*((PEER, kind) for kind in KINDS), *((STRANGER, kind) for kind in ("noise", "parts", "initiations"))],
)
def test_a_flood_stops_nothing(ends: tuple[End, End, str], source: str, kind: str) -> None:
    left, right, index = ends
    pid, before = left.pid, left.memory()
    sender = flood(right, kind, COUNT, 0, source, left.key(), index)
    answered = 0
    while sender.poll() is None:
        answered += 5 - lost(right, "10.8.0.1")
    assert sender.stdout
    assert sender.stderr
    assert sender.wait() == 0, sender.stderr.read()
    assert int(sender.stdout.read()) > 0
    assert answered > 0, "the tunnel stood still during the flood"
    wait_for(lambda: joined(left, right), "the tunnel did not come back", 3)
    assert left.pid == pid
    assert left.memory() < before + 4096


def test_a_new_session_begins_amid_a_flood_of_initiations(ends: tuple[End, End, str], tmp_path: Path) -> None:
    left, right, index = ends
    sender = flood(right, "initiations", 10_000_000, 40_000, STRANGER, left.key(), index)
    try:
        wait_for(lambda: joined(left, right), "no tunnel in the flood", 5)
        right.end("KILL")
        right.start()
        right.meet(left, "persistent-keepalive", "25")
        wait_for(lambda: joined(left, right), "no new session within the flood", 30)
        assert sender.poll() is None
        # its timers and its control socket are not forgotten over the flood
        assert left.wg("show", DEVICE).returncode == 0
    finally:
        sender.kill()
        sender.wait()
