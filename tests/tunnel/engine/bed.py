"""Two hosts on a wire with an engine each: ours, or wireguard-go; set up with the real wg(8)."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed, Space

DEVICE = "edgemesh-wg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgemesh"
WIREGUARD_GO = CACHE / "go" / "bin" / "wireguard"
ROOT = str(Path(__file__).parents[3])

ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as ask:
    ask.connect("/run/wireguard/edgemesh-wg.sock")
    ask.sendall(sys.argv[1].encode() + b"\\n\\n")
    said = b""
    while not said.endswith(b"\\n\\n"):
        said += ask.recv(65536)
    print(said.decode(), end="")
"""


def wait_for(what: Callable[[], bool], why: str, seconds: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.02)


class End:
    """A host with an engine. Tunnel address 10.8.0.`number`, wire 10.9.0.`number`."""

    def __init__(self, space: Space, number: int, log: Path, options: tuple[str, ...] = ()) -> None:
        self.space = space
        self.number = number
        self.log = log
        self.options = options
        self.private = space.run(["wg", "genkey"]).stdout.strip()
        self.public = space.run(["wg", "pubkey"], input=self.private).stdout.strip()
        self.engine: subprocess.Popen[str] | None = None

    def start(self, kind: str = "ours") -> None:
        """Start an engine and wait until `wg` can speak with it."""
        if kind == "ours":
            begin = 'echo $$ > /run/engine.pid; exec "$0" "$@"'
            command = ["sh", "-c", begin, sys.executable, "-m", "tunnel.engine.engine", *self.options]
            self.engine = self.space.popen(command, env={"PYTHONPATH": ROOT}, log=self.log)
        else:
            if not WIREGUARD_GO.exists():
                pytest.skip(f"{WIREGUARD_GO} is missing: make peers")
            self.space.run(["mkdir", "-p", "/run/wireguard"])
            self.engine = self.space.popen([str(WIREGUARD_GO), "-f", DEVICE], log=self.log)
        wait_for(lambda: self.wg("show", DEVICE, check=False).returncode == 0, self.log.read_text())

    def wg(self, *args: str, check: bool = True, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run wg(8)."""
        return self.space.run(["wg", *args], check=check, input=input)

    def ask(self, request: str) -> dict[str, str]:
        """Speak with the control socket; gives the answer's lines, the last of each key."""
        said = self.space.run([sys.executable, "-c", ASK, request]).stdout
        return dict(line.split("=", 1) for line in said.splitlines() if line)

    def meet(self, other: End, *more: str, endpoint: str | None = None) -> None:
        """Set key, port and the other as the peer, and give the device its address."""
        at = endpoint or f"10.9.0.{other.number}:51820"
        args = ["private-key", "/dev/stdin", "listen-port", "51820", "peer", other.public]
        args += ["allowed-ips", f"10.8.0.{other.number}/32,fd00::{other.number}/128", "endpoint", at, *more]
        self.wg("set", DEVICE, *args, input=self.private)

    def address(self) -> None:
        """Give the device its addresses."""
        for line in (
            f"addr add 10.8.0.{self.number}/24 dev {DEVICE}",
            f"addr add fd00::{self.number}/64 dev {DEVICE} nodad",
            f"link set {DEVICE} up mtu 1420",
        ):
            self.space.run(["ip", *line.split()])

    def key(self) -> str:
        """The public key as the control socket has it."""
        return base64.b64decode(self.public).hex()

    @property
    def pid(self) -> int:
        """The engine's number in the host's PID namespace."""
        return int(self.space.run(["cat", "/run/engine.pid"]).stdout)

    def end(self, how: str) -> int:
        """Send the engine a signal and wait until it is gone; gives its exit status."""
        assert self.engine is not None
        self.space.run(["kill", f"-{how}", str(self.pid)])
        return self.engine.wait(timeout=5)

    def memory(self) -> int:
        """The engine's proportional set size, in kB."""
        text = self.space.run(["cat", f"/proc/{self.pid}/smaps_rollup"]).stdout
        return int(text.split("Pss:", 1)[1].split()[0])


@contextlib.contextmanager
def two_ends(tmp_path: Path, *options: str) -> Iterator[tuple[Bed, End, End]]:
    """Two hosts joined by a wire, no engine started yet."""
    with Bed() as bed:
        ends = []
        for number in (1, 2):
            space = bed.host(f"n{number}")
            ends.append(End(space, number, tmp_path / f"engine-{number}.log", options))
        bed.link(ends[0].space, "e0", ends[1].space, "e0")
        for end in ends:
            end.space.run(f"ip addr add 10.9.0.{end.number}/24 dev e0")
        yield bed, ends[0], ends[1]


SERVE = """
import socket, sys
listener = socket.create_server(("::", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
left = int(sys.argv[1])
chunk = bytes(range(256)) * 256
while True:
    connection, _ = listener.accept()
    at = 0
    while at < left:
        connection.sendall(chunk[: left - at])
        at += len(chunk)
    connection.close()
"""

FETCH = """
import hashlib, socket, sys, time
began = time.monotonic()
digest, length, gap, last = hashlib.sha256(), 0, 0.0, began
with socket.create_connection((sys.argv[1], 9000), timeout=20) as connection:
    connection.settimeout(20)
    while data := connection.recv(1 << 20):
        now = time.monotonic()
        gap, last = max(gap, now - last), now
        digest.update(data)
        length += len(data)
        if len(sys.argv) > 2:
            time.sleep(float(sys.argv[2]))
print(length, digest.hexdigest(), gap)
"""
