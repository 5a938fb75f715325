"""A run of the demo from the first line to the last: `run` for scenarios and tests, `show` for a person."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from e2e.demo import kept
from e2e.demo.come_up import come_up, first_call
from e2e.demo.faults import faults
from e2e.demo.record import Record, Step
from e2e.demo.scenes import calls
from e2e.demo.screen import Screen
from e2e.demo.stage import Ended, Stage
from e2e.lab.namespaces import Bed
from e2e.lab.routers import TERMS, Nat
from e2e.lab.workloads import Directory

SECONDS = 30
"""What a whole demo takes, for the announcement."""

SECONDS_OF_CALLS = 15

EDGEMESH = (
    ("first call after its start, the other node up", "first_call_ms", "ms", "460 ms"),
    ("direct path after the start", "direct_path_ms", "ms", "never"),
    ("HTTP keep-alive request, middle of 200", "keep_alive_us", "µs", "483 µs, relayed"),
    ("4 MiB by HTTP", "four_mebibytes_ms", "ms", "73 ms, relayed"),
)
"""EdgeMesh 1.17 behind two port-restricted routers, as measured for this project on another day (2 cores, 6.18)."""


def run(
    nat_a: Nat,
    nat_b: Nat,
    *,
    with_faults: bool = True,
    manifests: bool = False,
    screen: Screen | None = None,
    directory: Path | None = None,
) -> Record:
    """Build a bed, show everything in it, end it; the record says what worked."""
    directory = directory or kept.new_run()
    with Bed(writable=[directory]) as bed:
        stage = Stage(bed, directory, nat_a, nat_b, screen or Screen(sys.stderr), manifests=manifests)
        play(stage, with_faults=with_faults)
        return stage.record


def play(stage: Stage, *, with_faults: bool) -> None:
    """All scenes, in order; what can't be shown after a failure is left out."""
    try:
        if come_up(stage):
            stage.screen.heading("Calls")
            if first_call(stage):
                calls(stage)
                if with_faults:
                    stage.screen.heading("Faults")
                    faults(stage)
    except Ended as ended:
        stage.record.steps.append(Step("the bed", ok=False, detail=str(ended)))
        stage.screen.step(stage.record.steps[-1])
    stage.record.seconds = stage.screen.elapsed


def restore(stage: Stage) -> None:
    """After the faults: cloud and a2 whole again, for whoever looks around in a kept bed."""
    stage.topology.weather.clear()
    stage.topology.plug_in("cloud")
    if isinstance(stage.cluster, Directory):
        stage.cluster.unreachable.clear()
        stage.cluster.copy_all()
    for node in stage.topology:
        node.start_services()


def show(nat_a: Nat, nat_b: Nat, *, with_faults: bool, manifests: bool, screen: Screen, keep: bool) -> Record:
    """The demo as a person sees it."""
    seconds = SECONDS if with_faults else SECONDS_OF_CALLS
    screen.announce(
        "EdgeMesh: a call by name between two sites behind NAT",
        f"Real processes and real packets, in namespaces of their own: nothing on this machine changes.\n"
        f"Routers: {nat_a} ({TERMS[nat_a]}) at site A, {nat_b} ({TERMS[nat_b]}) at site B. "
        f"This takes about {seconds} s; Ctrl-C ends it at once.",
        seconds,
    )
    directory = kept.new_run()
    with Bed(writable=[directory]) as bed:
        stage = Stage(bed, directory, nat_a, nat_b, screen, manifests=manifests)
        play(stage, with_faults=with_faults)
        _tables(stage.record, screen)
        if keep and not bed.ended and hasattr(stage, "workloads"):
            if with_faults:
                restore(stage)
            kept.keep(directory, bed)
            _what_to_try(screen, manifests=manifests)
            bed.release()
        else:
            screen.say("Try next: edgemesh demo --keep, and look around; or --nat-a symmetric, which stays relayed.")
    return stage.record


def _tables(record: Record, screen: Screen) -> None:
    rows = [
        (step.name, "-" if not step.applies else "ok" if step.ok else "FAILED", f"{step.ms:.0f}")
        for step in record.steps
    ]
    screen.table("\nWhat was shown", ("step", "", "ms"), rows)
    if record.measured:
        measured = [
            (name, f"{value:,.0f} {unit}" if (value := record.measured.get(key)) is not None else "-", theirs)
            for name, key, unit, theirs in EDGEMESH
        ]
        screen.table(f"Beside EdgeMesh; here: {machine()}", ("", "here, now", "EdgeMesh, measured before"), measured)
    failed = sum(not step.ok for step in record.steps)
    verdict = "All of it worked" if record.ok else f"{failed} of {len(record.steps)} steps FAILED"
    screen.say(f"{verdict}, in {record.seconds:.1f} s. Logs of every process: {record.logs}")


def machine() -> str:
    """The machine in a few words: processor, cores, kernel."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def _what_to_try(screen: Screen, *, manifests: bool) -> None:
    command = "edgemesh" if shutil.which("edgemesh") else f"{sys.executable} -m edgemesh"
    cluster = f"""
  {command} demo enter cloud      a shell on the cloud host, KUBECONFIG set; in it:
      kubectl get nodes,pods -A -o wide
      kubectl delete pod -n shop catalog-a2 && kubectl get endpointslices -A -w
      edgemesh node list; edgemesh token create"""
    screen.say(
        f"""
The demo stays. Try:{"" if manifests else cluster}
  {command} demo enter b1         a shell on site B's node; in it:
      edgemesh status                 peers and their paths, services, resolver
      curl http://orders.shop:8080    a call by name to site A
      dig orders.shop.svc.cluster.local
      wg show                         the tunnel, as WireGuard's own tool sees it
  {command} demo enter shopper    the same from a pod (also a1, a2, cloud, router-a, router-b, internet)
  {command} demo down             ends it"""
    )
    if not manifests and not shutil.which("kubectl"):
        screen.say("(kubectl is not installed here: see https://kubernetes.io/docs/tasks/tools/)")
