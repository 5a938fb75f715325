"""One TCP stream from pod to pod, over a direct tunnel through two NAT routers: our engine against wireguard-go.

    pod --- node --- router --- router --- node --- pod

Engines are set up by wg(8), without agents; the routers forward the tunnel's port. Four ways to carry it: our frames
with each cipher, our engine with single packets only, wireguard-go; and again with loss on the way, where the links
between the nodes also cut all trains (gso_max_segs 1), as real network cards would. Beside them the raw figure from
node to node through the same routers. Runs alternate; a figure is the median of its runs.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from bench.report import Cell, Report, at_least, machine
from e2e.lab.namespaces import Bed, BedError, Space
from e2e.lab.routers import Weather, cut_segments

DEVICE = "edgemesh-wg"
PORT = 51820
LOSS = 0.005
ROUNDS = 3
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent.parent)}
START_TIMEOUT = 5.0

LINKS = (
    ("pod1", "eth0", "node1", "pod"),
    ("node1", "eth0", "router1", "lan"),
    ("router1", "wan", "router2", "wan"),
    ("router2", "lan", "node2", "eth0"),
    ("node2", "pod", "pod2", "eth0"),
)

NAT = """
table ip nat {
  chain post { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
  chain pre {
    type nat hook prerouting priority dstnat
    iifname "wan" udp dport 51820 dnat to 192.168.%(side)d.2
    iifname "wan" tcp dport 5201 dnat to 192.168.%(side)d.2
  }
}
"""

ASK = f"""
import socket, sys
with socket.socket(socket.AF_UNIX) as ask:
    ask.connect("/run/wireguard/{DEVICE}.sock")
    ask.sendall(sys.argv[1].encode() + b"\\n\\n")
    said = b""
    while not said.endswith(b"\\n\\n"):
        said += ask.recv(65536)
    print(said.decode(), end="")
"""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to carry the stream: `engine` is ours, wireguard-go or none; `setting` a line for our control socket."""

    name: str
    engine: str = "ours"
    setting: str = ""


RAW = Way("no tunnel", "none")
AES = Way("frames, AES-256-GCM", setting="ciphers=aes-256-gcm")
CHACHA = Way("frames, ChaCha20-Poly1305", setting="ciphers=chacha20-poly1305")
PACKETS = Way("single packets", setting="framing=packets")
GO = Way("wireguard-go", "wireguard-go")


class Course:
    """A bed with its hosts, and an engine on each node."""

    def __init__(self, bed: Bed, way: Way, lossy: bool) -> None:
        self.way = way
        self.lossy = lossy
        self.hosts = {name: bed.host(name) for name in ("pod1", "node1", "router1", "router2", "node2", "pod2")}
        for left, left_device, right, right_device in LINKS:
            bed.link(self.hosts[left], left_device, self.hosts[right], right_device)
        for side in (1, 2):
            self._route(side)
        if lossy:
            self._lose()
        if way.engine != "none":
            self._join()

    def _route(self, side: int) -> None:
        pod, node, router = (self.hosts[f"{name}{side}"] for name in ("pod", "node", "router"))
        for host, device, address in (
            (pod, "eth0", f"10.244.{side}.2/24"),
            (node, "pod", f"10.244.{side}.1/24"),
            (node, "eth0", f"192.168.{side}.2/24"),
            (router, "lan", f"192.168.{side}.1/24"),
            (router, "wan", f"198.18.0.{side}/24"),
        ):
            host.run(["ip", "addr", "add", address, "dev", device])
        pod.run(["ip", "route", "add", "default", "via", f"10.244.{side}.1"])
        node.run(["ip", "route", "add", "default", "via", f"192.168.{side}.1"])
        pod.run(["ip", "link", "set", "eth0", "mtu", "1420"])
        node.run(["ip", "link", "set", "pod", "mtu", "1420"])
        for host in (node, router):
            host.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        router.run(["nft", "-f", "-"], input=NAT % {"side": side})

    def _lose(self) -> None:
        for left, left_device, right, right_device in LINKS[1:-1]:
            cut_segments(self.hosts[left], left_device)
            cut_segments(self.hosts[right], right_device)
        Weather(self.hosts["router1"]).lose(LOSS)  # which every datagram goes through once

    def _join(self) -> None:
        nodes = [self.hosts["node1"], self.hosts["node2"]]
        private = [node.run(["wg", "genkey"]).stdout.strip() for node in nodes]
        public = [nodes[0].run(["wg", "pubkey"], input=key).stdout.strip() for key in private]
        for node in nodes:
            self._start(node)
        for side, node in enumerate(nodes, 1):
            other = 3 - side
            args = ["private-key", "/dev/stdin", "listen-port", str(PORT), "peer", public[other - 1]]
            args += ["allowed-ips", f"10.244.{other}.0/24", "endpoint", f"198.18.0.{other}:{PORT}"]
            node.run(["wg", "set", DEVICE, *args, "persistent-keepalive", "25"], input=private[side - 1])
            node.run(["ip", "link", "set", DEVICE, "up", "mtu", "1420"])
            node.run(["ip", "route", "add", f"10.244.{other}.0/24", "dev", DEVICE])
        self.hosts["pod1"].run(["ping", "-c", "10", "-i", "0.1", "-W", "1", "10.244.2.2"])

    def _start(self, node: Space) -> None:
        if self.way.engine == "ours":
            node.popen([sys.executable, "-m", "tunnel.engine.engine"], env=ENVIRONMENT)
        else:
            peer = peers.find("wireguard")
            assert peer is not None
            node.run(["mkdir", "-p", "/run/wireguard"])
            node.popen([str(peer.path), "-f", DEVICE], env=peer.env)
        end = time.monotonic() + START_TIMEOUT
        while node.run(["wg", "show", DEVICE], check=False).returncode:
            if time.monotonic() > end:
                raise BedError(f"{self.way.engine} did not start on {node.name}")
            time.sleep(0.05)
        if self.way.setting:
            said = node.run([sys.executable, "-c", ASK, f"set=1\n{self.way.setting}"]).stdout
            if said != "errno=0\n\n":
                raise BedError(f"{self.way.setting} on {node.name}: {said.strip()}")

    def run(self, seconds: float) -> tuple[float, int]:
        """One stream; gives Mbit/s received and segments sent again."""
        raw = self.way.engine == "none"
        client, server, address = ("node1", "node2", "198.18.0.2") if raw else ("pod1", "pod2", "10.244.2.2")
        listening = self.hosts[server].popen(["iperf3", "-s", "-1"])
        end = time.monotonic() + START_TIMEOUT
        while ":5201" not in self.hosts[server].run(["ss", "-ltn"]).stdout and time.monotonic() < end:
            time.sleep(0.05)
        said = self.hosts[client].run(["iperf3", "-J", "-c", address, "-t", str(seconds)], timeout=seconds + 20).stdout
        listening.communicate(timeout=10)
        sums = json.loads(said)["end"]
        return sums["sum_received"]["bits_per_second"] / 1e6, sums["sum_sent"]["retransmits"]

    @property
    def framing(self) -> str:
        """What the sending engine says that it sends."""
        if self.way.engine != "ours":
            return ""
        said = self.hosts["node1"].run([sys.executable, "-c", ASK, "get=1"]).stdout
        return [line for line in said.splitlines() if line.startswith("framing=")][-1].partition("=")[2]


def measure(quick: bool, say: Callable[[str], None]) -> Report:
    """Run all ways, without loss and with it."""
    seconds, rounds = (2.0, 1) if quick else (6.0, ROUNDS)
    go = [GO] if peers.find("wireguard") else []
    if not go:
        say("wireguard-go is missing: make peers")
    plan = [(way, False) for way in (RAW, AES, CHACHA, PACKETS, *go)]
    plan += [(way, True) for way in (RAW, AES, PACKETS, *go)]
    found: dict[tuple[Way, bool], list[tuple[float, int]]] = {key: [] for key in plan}
    framing: dict[tuple[Way, bool], str] = {}
    with contextlib.ExitStack() as stack:
        say("building the beds")
        courses = [Course(stack.enter_context(Bed()), way, lossy) for way, lossy in plan]
        for number in range(rounds):
            for course in courses if number % 2 == 0 else reversed(courses):
                key = (course.way, course.lossy)
                found[key].append(course.run(seconds))
                framing[key] = course.framing
                loss = " with loss" if course.lossy else ""
                say(f"round {number + 1}, {course.way.name}{loss}: {found[key][-1][0]:,.0f} Mbit/s")
    figure = {key: statistics.median(rate for rate, _ in runs) for key, runs in found.items()}
    rows: list[dict[str, Cell]] = [
        {
            "way": way.name,
            "loss": f"{LOSS:.1%}" if lossy else "none",
            "Mbit/s": round(figure[way, lossy]),
            "sent again": round(statistics.median(again for _, again in found[way, lossy])),
            "framing": framing[way, lossy],
        }
        for way, lossy in plan
    ]

    def ratio(way: Way, other: Way, lossy: bool) -> float | None:
        mine, theirs = figure[way, lossy], figure.get((other, lossy))
        return round(mine / theirs, 2) if theirs else None

    targets = (
        at_least("one stream, ChaCha20-Poly1305, against wireguard-go", ratio(CHACHA, GO, False), 1.3, " x"),
        at_least("one stream, AES-256-GCM, against wireguard-go", ratio(AES, GO, False), 1.6, " x"),
        at_least("one stream with loss, against single packets", ratio(AES, PACKETS, True), 1.0, " x"),
        at_least("one stream with loss, against wireguard-go", ratio(AES, GO, True), 1.0, " x"),
    )
    return Report("tunnel", machine(), rows, targets)
