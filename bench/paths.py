"""Calls between two sites behind NAT: how fast, how soon after a start or a change, and what a broken path costs.

On the demo's topology, pod to pod by cluster IP unless said, the way through the same routers without the mesh in
turn with it. First the direct path, then it is dropped amid downloads and calls go on over the relay, then nodes are
started from nothing, and last one endpoint is moved among 1,000 services.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import starts
from bench.report import Cell, Report, Target, at_least, at_most, machine
from bench.sites import (
    HTTP_PORT,
    IPERF_PORT,
    NAMESPACE,
    ORDERS,
    SERVICES,
    UDP_PORT,
    WORD_PORT,
    Place,
    Sites,
    answering,
    endpoints,
    manifest,
    many,
    service,
    sites,
    wait,
)
from e2e.lab.caller import Caller
from e2e.lab.namespaces import BedError
from e2e.lab.topology import CLOUD

SIZE = 4 << 20
IN_FLIGHT = 16
DATAGRAM = 100
MOVES_QUICK, MOVES = 9, 21
ENDLESS = 1 << 40
PATTERN_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How often and how long."""

    rounds: int
    downloads: int
    requests: int
    seconds: float
    starts: int
    moves: int


QUICK = Figures(rounds=3, downloads=5, requests=300, seconds=0.7, starts=1, moves=MOVES_QUICK)
FULL = Figures(rounds=5, downloads=15, requests=2000, seconds=3.0, starts=5, moves=MOVES)


class Run:
    """The rows and targets as they come about."""

    def __init__(self, built: Sites, figures: Figures, say: Callable[[str], None]) -> None:
        self.sites = built
        self.figures = figures
        self.say = say
        self.rows: list[dict[str, Cell]] = []
        self.targets: list[Target] = []
        self.orders = built.pod_of("orders", "shop")
        self.outer = built.outer(self.orders)

    def row(self, what: str, here: float, raw: float | None = None, peer: float | None = None) -> None:
        """A figure, what the routers give without the mesh, and EdgeMesh 1.17's (measured on another day)."""
        self.rows.append({"what": what, "here": round(here, 1), "raw": raw and round(raw, 1), "EdgeMesh": peer})
        self.say(f"{what}: {here:,.1f}" + (f"; the routers alone {raw:,.1f}" if raw else ""))

    def median(self, what: str, name: str, port: int, rounds: int = 0, **how: object) -> tuple[float, float]:
        """Median of a measurement of `call.py`, through the mesh and without it."""
        places = self._places(name, port)
        ours, raw = self.sites.call(what, places, rounds or self.figures.rounds, **how)
        return statistics.median(ours), statistics.median(raw)

    def _places(self, name: str, port: int) -> list[Place]:
        address = self.sites.address(name)
        if not address:
            raise BedError(f"{name} has no address")
        return [(address, port), (self.outer, port)]

    # across the two NATs

    def direct(self) -> None:
        """On the direct path."""
        figures = self.figures
        load = {"path": f"/bytes/{SIZE}", "size": SIZE}
        ours, raw = self.median("download", ORDERS, HTTP_PORT, figures.downloads, **load)
        self.row("direct: 4 MiB by HTTP, ms", ours, raw, 73)
        self.targets.append(at_most("direct: 4 MiB by HTTP", round(ours, 1), 12, " ms"))
        ours, raw = self.median("keep_alive", ORDERS, HTTP_PORT, count=figures.requests)
        self.row("direct: HTTP keep-alive, p50, µs", ours, raw, 483)
        self.targets.append(at_most("direct: HTTP keep-alive, p50", round(ours), 350, " µs"))
        self.connections()
        name = "echo-udp.shop.svc.cluster.local"
        ours, raw = self.median("ping", name, UDP_PORT, size=DATAGRAM, count=figures.requests)
        self.row("direct: UDP 100 B there and back, p50, µs", ours, raw, 417)
        self.targets.append(at_most("direct: UDP 100 B there and back, p50", round(ours), 250, " µs"))
        self.row("direct: iperf3, Gbit/s", *self.iperf())

    def connections(self) -> None:
        """New connections, from a pod that has made none before, with the ports and the reuse that clients have."""
        fresh = self.sites.run_pod(manifest("fresh", "b1", ["sleep", "infinity"]))
        assert fresh.space
        fresh.space.run("sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=1")
        places = self._places(f"answer.{NAMESPACE}.svc.cluster.local", WORD_PORT)
        how = {"seconds": self.figures.seconds, "in_flight": IN_FLIGHT, "reset": False}
        ours, raw = self.sites.call("connections", places, self.figures.rounds, fresh, **how)
        errors = sum(failed for _, failed in ours)
        rate = statistics.median(rate for rate, _ in ours)
        self.row("direct: new connections/s", rate, statistics.median(rate for rate, _ in raw), 826)
        self.row("direct: new connections that failed", errors, sum(failed for _, failed in raw))
        self.targets.append(at_least("direct: new connections", round(rate), 3500, "/s"))
        self.targets.append(at_most("direct: new connections that failed", errors, 0))

    def iperf(self) -> tuple[float, float]:
        """Gbit/s of one stream of iperf3, through the mesh and without it."""
        found: dict[str, list[float]] = {}
        client = self.sites.pod_of("call").space
        assert client
        for number in range(self.figures.rounds):
            for address, port in self._places(f"iperf.{NAMESPACE}.svc.cluster.local", IPERF_PORT)[:: 1 - number % 2 * 2]:
                command = ["iperf3", "-J", "-c", address, "-p", str(port), "-t", str(max(1, round(self.figures.seconds)))]
                said = json.loads(client.run(command).stdout)
                found.setdefault(address, []).append(said["end"]["sum_received"]["bits_per_second"] / 1e9)
        raw = found.pop(self.outer)
        return statistics.median(*found.values()), statistics.median(raw)

    def relayed(self) -> None:
        """The same over the relay; the direct path is dropped."""
        ours, raw = self.median(
            "download", ORDERS, HTTP_PORT, self.figures.downloads, path=f"/bytes/{SIZE}", size=SIZE
        )
        self.row("relayed: 4 MiB by HTTP, ms", ours, raw, 73)
        self.targets.append(at_most("relayed: 4 MiB by HTTP", round(ours, 1), 25, " ms"))
        ours, raw = self.iperf()
        self.row("relayed: iperf3, Gbit/s", ours, raw, 0.52)
        self.targets.append(at_least("relayed: iperf3", round(ours, 2), 2, " Gbit/s"))
