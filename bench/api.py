"""The embedded API beside Kubernetes' own with etcd: starts, memory, lists, writes, watches; a change's way to a node.

Both are new, on loopback and on the same disk, and are measured in turn, every other round the other way round. Then,
in the demo's topology with 1,000 services, an endpoint moves: from the answer to the PATCH of its slice to new
connections at site B that reach the new one; first on the cloud role's API and then, but for `--quick`, on Kubernetes'.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import api_peer
from bench.api_servers import Served, embedded, kubernetes
from bench.memory import pss, used
from bench.moves import moves
from bench.report import Cell, Report, Target, at_most, machine
from bench.sites import (
    ENDPOINTS,
    NAMESPACE,
    SERVICES,
    WORD_PORT,
    Sites,
    answering,
    endpoints,
    manifest,
    service,
    sites,
    wait,
)
from e2e.lab.cluster import Cluster
from e2e.lab.topology import ENVIRONMENT, compile_program

NODES = 100
WATCHERS, CHANGES = 200, 100
"""Watchers, and changes a second."""
WRITERS = 16
HERE, PEER = "embedded", "kube-apiserver, etcd"
SERVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Served]]] = {HERE: embedded, PEER: kubernetes}


@dataclass(frozen=True, slots=True)
class Figures:
    """How often and how long."""

    rounds: int
    lists: int
    writes: float
    watched: float
    """Seconds."""
    moves: int
    peer_moves: bool


QUICK = Figures(rounds=3, lists=10, writes=0.4, watched=1.0, moves=5, peer_moves=False)
FULL = Figures(rounds=5, lists=50, writes=3.0, watched=5.0, moves=31, peer_moves=True)


@dataclass
class Run:
    """What was found, by server: a figure a round."""

    figures: Figures
    say: Callable[[str], None]
    found: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, what: str, server: str, value: float) -> None:
        self.found.setdefault(what, {}).setdefault(server, []).append(value)
        self.say(f"{what}, {server}: {value:,.1f}")

    def median(self, what: str, server: str) -> float | None:
        values = self.found.get(what, {}).get(server)
        return statistics.median(values) if values else None

    def starts(self, folder: Path) -> None:
        """From exec to ready; all but those that `alone` uses."""
        for number in range(self.figures.rounds - 1):
            for server in self._order(number):
                with SERVERS[server](folder / f"start-{number}-{server[:4]}") as up:
                    self.note(START, server, up.ready * 1e3)

    def alone(self, folder: Path) -> None:
        """Both up side by side, one of them asked at a time."""
        with contextlib.ExitStack() as stack:
            ups = {server: stack.enter_context(start(folder / server[:4])) for server, start in SERVERS.items()}
            for server, up in ups.items():
                self.note(START, server, up.ready * 1e3)
                how = {"namespace": "default", "services": SERVICES, "endpoints": ENDPOINTS, "nodes": NODES}
                self.note(FILL, server, load(up, "fill", **how))
                load(up, "lists", path="/api/v1/services", count=1)
            for server, up in ups.items():
                self.note(MEMORY, server, sum(map(pss, up.pids)))
            for number in range(self.figures.rounds):
                for server in self._order(number):
                    self._round(server, ups[server])

    def _round(self, server: str, up: Served) -> None:
        figures = self.figures
        self.note(LIST, server, statistics.median(load(up, "lists", path="/api/v1/services", count=figures.lists)))
        self.note(WRITES, server, load(up, "writes", seconds=figures.writes, connections=WRITERS))
        few = load(up, "watchers", count=1, rate=CHANGES, seconds=figures.watched / 2)
        self.note(ONE, server, statistics.median(few["first"]))
        before = sum(map(used, up.pids))
        many = load(up, "watchers", count=WATCHERS, rate=CHANGES, seconds=figures.watched)
        spent = sum(map(used, up.pids)) - before
        self.note(P99, server, sorted(many["last"])[int(len(many["last"]) * 0.99)])
        self.note(CPU, server, spent * 1e6 / (WATCHERS * len(many["last"])))

    def moved(self, built: Sites, folder: Path) -> None:
        """An endpoint moves among many."""
        cluster = built.cluster
        assert isinstance(cluster, Cluster)
        node = built.pod_of("orders", "shop").node.name
        pods = [built.run_pod(manifest(name, node, answering(name), [WORD_PORT])) for name in ("here", "there")]
        slices = {pod.name: endpoints("moving", WORD_PORT, [pod.address]) for pod in pods}
        built.many("b1")
        self._moves(HERE, built, cluster, slices)
        if self.figures.peer_moves:
            peer, kubeconfig = api_peer.start(built, folder / "peer")
            built.fill(str(kubeconfig))
            api_peer.switch(built, "b1", kubeconfig)
            self._moves(PEER, built, peer, slices)

    def _moves(self, server: str, built: Sites, cluster: Cluster, slices: dict[str, dict[str, Any]]) -> None:
        cluster.publish(service("moving", [WORD_PORT]), next(iter(slices.values())))
        built.wait_services("b1")
        address = cluster.request("GET", f"/api/v1/namespaces/{NAMESPACE}/services/moving")["spec"]["clusterIP"]
        name = f"moving.{NAMESPACE}.svc.cluster.local"
        wait(f"b1 has {name} as {server} has it", lambda: built.address(name) == address, 30)
        built.wait_path("b1", built.pod_of("orders", "shop").node.name, "direct", 15)
        path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/moving-1"
        for took in moves(built, slices, lambda item: cluster.timed(path, item), self.figures.moves):
            self.note(MOVE, server, took)

    @staticmethod
    def _order(number: int) -> list[str]:
        return [HERE, PEER][:: -1 if number % 2 else 1]


START = "start to ready, new, ms"
FILL = f"{SERVICES} services of {ENDPOINTS} endpoints and {NODES} nodes created, s"
MEMORY = f"memory with {SERVICES} services and {NODES} nodes, MiB"
LIST = f"list of {SERVICES} services, ms"
WRITES = "durable writes/s"
ONE = "change sent to one watcher, p50, ms"
P99 = f"change sent to the last of {WATCHERS} watchers, {CHANGES} changes/s, p99, ms"
CPU = f"CPU of a change for each of {WATCHERS} watchers, µs"
MOVE = "PATCH of a slice answered to new connections at a remote node, ms"


def load(up: Served, what: str, **how: object) -> Any:
    """What `api_load` finds."""
    command = [sys.executable, "-m", "bench.api_load", str(up.kubeconfig), what, json.dumps(how)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **ENVIRONMENT}, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{what} at {up.kubeconfig}: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def measure(quick: bool, say: Callable[[str], None]) -> Report:
    """Both alone, then a node on each."""
    compile_program()
    run = Run(QUICK if quick else FULL, say)
    with tempfile.TemporaryDirectory(prefix="edgemesh-bench-") as name:
        folder = Path(name)
        run.starts(folder)
        run.alone(folder)
        say("the sites come up")
        with sites() as built:
            run.moved(built, folder)
    rows: list[dict[str, Cell]] = []
    for what in (START, MEMORY, FILL, LIST, WRITES, ONE, P99, CPU, MOVE):
        here, peer = run.median(what, HERE), run.median(what, PEER)
        ratio = here / peer if here is not None and peer else None
        rows.append({"what": what, HERE: _short(here), PEER: _short(peer), "ratio": ratio and round(ratio, 2)})
    return Report("api", machine(), rows, targets(run))


def targets(run: Run) -> list[Target]:
    """What was wanted."""

    def ratio(what: str) -> float | None:
        here, peer = run.median(what, HERE), run.median(what, PEER)
        return round(here / peer, 3) if here is not None and peer else None

    return [
        at_most(f"{MOVE.removesuffix(', ms')}, embedded", _short(run.median(MOVE, HERE)), 20, " ms"),
        at_most("start to ready", _short(run.median(START, HERE)), 1200, " ms"),
        at_most("start to ready, of kube-apiserver's with etcd", ratio(START), 0.2, " x"),
        at_most("memory, of kube-apiserver's and etcd's", ratio(MEMORY), 0.2, " x"),
        at_most("change to watcher, p50, of kube-apiserver's", ratio(ONE), 1.5, " x"),
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
