"""Ages, printer columns' paths, and pods' states."""

from __future__ import annotations

from typing import Any

import pytest

from sync.api.duration import ago, human
from sync.api.json_path import find, parse
from sync.api.pod_state import pod_state
from sync.api.registry import Registry
from sync.api.tables import table
from tests.sync.api.kinds import pod

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86_400, 86_400 * 365


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (2 * MINUTE, "2m"),
        (3 * MINUTE + 20, "3m20s"),
        (10 * MINUTE + 20, "10m"),
        (3 * HOUR + MINUTE, "3h1m"),
        (8 * HOUR + MINUTE, "8h"),
        (2 * DAY + HOUR, "2d1h"),
        (8 * DAY + HOUR, "8d"),
        (2 * YEAR + DAY, "2y1d"),
        (9 * YEAR + DAY, "9y"),
    ],
)
def test_human(seconds: float, text: str) -> None:
    assert human(seconds) == text


def test_ago() -> None:
    assert ago("2026-01-01T00:00:00Z", 1767225605) == "5s"
    assert ago("", 0) == "<unknown>"
    assert ago("soon", 0) == "<invalid>"


OBJ: dict[str, Any] = {
    "metadata": {"labels": {"app.io/name": "x"}},
    "list": [{"type": "A", "n": 1}, {"type": "B", "n": 2, "ok": True}],
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".metadata.labels.app\\.io/name", ["x"]),
        (".metadata.labels['app.io/name']", ["x"]),
        (".list[0].n", [1]),
        (".list[-1].n", [2]),
        (".list[*].n", [1, 2]),
        ('.list[?(@.type=="B")].n', [2]),
        (".list[?(@.ok==true)].n", [2]),
        ('.list[?(@.type!="B")].n', [1]),
        (".list[7].n", []),
        (".nothing.at.all", []),
        ("list", []),
    ],
)
def test_json_path(path: str, values: list[Any]) -> None:
    assert find(OBJ, path) == values


def test_json_path_that_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="can't read"):
        parse(".a[?(@.b)]")


def state(status: dict[str, Any], **spec: Any) -> tuple[str, str, int]:
    found = pod_state({**pod(**spec), "status": status})
    return f"{found.ready}/{found.containers}", found.reason, found.restarts


def container(**state: Any) -> dict[str, Any]:
    return {"name": "main", "ready": "running" in state, "restartCount": 2, "state": state}


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ({"phase": "Pending"}, ("0/1", "Pending", 0)),
        ({"phase": "Running", "containerStatuses": [container(running={})]}, ("1/1", "Running", 2)),
        (
            {"phase": "Running", "containerStatuses": [container(waiting={"reason": "CrashLoopBackOff"})]},
            ("0/1", "CrashLoopBackOff", 2),
        ),
        ({"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 3})]}, ("0/1", "ExitCode:3", 2)),
        ({"phase": "Failed", "containerStatuses": [container(terminated={"signal": 9})]}, ("0/1", "Signal:9", 2)),
        (
            {"phase": "Succeeded", "containerStatuses": [container(terminated={"reason": "Completed"})]},
            ("0/1", "Completed", 2),
        ),
        ({"phase": "Failed", "reason": "Evicted"}, ("0/1", "Evicted", 0)),
    ],
)
def test_pod_state(status: dict[str, Any], shown: tuple[str, str, int]) -> None:
    assert state(status) == shown


def test_pod_that_initializes() -> None:
    first = {"name": "first", "restartCount": 1, "state": {"running": {}}}
    spec = {"initContainers": [{"name": "first", "image": "a"}]}
    assert state({"phase": "Pending", "initContainerStatuses": [first]}, **spec) == ("0/1", "Init:0/1", 1)
    failed = {**first, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    assert state({"phase": "Pending", "initContainerStatuses": [failed]}, **spec) == ("0/1", "Init:Error", 1)


def test_pod_that_goes() -> None:
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_state({**going, "status": {"phase": "Running"}}).reason == "Terminating"


def test_forms_of_a_table() -> None:
    type = Registry().find("", "v1", "pods")
    assert type
    obj = {**pod(), "status": {"phase": "Succeeded"}}
    whole = table(type, [obj], "v1", "Object", now=0)
    assert whole["rows"][0]["object"] is obj
    assert whole["rows"][0]["conditions"][0]["reason"] == "Succeeded"
    assert len(whole["rows"][0]["cells"]) == len(whole["columnDefinitions"])
    bare = table(type, [obj], "v1beta1", "None", now=0, headers=False)
    assert bare["apiVersion"] == "meta.k8s.io/v1beta1"
    assert bare["columnDefinitions"] == []
    assert "object" not in bare["rows"][0]
