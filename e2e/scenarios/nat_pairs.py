"""The demo's scenes for pairs of routers: every kind on either side, and every expectation of docs/nat.md.

`PAIRS` leaves out none of the fifteen unordered pairs; `FULL` are those whose faults are worth their half minute each:
the usual one, the one that is relayed by rule, the one that breaks hole punching, and two in which the freer kinds give
a direct path to those that else have none for sure. So every kind stands its faults on each kind of path it is sure of.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path
from typing import TextIO

from e2e.demo.record import Record
from e2e.demo.run import run
from e2e.demo.screen import Screen
from e2e.lab.routers import Nat

PAIRS: tuple[tuple[Nat, Nat], ...] = tuple(combinations_with_replacement(Nat, 2))

FULL: tuple[tuple[Nat, Nat], ...] = (
    (Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED),
    (Nat.SYMMETRIC, Nat.PORT_RESTRICTED),
    (Nat.LINUX_GATEWAY, Nat.LINUX_GATEWAY),
    (Nat.CONE, Nat.SYMMETRIC),
    (Nat.RESTRICTED, Nat.LINUX_GATEWAY),
)

ON_API: tuple[tuple[Nat, Nat], ...] = FULL[:2]
"""Pairs that are run on the API. To routers it makes no difference, and without it a run is shorter."""


def scenario(nat_a: Nat, nat_b: Nat, *, faults: bool, directory: Path, output: TextIO) -> Record:
    """Run one pair's scenes; what a person would see goes to `output`, the logs under `directory`."""
    manifests = (nat_a, nat_b) not in ON_API
    return run(nat_a, nat_b, with_faults=faults, manifests=manifests, screen=Screen(output), directory=directory)


def complaint(record: Record) -> str:
    """What did not work, for a test's message; empty when all did."""
    return "\n".join(
        "\n  ".join([f"{step.name}: {step.detail}", *(f"{step.process}: {line}" for line in step.last_lines)])
        for step in record.steps
        if not step.ok
    )
