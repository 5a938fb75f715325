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
from typing import Any

from bench import starts
from bench.moves import moves
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
    service,
    sites,
    wait,
)
from e2e.lab.namespaces import BedError
from e2e.lab.topology import CLOUD

SIZE = 4 << 20
IN_FLIGHT = 16
DATAGRAM = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """How often and how long."""

    rounds: int
    downloads: int
    requests: int
    seconds: float
    """Of a row of connections."""
    stream: tuple[str, str]
    """How long iperf3 sends."""
    drops: int
    amid: float
    """Seconds into a download when its path is dropped."""
    slow: int
    fast: int
    """Bytes of these downloads, of which much is yet to come then."""
    starts: int
    down: float
    """Seconds that a node's processes are away: longer than the others take to notice."""
    moves: int


QUICK = Figures(
    rounds=3,
    downloads=5,
    requests=300,
    seconds=0.5,
    stream=("-n", "192M"),
    drops=3,
    amid=0.4,
    slow=1 << 20,
    fast=384 << 20,
    starts=3,
    down=1.0,
    moves=5,
)
FULL = Figures(
    rounds=5,
    downloads=15,
    requests=2000,
    seconds=3.0,
    stream=("-t", "3"),
    drops=3,
    amid=0.7,
    slow=3 << 20,
    fast=768 << 20,
    starts=5,
    down=2.0,
    moves=31,
)
"""Every figure is the median of three or more either way."""


