"""The scenes in which things break, with bytes moving during and after each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from e2e.demo.api_faults import api_killed, endpoint_dies
from e2e.demo.moving import DOWNLOAD, MOVED, Moving, judged, kib
from e2e.demo.record import Failure, Fault
from e2e.demo.scenes import ORDERS, STOCK
from e2e.demo.stage import NAMESPACE, Stage
from e2e.lab.caller import Answer, Caller, Flow
from e2e.lab.routers import Reach
from e2e.lab.topology import CLOUD
from e2e.lab.workloads import Directory


def faults(stage: Stage) -> None:
    """Everything that breaks, in an order in which each finds whole what it needs."""
    moving: Moving | None = None
    with stage.step("a download and an echo between the sites", "b1-engine") as step:
        moving = Moving(stage)
        step.detail = "bytes are moving, and go on moving through all that follows"
    if moving is None:
        return
    path = "direct" if stage.direct else "relayed"
    why = _ruled_out(stage)
    if stage.direct:
        relay_killed(stage, moving)
        kill_each(stage, moving, path)
        api_killed(stage, moving)
        dropped(stage, moving, (("a1", "b1"),), "one direction")
        direct_again(stage, moving, "after one direction was dropped")
        dropped(stage, moving, (("a1", "b1"), ("b1", "a1")), "both directions")
        kill_each(stage, moving, "relayed")
        direct_again(stage, moving, "after both were dropped")
    else:
        for name in ("relay killed", "direct path dropped, one direction", "direct path dropped, both directions"):
            stage.not_applicable(name, why)
        for process in ("resolver", "agent", "engine"):
            stage.not_applicable(f"b1's {process} killed, direct", why)
        api_killed(stage, moving)
        kill_each(stage, moving, path)
    endpoint_dies(stage, moving)
    rebooted(stage, moving)


def _ruled_out(stage: Stage) -> str:
    kinds = f"{stage.nat_a} and {stage.nat_b} routers"
    return f"{kinds} allow no direct path" if stage.reach is Reach.RELAYED else f"these {kinds} came to no direct path"


def relay_killed(stage: Stage, moving: Moving) -> None:
    cloud = stage.node(CLOUD.name)
    with stage.step("relay killed", "cloud-relay") as step:

        def breaking(fault: Fault) -> None:
            cloud.stop("relay")
            moving.expect_moving("the relay is gone")
            if (path := stage.path("b1", "a1")) != "direct":
                raise Failure(f"the path is {path} without the relay, direct before", "b1-agent")
            answer = stage.shopper.call("http", name=ORDERS[0], port=ORDERS[1])
            if not answer["ok"]:
                raise Failure(f"a new call fails without the relay: {answer['error']}")
            fault.bytes_during = moving.bytes()

        judged(stage, step, "direct", "relay", moving, breaking)
        step.detail += "; the direct path stayed"
    cloud.start_service("relay")


def kill_each(stage: Stage, moving: Moving, path: str) -> None:
    """Resolver, agent and engine of b1, one after another."""
    b1 = stage.node("b1")
    # a pair that may come to a direct path may do so at any time
    good = {"direct", "relayed"} if stage.reach is Reach.EITHER else {path}
    back: dict[str, Callable[[], object]] = {
        "resolver": lambda: stage.shopper.until_ok("lookup", 5, name=STOCK[0])["ok"],
        "agent": lambda: stage.path("b1", "a1") in good,
        "engine": lambda: stage.path("b1", "a1") in good,
    }
    for process, whole in back.items():
        with stage.step(f"b1's {process} killed, {path}", f"b1-{process}") as step:

            def breaking(fault: Fault, process: str = process, whole: Callable[[], object] = whole) -> None:
                starts = b1.processes()[process]["starts"]
                began = time.monotonic()
                b1.kill(process)
                stage.wait(f"b1's {process} started again", lambda: b1.processes()[process]["starts"] > starts, 3)
                fault.bytes_during = moving.bytes()
                if process != "engine" and fault.bytes_during < MOVED:
                    raise Failure(f"only {fault.bytes_during} bytes came while the {process} was down")
                stage.wait(f"the {process} does its work again", whole, 6)
                fault.recovery_ms = (time.monotonic() - began) * 1000

            judged(stage, step, path, process, moving, breaking)


def dropped(stage: Stage, moving: Moving, ways: tuple[tuple[str, str], ...], which: str) -> None:
    """The direct path is dropped silently amid the download."""
    with stage.step(f"direct path dropped, {which}", "b1-agent") as step:

        def breaking(fault: Fault) -> None:
            began = time.monotonic()
            for source, target in ways:
                stage.topology.block_direct(source, target)
            relay = stage.topology.outer_address(CLOUD.name)
            stage.wait(
                "the engine sends to the relay",
                lambda: {stage.endpoints("b1").get(name, "").split(":")[0] for name in ("a1", "a2")} <= {relay},
                5,
            )
            fault.recovery_ms = (time.monotonic() - began) * 1000
            stage.wait("the path is relayed", lambda: stage.path("b1", "a1") == "relayed", 3)
            moving.expect_moving("the direct path is dropped")
            fault.bytes_during = moving.bytes()

        judged(stage, step, "direct", "path", moving, breaking)
        step.detail += "; it goes on over the relay"


def _is_direct(stage: Stage, source: str, target: str) -> bool:
    return stage.path(source, target) == "direct"


def direct_again(stage: Stage, moving: Moving, when: str) -> None:
    with stage.step(f"direct again {when}", "b1-agent") as step:
        stage.topology.weather.clear()
        took = 0.0
        for source, target in (("b1", "a1"), ("b1", "a2")):
            took += stage.wait(f"{source} to {target} direct", partial(_is_direct, stage, source, target), 8)
        moving.expect_moving("back on the direct path")
        step.detail = f"{took:.0f} ms after the way was open"


def rebooted(stage: Stage, moving: Moving) -> None:
    """The cloud is gone and a2 reboots: names, and a service on a1, from its snapshot and over the LAN."""
    a2 = stage.node("a2")
    without = "its manifests" if stage.manifests else "the API"
    with stage.step(f"cloud gone, a2 reboots without {without}", "a2-agent") as step:
        fault = Fault(step.name, False, "lan")
        stage.record.faults.append(fault)
        try:
            moving.flows.pop().shut()  # the echo is on a2, which loses its connections as any machine does
            if not stage.direct:
                moving.shut()
                moving.flows.clear()
            moving.mark()
            if isinstance(stage.cluster, Directory):
                stage.cluster.unreachable.update({"a2", CLOUD.name})
            stage.topology.cut_off(CLOUD.name)
            stage.topology.reboot("a2")
            caller = Caller(a2)
            began = time.monotonic()
            a2.start_services()
            answer = caller.until_ok("http", 8, name=ORDERS[0], port=ORDERS[1])
            call = stage.add_call("a2 after its reboot", caller, f"http://{ORDERS[0]}:{ORDERS[1]}", answer)
            fault.recovery_ms = (time.monotonic() - began) * 1000
            stage.wait("a2's path to a1 is that of the LAN", lambda: stage.path("a2", "a1") == "lan", 3, "a2-agent")
            call.path = "lan"
            names = _names(stage, caller)
            fault.bytes_during = moving.bytes() if moving.flows else 0
            if moving.flows:
                moving.expect_moving("the cloud is gone")
            stage.workloads.restart("a2")
            after = _download(caller)
            fault.bytes_after = int(after["bytes"])
            fault.ok = True
        except Failure as failure:
            fault.error = str(failure)
            raise
        step.detail = (
            f"{names} names, and orders.shop on a1, {fault.recovery_ms:.0f} ms after its processes started; "
            f"{kib(fault.bytes_after)} over the LAN"
        )
        if moving.flows:
            step.detail += f", meanwhile {kib(fault.bytes_during)} from a1 to b1"


def _names(stage: Stage, caller: Caller) -> int:
    """Every name of the examples is answered; how many there were."""
    expected = {"catalog.shop": None, "echo.shop": None, "echo-udp.shop": None, "orders.shop": None}
    for name in expected:
        answer = caller.call("lookup", name=name)
        if not answer["ok"]:
            raise Failure(f"a2 has no answer for {name}: {answer['error']}", "a2-resolver")
    answer = caller.call("lookup", name=STOCK[0])
    pods = {stage.workloads.pod(f"stock-{index}", NAMESPACE).address for index in range(2)}
    if set(answer.get("answers", [])) != pods:
        raise Failure(f"a2 answers {answer.get('answers') or answer.get('error')} for {STOCK[0]}", "a2-resolver")
    return len(expected) + 1


def _download(caller: Caller) -> Answer:
    flow: Flow = caller.flow("download", "download", *ORDERS, DOWNLOAD)
    moves = flow.moves(MOVED)
    state = flow.shut()
    if not moves or state["broken"]:
        raise Failure(f"the download on a2 does not go on: {state['broken'] or 'no bytes'}", "a2-engine")
    return state
