"""Contract with wireguard-go: handshakes begun by either end, a preshared key, a packet each way, cookies."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed, Space
from tunnel.wireguard.noise import PrivateKey

ROOT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
WIREGUARD_GO = CACHE / "edgemesh/go/bin/wireguard"
OURS, THEIRS, PRESHARED = b"o" * 32, b"t" * 32, b"p" * 32
PATIENCE = 15.0

TALK = """
import socket, sys
talk = socket.socket(socket.AF_UNIX)
talk.connect("/run/wireguard/wg0.sock")
talk.sendall(sys.stdin.buffer.read())
answer = b""
while not answer.endswith(b"\\n\\n"):
    answer += talk.recv(65536) or sys.exit("closed")
print(answer.decode())
"""

pytestmark = [
    pytest.mark.bed,
    pytest.mark.skipif(not WIREGUARD_GO.exists(), reason=f"{WIREGUARD_GO} is missing: run `make peers`"),
]


def wait(log: Path, line: str) -> None:
    end = time.monotonic() + PATIENCE
    while line not in log.read_text().splitlines():
        assert time.monotonic() < end, f"no {line!r} within {PATIENCE} s in:\n{log.read_text()}"
        time.sleep(0.02)


def uapi(host: Space, request: str) -> str:
    answer = host.run([sys.executable, "-c", TALK], input=request).stdout
    assert "errno=0" in answer, answer
    return answer


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Space, Space]]:
    """Ours and theirs, joined by a wire; wireguard-go runs and is configured."""
    with Bed() as bed:
        ours, theirs = bed.host("ours"), bed.host("theirs")
        bed.link(ours, "eth0", theirs, "eth0")
        ours.run("ip addr add 192.0.2.1/24 dev eth0")
        theirs.run("ip addr add 192.0.2.2/24 dev eth0")
        log = tmp_path / "wireguard-go.log"
        theirs.popen([str(WIREGUARD_GO), "-f", "wg0"], env={"WG_PROCESS_FOREGROUND": "1"}, log=log)
        end = time.monotonic() + PATIENCE
        while theirs.run("test -S /run/wireguard/wg0.sock", check=False).returncode:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        uapi(
            theirs,
            f"set=1\nprivate_key={THEIRS.hex()}\nlisten_port=51820\nreplace_peers=true\n"
            f"public_key={PrivateKey(OURS).public.hex()}\npreshared_key={PRESHARED.hex()}\n"
            "endpoint=192.0.2.1:51820\nallowed_ip=10.0.0.1/32\n\n",
        )
        theirs.run("ip addr add 10.0.0.2/24 dev wg0 && ip link set wg0 up")
        yield ours, theirs


def start(host: Space, tmp_path: Path, program: str, *, endpoint: bool, ping: bool = False) -> Path:
    """Run one of our programs; its output is in the file that comes back."""
    settings = {
        "private_key": OURS.hex(),
        "peer": PrivateKey(THEIRS).public.hex(),
        "preshared_key": PRESHARED.hex(),
        "address": "10.0.0.1",
        "peer_address": "10.0.0.2",
        "endpoint": ["192.0.2.2", 51820] if endpoint else None,
        "ping": ping,
    }
    file = tmp_path / "settings.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(settings))
    log = tmp_path / "ours.log"
    host.popen(
        [sys.executable, "-m", f"tests.tunnel.wireguard.{program}", str(file)], env={"PYTHONPATH": str(ROOT)}, log=log
    )
    return log


def test_we_begin(hosts: tuple[Space, Space], tmp_path: Path) -> None:
    ours, theirs = hosts
    log = start(ours, tmp_path, "socket_peer", endpoint=True, ping=True)
    wait(log, "session initiator")
    wait(log, "answered")
    theirs.run("ping -c 1 -W 5 10.0.0.1")
    wait(log, "asked")
    assert "last_handshake_time_sec=0\n" not in uapi(theirs, "get=1\n\n")


def test_they_begin_and_we_learn_where_they_are(hosts: tuple[Space, Space], tmp_path: Path) -> None:
    ours, theirs = hosts
    log = start(ours, tmp_path, "socket_peer", endpoint=False)
    wait(log, "listening")
    theirs.run("ping -c 1 -W 5 10.0.0.1")
    wait(log, "session responder")
    wait(log, "asked")
    assert "rejected" not in log.read_text()


def test_under_load_it_sends_a_cookie_and_takes_ours(hosts: tuple[Space, Space], tmp_path: Path) -> None:
    ours, _ = hosts
    log = start(ours, tmp_path, "socket_flood", endpoint=True)
    wait(log, "cookie")
    wait(log, "session")
