"""One run's stage: the bed with its topology, workloads and callers, and the ways to wait for what must come true.

Scenes act on it and write into its record. Every wait is for a condition and has a patience; what took how long is
measured from the cause, never slept for.
"""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.demo.record import Call, Failure, Record, Step
from e2e.demo.screen import Screen
from e2e.lab.caller import Answer, Caller
from e2e.lab.cluster import Cluster
from e2e.lab.kubelet import name_of
from e2e.lab.namespaces import Bed, BedError
from e2e.lab.routers import Nat, Reach, expected
from e2e.lab.topology import ROOT, Node, Topology
from e2e.lab.workloads import Directory, Pod, Workloads, load

EXAMPLES = next(filter(Path.is_dir, (ROOT / "examples", Path(sys.prefix) / "share" / "edgemesh" / "examples")))
"""In a checkout, or where an installation has them."""
NAMESPACE = "shop"
LAST_LINES = 6
HOW = {True: "as manifests", False: "by HTTP: no kubectl is installed"}
"""What `examples/` is applied by without kubectl: with `manifests`, and without."""


class Ended(Exception):
    """The bed is gone, so nothing more can be shown."""


class Stage:
    """What all scenes share. `bed` is made and closed by the caller. With `manifests` there is no API."""

    def __init__(self, bed: Bed, run: Path, nat_a: Nat, nat_b: Nat, screen: Screen, *, manifests: bool = False) -> None:
        self.bed = bed
        self.run = run
        self.logs = run / "logs"
        self.logs.mkdir(exist_ok=True)
        self.nat_a, self.nat_b = nat_a, nat_b
        self.manifests = manifests
        self.reach = expected(nat_a, nat_b)
        self.screen = screen
        self.record = Record(str(nat_a), str(nat_b), logs=str(self.logs))
        self.topology: Topology
        self.cluster: Cluster | Directory
        self.workloads: Workloads
        self.shopper: Caller
        self.direct = False
        """Whether the two sites have a direct path, once that has settled."""

    # -- building ----------------------------------------------------------------------------------------------

    def build(self) -> None:
        """Routers, nodes and the internet; nothing of the product runs yet."""
        self.topology = Topology(self.bed, self.logs, self.nat_a, self.nat_b, api=not self.manifests)
        if self.manifests:
            self.cluster = Directory(self.topology, self.run / "cluster")
        else:
            self.cluster = Cluster(self.topology)
        self.workloads = Workloads(self.topology, self.cluster)

    @property
    def api(self) -> Cluster:
        """The cluster, where it is on an API."""
        assert isinstance(self.cluster, Cluster)
        return self.cluster

    def apply_examples(self) -> tuple[list[Pod], str]:
        """Apply `examples/`; the pods, once they are ready, and by what it was done."""
        files = sorted(EXAMPLES.glob("*.yaml"))
        if not isinstance(self.cluster, Cluster) or not self.cluster.kubectl:
            return self.workloads.apply(files), HOW[self.manifests]
        self.cluster.apply(files)
        return self.workloads.wait(name_of(item) for item in load(files) if item["kind"] == "Pod"), "by kubectl"

    def node(self, name: str) -> Node:
        return self.topology.nodes[name]

    def node_of(self, address: str) -> str:
        """The node that has an address, be it a pod's, its own or its mesh address."""
        for node in self.topology:
            inside = node.pod_range and ipaddress.ip_address(address) in ipaddress.ip_network(node.pod_range)
            if inside or address in (node.place.address, node.mesh_address):
                return node.name
        return ""

    # -- showing -----------------------------------------------------------------------------------------------

    @contextmanager
    def step(self, name: str, process: str = "") -> Iterator[Step]:
        """A step that fails when its body raises; `process` (NODE-PROCESS) is to blame unless the failure names one."""
        step = Step(name)
        start = time.monotonic()
        try:
            with self.screen.working(name):
                yield step
            step.ok = True
        except Failure as failure:
            self._failed(step, str(failure), failure.process or process)
        except (BedError, subprocess.TimeoutExpired, OSError) as error:
            self._failed(step, str(error).strip(), process)
        step.ms = step.ms or (time.monotonic() - start) * 1000
        self.record.steps.append(step)
        self.screen.step(step)
        if self.bed.ended:
            raise Ended("the bed's outermost process has ended, and everything inside with it")

    def not_applicable(self, name: str, why: str) -> None:
        """A step that this pair of routers rules out."""
        step = Step(name, ok=True, detail=f"not applicable: {why}", applies=False)
        self.record.steps.append(step)
        self.screen.step(step)

    def _failed(self, step: Step, message: str, process: str) -> None:
        step.ok = False
        step.detail = message
        step.process = process or self._suspect()
        if step.process:
            log = self.logs / f"{step.process}.log"
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            step.last_lines = lines[-LAST_LINES:] or ["(nothing)"]

    def _suspect(self) -> str:
        """A process that isn't running though it should: the likeliest to blame when nothing else is known."""
        if not hasattr(self, "topology"):
            return ""
        for node in self.topology:
            try:
                for process, state in node.processes().items():
                    if state["args"] and not state["pid"]:
                        return f"{node.name}-{process}"
            except BedError:
                continue
        return ""

    # -- asking ------------------------------------------------------------------------------------------------

    def path(self, source: str, target: str) -> str:
        """How `edgemesh status` on one node says that another is reached: direct, relayed, lan, none, or local."""
        return "local" if source == target else str(self.node(source).peer(target).get("path", "none"))

    def endpoints(self, source: str) -> dict[str, str]:
        """Where a node's engine sends to, by the other node's name, as `wg show` has it."""
        listed = self.node(source).space.run(["wg", "show", "edgemesh-wg", "endpoints"], check=False).stdout
        rows = (line.split() for line in listed.splitlines())
        names = {key: name for name, key in self.cluster.keys.items()}
        return {names[row[0]]: row[1] for row in rows if len(row) > 1 and row[0] in names}

    def wait(self, what: str, condition: Callable[[], Any], patience: float, process: str = "") -> float:
        """Wait until a condition is true; the milliseconds it took. Raises Failure when patience ends."""
        start = time.monotonic()
        while not condition():
            if time.monotonic() - start > patience:
                raise Failure(f"{what}: not within {patience:g} s", process)
            if self.bed.ended:
                raise Ended("the bed has ended")
            time.sleep(0.02)
        return (time.monotonic() - start) * 1000

    def add_call(self, name: str, caller: Caller, question: str, answer: Answer, protocol: str = "tcp") -> Call:
        """Note a call; raises Failure when it was not answered."""
        call = Call(name, bool(answer["ok"]), caller.name, question, error=answer.get("error", ""))
        self.record.calls.append(call)
        if not call.ok:
            raise Failure(f"{question}: {call.error}", f"{caller.node.name}-agent")
        call.answers = answer.get("answers", [])
        call.name_ms, call.connect_ms = answer.get("name_ms"), answer.get("connect_ms")
        call.answer_ms, call.ms = answer.get("answer_ms"), answer.get("ms")
        if "source" in answer:
            call.endpoint = caller.endpoint(protocol, answer)
            if not call.endpoint and answer["destination"][0] not in call.answers:
                call.endpoint = f"{answer['destination'][0]}:{answer['destination'][1]}"
            if call.endpoint:
                call.node = self.node_of(call.endpoint.rsplit(":", 1)[0])
        if call.node and call.node != caller.node.name:
            peer = caller.node.peer(call.node)
            call.path = str(peer.get("path", "none"))
            call.round_trip_ms = peer.get("round_trip_ms")
        elif call.node:
            call.path = "local"
        return call


