"""The document of `--json`, and when a run counts as ok."""

from __future__ import annotations

import json

from e2e.demo.record import Call, Fault, Record, Step


def record(*steps: Step) -> Record:
    return Record("cone", "symmetric", steps=list(steps), logs="/logs", seconds=31.26)


def test_the_document_has_what_is_promised() -> None:
    run = record(Step("a", ok=True, ms=12.345, detail="fine"))
    run.calls.append(Call("HTTP", True, "shopper on b1", "http://orders.shop:8080", ms=1.23456))
    run.faults.append(Fault("relay killed", True, "direct", bytes_during=5, longest_gap_ms=33.333))
    document = json.loads(run.json())
    assert document["ok"] is True
    assert document["steps"] == [{"name": "a", "ok": True, "ms": 12.3, "detail": "fine"}]
    assert document["calls"][0]["ms"] == 1.23
    assert document["faults"][0]["longest_gap_ms"] == 33.33
    assert document["nat"] == {"a": "cone", "b": "symmetric"}
    assert document["logs"] == "/logs"


def test_a_failed_step_names_its_process_and_last_lines() -> None:
    failed = Step("a", detail="no answer", process="b1-agent", last_lines=["one", "two"])
    document = record(failed).document()
    assert document["ok"] is False
    assert document["steps"][0]["process"] == "b1-agent"
    assert document["steps"][0]["last_lines"] == ["one", "two"]


def test_ok_means_steps_calls_and_faults() -> None:
    good = Step("a", ok=True)
    assert record(good).ok
    assert not record().ok
    assert not record(good, Step("b")).ok
    run = record(good)
    run.calls.append(Call("HTTP", False, "x", "y"))
    assert not run.ok
    run = record(good)
    run.faults.append(Fault("f", False, "direct"))
    assert not run.ok


def test_a_step_that_does_not_apply_is_no_failure() -> None:
    assert record(Step("a", ok=True, applies=False, detail="not applicable: x")).ok
