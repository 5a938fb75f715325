"""One TCP stream from pod to pod, over a direct tunnel across the demo's two sites: our engine against wireguard-go.

    pod --- b1 --- router-b --- internet --- router-a --- a1 --- pod

The topology is the demo's, with its port-restricted routers as they are. Engines stand on b1 and a1, set up by wg(8)
without agents: each has the outer address of the other's router, and the two open the routers to each other, which
keep the port. Four ways to carry the stream: our frames with each cipher, our engine with single packets only,
wireguard-go; and again with loss on the way, where all devices between the nodes also cut all trains (gso_max_segs 1),
as real network cards would. Beside them the raw figure from pod to pod through the same routers.

Each way has a bed of its own, so that none finds what TCP or an engine has learnt from another; those who don't run
are idle. Runs alternate; a figure is the median of its runs.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench import peers
from bench.control import ask
from bench.forward import forward
from bench.report import Cell, Report, at_least, machine
from bench.sites import IPERF_PORT, manifest, wait
from e2e.lab.namespaces import Bed
from e2e.lab.routers import LAN, WAN, Nat, cut_segments
from e2e.lab.runtime import MTU
from e2e.lab.topology import DEVICE, WAN_ADDRESS, Node, Topology, program
from e2e.lab.workloads import Directory, Workloads

PORT = 51820
LOSS = 0.005
ROUNDS = 3
QUICK, FULL = 1, 6
"""Seconds a run."""
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to carry the stream: `engine` is ours, wireguard-go or none; `setting` a line for our control socket."""

    name: str
    engine: str = "ours"
    setting: str = ""
    framing: str = ""
    """What our engine must say that it sends before a run; it begins so."""


RAW = Way("no tunnel", "none")
AES = Way("frames, AES-256-GCM", setting="ciphers=aes-256-gcm", framing="segments/aes-256-gcm")
CHACHA = Way("frames, ChaCha20-Poly1305", setting="ciphers=chacha20-poly1305", framing="segments/chacha20-poly1305")
PACKETS = Way("single packets", setting="framing=packets", framing="packets")
GO = Way("wireguard-go", "wireguard-go")


class Course:
    """The demo's topology in a bed of its own, with an engine on b1 and on a1, or none."""

    def __init__(self, bed: Bed, folder: Path, way: Way, lossy: bool) -> None:
        self.way = way
        self.lossy = lossy
        self.topology = Topology(bed, folder, Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED)
        self.client, self.server = (self.topology.nodes[name] for name in ("b1", "a1"))
        workloads = Workloads(self.topology, Directory(self.topology, folder / "cluster"))
        pods = folder / "pods.yaml"
        serve = manifest("iperf", self.server.name, ["iperf3", "-s"], [IPERF_PORT])
        pods.write_text(yaml.safe_dump_all([manifest("call", self.client.name, ["sleep", "infinity"]), serve]))
        self.caller, self.called = workloads.apply([pods])
        if lossy:
            self._lose()
        if way.engine == "none":
            forward(self.topology, self.client, {("tcp", IPERF_PORT): (self.called, IPERF_PORT)})
            self.address = WAN_ADDRESS[self.server.place.zone]
        else:
            self.address = self.called.address
            self._join()

    def _lose(self) -> None:
        """Loss in the internet, where all pass once, and no trains on any device between the nodes."""
        for node in (self.client, self.server):
            zone = node.place.zone
            cut_segments(node.space, "eth0")
            cut_segments(self.topology.internet, zone)
            for device in (f"port-{node.name}", LAN, WAN):
                cut_segments(self.topology.routers[zone], device)
        self.topology.weather.lose(LOSS)

    def _join(self) -> None:
        nodes = (self.client, self.server)
        for node in nodes:
            self._start(node)
        keys = [node.space.run(["wg", "genkey"]).stdout for node in nodes]
        for here, there in ((0, 1), (1, 0)):
            self._set_up(nodes[here], keys[here], nodes[there], keys[there])
        wait(f"{self.way.name}: a datagram there and back", self._reaches, PATIENCE)
        wait(f"{self.way.name}: {self.way.framing}", lambda: self.framing.startswith(self.way.framing), PATIENCE)

    @staticmethod
    def _set_up(node: Node, key: str, other: Node, other_key: str) -> None:
        """Give a node's engine its key, and the other node as its peer, at the outer address of its router."""
        peer = node.space.run(["wg", "pubkey"], input=other_key).stdout.strip()
        args = ["private-key", "/dev/stdin", "listen-port", str(PORT), "peer", peer]
        args += ["allowed-ips", other.place.pod_range, "endpoint", f"{WAN_ADDRESS[other.place.zone]}:{PORT}"]
        node.space.run(["wg", "set", DEVICE, *args, "persistent-keepalive", "25"], input=key)
        node.space.run(["ip", "link", "set", DEVICE, "up", "mtu", str(MTU)])
        node.space.run(["ip", "route", "add", other.place.pod_range, "dev", DEVICE])

    def _start(self, node: Node) -> None:
        ours = self.way.engine == "ours"
        peer = None if ours else peers.find("wireguard")
        node.start("engine", [str(peer.path), "-f", DEVICE] if peer else program("engine"))
        show = ["wg", "show", DEVICE]
        wait(f"{self.way.name} on {node.name}", lambda: not node.space.run(show, check=False).returncode, PATIENCE)
        if self.way.setting:
            ask(node, f"set=1\n{self.way.setting}")

    def _reaches(self) -> bool:
        return not self.caller.space.run(["ping", "-c", "1", "-W", "0.2", self.address], check=False).returncode

    def run(self, seconds: int) -> tuple[float, int]:
        """One stream; gives Mbit/s received and segments sent again."""
        command = ["iperf3", "-J", "-c", self.address, "-p", str(IPERF_PORT), "-t", str(seconds)]
        sums = json.loads(self.caller.space.run(command, timeout=seconds + 20).stdout)["end"]
        return sums["sum_received"]["bits_per_second"] / 1e6, sums["sum_sent"]["retransmits"]

    @property
    def framing(self) -> str:
        """What the sending engine, if it is ours, says that it sends."""
        if self.way.engine != "ours":
            return ""
        return [value for key, value in ask(self.client, "get=1") if key == "framing"][-1]


def measure(quick: bool, say: Callable[[str], None]) -> Report:
    """Run all ways, without loss and with it."""
    seconds = QUICK if quick else FULL
    go = [GO] if peers.find("wireguard") else []
    if not go:
        say("wireguard-go is missing: make peers")
    plan = [(way, False) for way in (RAW, AES, CHACHA, PACKETS, *go)]
    plan += [(way, True) for way in (RAW, AES, PACKETS, *go)]
    found: dict[tuple[Way, bool], list[tuple[float, int]]] = {key: [] for key in plan}
    framing: dict[tuple[Way, bool], str] = {}
    with contextlib.ExitStack() as stack:
        say("building the beds")
        courses = [_course(stack, way, lossy) for way, lossy in plan]
        for number in range(ROUNDS):
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


def _course(stack: contextlib.ExitStack, way: Way, lossy: bool) -> Course:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgemesh-bench-"))
    return Course(stack.enter_context(Bed()), Path(folder), way, lossy)