def told(call: Call) -> str:
    """A call in one line: question, answer, endpoint, path and times."""
    parts = (
        [f"{call.question} is {', '.join(call.answers)}" + _in_ms(call.name_ms)] if call.answers else [call.question]
    )
    if call.endpoint:
        parts.append(f"conntrack: {call.endpoint} on {call.node}")
    if call.path:
        rtt = f", round trip {call.round_trip_ms:.1f} ms" if call.round_trip_ms is not None else ""
        parts.append(f"{call.path}{rtt}")
    if call.ms is not None:
        parts.append(f"{call.ms:.1f} ms in all")
    return "; ".join(parts)


def _in_ms(value: float | None) -> str:
    return f" ({value:.1f} ms)" if value is not None else ""


def settled(stage: Stage, source: str, target: str, patience: float) -> str:
    """Wait for the path that the routers must reach, and give it; EITHER takes what is there when patience ends."""
    deadline = time.monotonic() + patience
    wanted = "relayed" if stage.reach is Reach.RELAYED else "direct"
    while (path := stage.path(source, target)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    if path == wanted:
        return path
    if stage.reach is Reach.EITHER and path in ("direct", "relayed"):
        return path
    raise Failure(
        f"the path from {source} to {target} is {path} after {patience:g} s, "
        f"and a {stage.nat_a} and a {stage.nat_b} router must reach {stage.reach}",
        f"{source}-agent",
    )
