"""Bytes that move while something is broken, and the judgement of what they show.

Two flows from site B's shopper go on throughout: a download from orders and an echo, every byte compared. A fault is
good when the bytes went on, or came back within the gap allowed, and a new call works afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from e2e.demo.record import Failure, Fault, Step
from e2e.demo.scenes import ECHO, ORDERS
from e2e.demo.stage import Stage
from e2e.lab.caller import Answer

DOWNLOAD = f"/slow/{1 << 30}"
"""1 GiB at 1 MiB/s: longer than any demo."""

MOVED = 32 * 1024
"""So many more bytes on each flow show that it goes on."""

ALLOWED_GAP = {
    "agent": 1000.0,
    "resolver": 1000.0,
    "relay": 1000.0,
    "cloud": 1000.0,
    "engine": 3000.0,
    "path": 3000.0,
}
"""Milliseconds: a process is away for at least 1,000, so a shorter gap shows that bytes flowed meanwhile."""


class Moving:
    """The flows that are under way."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        shopper = stage.shopper
        self.flows = [
            shopper.flow("download", "download", *ORDERS, DOWNLOAD),
            shopper.flow("echo", "echo", *ECHO),
        ]
        self.expect_moving("before anything breaks")

    def mark(self) -> None:
        """Count bytes and gaps from now on."""
        for flow in self.flows:
            flow.state(mark=True)

    def states(self) -> list[Answer]:
        return [flow.state() for flow in self.flows]

    def bytes(self) -> int:
        """What the slower of the flows has moved since the mark."""
        return min(int(state.get("bytes", 0)) for state in self.states())

    def expect_moving(self, when: str, patience: float = 6) -> None:
        for flow in self.flows:
            if not flow.moves(MOVED, patience):
                state = flow.state()
                why = state.get("broken") or state.get("error") or f"nothing came for {state['silent_ms']:.0f} ms"
                raise Failure(f"{when}: the {flow.name} does not go on: {why}", "b1-engine")

    def gap(self) -> float:
        return max(float(state["longest_gap_ms"]) for state in self.states() if state["ok"])

    def shut(self) -> None:
        for flow in self.flows:
            flow.shut()


def judged(stage: Stage, step: Step, path: str, kind: str, moving: Moving, breaking: Callable[[Fault], None]) -> None:
    """Break something with bytes moving, and judge: `breaking` returns when it is whole again."""
    fault = Fault(step.name, False, path, allowed_gap_ms=ALLOWED_GAP[kind])
    stage.record.faults.append(fault)
    moving.mark()
    try:
        breaking(fault)
        before = moving.bytes()
        moving.expect_moving(step.name)
        fault.bytes_after = moving.bytes() - before
        fault.longest_gap_ms = moving.gap()
        answer = stage.shopper.until_ok("http", 3, name=ORDERS[0], port=ORDERS[1])
        if not answer["ok"]:
            raise Failure(f"a new call fails afterwards: {answer['error']}")
        if fault.longest_gap_ms > ALLOWED_GAP[kind]:
            raise Failure(f"a gap of {fault.longest_gap_ms:.0f} ms, {ALLOWED_GAP[kind]:.0f} are allowed")
    except Failure as failure:
        fault.error = str(failure)
        raise
    fault.ok = True
    recovery = f", whole again after {fault.recovery_ms:.0f} ms" if fault.recovery_ms is not None else ""
    step.detail = (
        f"{kib(fault.bytes_during)} during, {kib(fault.bytes_after)} after, "
        f"longest gap {fault.longest_gap_ms:.0f} ms{recovery}"
    )


def kib(count: int) -> str:
    return f"{count / 1024:.0f} KiB"
