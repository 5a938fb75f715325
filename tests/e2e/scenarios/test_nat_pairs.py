"""Every pair of routers reaches what docs/nat.md says, and every kind of router stands every fault."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e2e.lab.routers import Nat, Reach, expected
from e2e.scenarios.nat_pairs import FULL, PAIRS, complaint, scenario


@pytest.mark.parametrize("kind", Nat)
def test_every_kind_meets_its_faults_on_each_path_that_it_is_sure_of(kind: Nat) -> None:
    sure = {expected(kind, other) for other in Nat} - {Reach.EITHER}
    assert sure <= {expected(*pair) for pair in FULL if kind in pair}


@pytest.mark.bed
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("nat_a", "nat_b"), [pair for pair in PAIRS if pair not in FULL])
def test_calls(nat_a: Nat, nat_b: Nat, tmp_path: Path) -> None:
    record = scenario(nat_a, nat_b, faults=False, directory=tmp_path, output=sys.stderr)
    assert record.ok, complaint(record)
    paths = {call.path for call in record.calls if call.node in ("a1", "a2") and call.caller.endswith("b1")}
    if expected(nat_a, nat_b) is Reach.RELAYED:
        assert paths == {"relayed"}


@pytest.mark.bed
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("nat_a", "nat_b"), FULL)
def test_calls_and_faults(nat_a: Nat, nat_b: Nat, tmp_path: Path) -> None:
    record = scenario(nat_a, nat_b, faults=True, directory=tmp_path, output=sys.stderr)
    assert record.ok, complaint(record)
    not_applicable = [step.name for step in record.steps if not step.applies]
    assert bool(not_applicable) is all(fault.path != "direct" for fault in record.faults)
    assert all(fault.bytes_after > 0 for fault in record.faults)