class Run:
    """The rows and targets as they come about."""

    def __init__(self, built: Sites, quick: bool, say: Callable[[str], None], *, manifests: bool) -> None:
        self.sites = built
        self.manifests = manifests
        self.quick = quick
        self.figures = QUICK if quick else FULL
        self.say = say
        self.rows: list[dict[str, Cell]] = []
        self.targets: list[Target] = []
        self.orders = built.pod_of("orders", "shop")
        self.outer = built.outer(self.orders)

    def row(self, what: str, here: float, raw: float | None = None, peer: float | None = None) -> None:
        """A figure, what the routers give without the mesh, and EdgeMesh 1.17's (measured on another day)."""
        self.rows.append({"what": what, "here": round(here, 1), "raw": raw and round(raw, 1), "EdgeMesh": peer})
        self.say(f"{what}: {here:,.1f}" + (f"; the routers alone {raw:,.1f}" if raw else ""))

    def median(self, what: str, name: str, port: int, rounds: int = 0, **how: Any) -> tuple[float, float]:
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
        if not self.quick:
            self.row("direct: iperf3, Gbit/s", *self.iperf())

    def connections(self) -> None:
        """New connections, from a pod that has made none before, with the ports and the reuse that clients have."""
        fresh = self.sites.run_pod(manifest("fresh", "b1", ["sleep", "infinity"]))
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
            places = self._places(f"iperf.{NAMESPACE}.svc.cluster.local", IPERF_PORT)
            for address, port in places[:: 1 - number % 2 * 2]:
                command = ["iperf3", "-J", "-c", address, "-p", str(port), *self.figures.stream]
                said = json.loads(client.run(command).stdout)
                found.setdefault(address, []).append(said["end"]["sum_received"]["bits_per_second"] / 1e9)
        raw = found.pop(self.outer)
        return statistics.median(*found.values()), statistics.median(raw)

    def relayed(self) -> None:
        """The same over the relay; the direct path is dropped."""
        ours, raw = self.median("download", ORDERS, HTTP_PORT, self.figures.downloads, path=f"/bytes/{SIZE}", size=SIZE)
        self.row("relayed: 4 MiB by HTTP, ms", ours, raw, 73)
        self.targets.append(at_most("relayed: 4 MiB by HTTP", round(ours, 1), 25, " ms"))
        ours, raw = self.iperf()
        self.row("relayed: iperf3, Gbit/s", ours, raw, 0.52)
        self.targets.append(at_least("relayed: iperf3", round(ours, 2), 2, " Gbit/s"))

    # when things break

    def dropped(self, what: str, path: str, size: int) -> tuple[float, float, int]:
        """Drop the direct path silently, both ways, amid a download, and leave it so: ms, ms, bytes."""
        place = self._places(ORDERS, HTTP_PORT)[0]
        relay = self.sites.topology.outer_address(CLOUD.name)
        a1, b1 = self.orders.node.name, "b1"

        def over_relay() -> bool:
            return all(self.sites.endpoint(*way).startswith(relay) for way in ((a1, b1), (b1, a1)))

        with self.sites.telling(
            "watch", self.sites.pod_of("call"), place=place, path=f"{path}/{size}", size=size
        ) as told:
            time.sleep(self.figures.amid)
            began = time.monotonic()
            self.sites.drop_direct()
            relayed = (wait("the path is relayed", over_relay, 10) - began) * 1e3
            said = told()
        if not said:
            raise BedError(f"the download of {path} does not end")
        if said["ended"] < began:
            raise BedError(f"the download of {path} was over before the path was dropped")
        self.say(f"dropped amid {what}: relayed after {relayed:.0f} ms, longest gap {said['gap']:.0f} ms")
        return relayed, said["gap"], said["lost"]

    def drops(self) -> None:
        """Amid a slow and amid a fast download; the path stays dropped at the end."""
        kinds = (
            ("a download at 1 MiB/s", "/slow", self.figures.slow),
            ("a download at full speed", "/bytes", self.figures.fast),
        )
        worst: list[tuple[float, float]] = []
        lost = 0
        for what, path, size in kinds:
            found = []
            for _ in range(self.figures.drops):
                self.sites.open_direct()
                found.append(self.dropped(what, path, size))
            relayed, gap = (statistics.median(each[index] for each in found) for index in (0, 1))
            lost += sum(each[2] for each in found)
            self.row(f"direct path dropped amid {what}: on the relay after, ms", relayed)
            self.row(f"direct path dropped amid {what}: longest gap between two reads, ms", gap)
            worst.append((relayed, gap))
        self.row("direct path dropped: bytes lost", lost)
        relayed, gap = (max(each[index] for each in worst) for index in (0, 1))
        self.targets.append(at_most("direct path dropped: on the relay after", round(relayed), 1000, " ms"))
        self.targets.append(at_most("direct path dropped: longest gap between two reads", round(gap), 2000, " ms"))
        self.targets.append(at_most("direct path dropped: bytes lost", lost, 0))

    # starts

    def start(self) -> None:
        """From nothing, at site B, at both sites, and in the LAN with the cloud gone."""
        server = self.orders.node.name
        self.sites.open_direct()
        warm = self.times("peer up", lambda: self._start("b1", call="call"))
        cold = self.times("both cold", lambda: self._start("b1", server, call="call"))
        self.sites.topology.cut_off(CLOUD.name)
        neighbour = "a2" if server == "a1" else "a1"
        lan = self.times("LAN, cloud gone", lambda: self._start(neighbour, call=f"call-{neighbour}"))
        self.sites.topology.plug_in(CLOUD.name)
        for what, found, peer, bound in (
            ("first call, peer up", warm, 460, 400),
            ("first call, both cold", cold, 60_000, 1000),
            ("first call in the LAN, relay down", lan, 60_000, 1000),
        ):
            self.row(f"exec to the first answer to a name; {what}, ms", _median(found, "named"))
            called = _median(found, "called")
            self.row(f"exec to the {what}, ms", called, peer=peer)
            self.targets.append(at_most(f"exec to the {what}", round(called), bound, " ms"))
        direct = [_median(found, "direct") for found in (warm, cold)]
        self.row("exec to the direct path, peer up, ms", direct[0])
        self.row("exec to the direct path, both cold, ms", direct[1])
        self.targets.append(at_most("exec to the direct path", round(max(direct)), 2000, " ms"))

    def _start(self, *nodes: str, call: str) -> starts.Start:
        return starts.start(self.sites, *nodes, call=call, down=self.figures.down)

    def times(self, what: str, start: Callable[[], starts.Start]) -> list[starts.Start]:
        """Start so many times."""
        found = []
        for _ in range(self.figures.starts):
            found.append(one := start())
            self.say(f"{what}: named {one.named:.0f} ms, called {one.called:.0f} ms, {one.path} {one.direct:.0f} ms")
        return found

    # many services

    def many(self) -> None:
        """1,000 services at site B: an endpoint moves; the resolver starts; the node starts."""
        pods = [
            self.sites.run_pod(manifest(name, self.orders.node.name, answering(name), [WORD_PORT]))
            for name in ("here", "there")
        ]
        began = time.monotonic()
        self.sites.many("b1")
        self.sites.cluster.publish(service("moving", [WORD_PORT]))
        self.sites.cluster.publish(endpoints("moving", WORD_PORT, [pods[0].address]))
        served = (self.sites.wait_services("b1") - began) * 1e3
        self.row(f"{SERVICES} new services until all are served, ms", served)
        slices = {pod.name: endpoints("moving", WORD_PORT, [pod.address]) for pod in pods}
        times = moves(self.sites, slices, lambda item: self.sites.change(item, "b1"), self.figures.moves)
        self.say(f"an endpoint moved {len(times)} times: {min(times):.1f} to {max(times):.1f} ms")
        found = statistics.median(times)
        what = "manifest renamed" if self.manifests else "PATCH answered"
        self.row(f"{what} to new connections reaching the new endpoint, ms", found, peer=31)
        self.targets.append(at_most(f"{what} to new connections", round(found, 1), 20, " ms"))
        answers = [starts.resolver(self.sites, "b1", "call") for _ in range(self.figures.starts)]
        self.row("exec of the resolver to its first answer, ms", statistics.median(answers), peer=190)
        self.targets.append(at_most("exec of the resolver", round(statistics.median(answers)), 150, " ms"))
        if self.quick:
            return
        large = self.times(f"{SERVICES} services", lambda: self._start("b1", call="call"))
        self.row(f"exec to the first call, peer up, {SERVICES} services, ms", _median(large, "called"), peer=14_000)


def _median(found: list[starts.Start], of: str) -> float:
    values: list[float] = [getattr(each, of) for each in found]
    return statistics.median(values)


def measure(quick: bool, say: Callable[[str], None], *, manifests: bool = False) -> Report:
    """All of it, on one bed."""
    say("the sites come up")
    with sites(manifests=manifests) as built:
        run = Run(built, quick, say, manifests=manifests)
        run.direct()
        run.drops()
        run.relayed()
        run.start()
        run.many()
    return Report("paths", machine(), run.rows, run.targets)
