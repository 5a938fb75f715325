"""What `kubectl get pods` says of a pod: READY, STATUS and RESTARTS (pkg/printers/internalversion `printPod`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Json = Mapping[str, Any]


class PodState(NamedTuple):
    """`restarted` is when a container last ended (RFC 3339), or empty."""

    ready: int
    containers: int
    reason: str
    restarts: int
    restarted: str


def pod_state(pod: Json) -> PodState:
    spec, status = pod.get("spec", {}), pod.get("status", {})
    conditions = status.get("conditions") or ()
    reason = status.get("reason") or status.get("phase", "")
    if any(each.get("type") == "PodScheduled" and each.get("reason") == "SchedulingGated" for each in conditions):
        reason = "SchedulingGated"
    sidecars = {each.get("name") for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"}
    own, first = status.get("containerStatuses") or (), status.get("initContainerStatuses") or ()
    beside = [each for each in first if each.get("name") in sidecars]
    ready = sum(bool(each.get("ready")) for each in beside if each.get("started"))
    waiting = _initializing(first, len(spec.get("initContainers") or ()), sidecars)
    if waiting and not _true(conditions, "Initialized"):
        reason, counted = waiting, list(first)
    else:
        counted = [*beside, *own]
        reason, up = _running(own, reason)
        ready += up
        if reason == "Completed" and up:
            reason = "Running" if _true(conditions, "Ready") else "NotReady"
    if pod.get("metadata", {}).get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    ended = [_ended(each).get("finishedAt") or "" for each in counted]
    total = len(spec.get("containers") or ()) + len(sidecars)
    return PodState(ready, total, reason, sum(each.get("restartCount", 0) for each in counted), max(ended, default=""))


def _initializing(statuses: Any, total: int, sidecars: set[Any]) -> str:
    """What the first init container that is not through is about; empty if all are."""
    for index, each in enumerate(statuses):
        state = each.get("state", {})
        terminated, waiting = state.get("terminated"), state.get("waiting", {}).get("reason", "")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if each.get("name") in sidecars and each.get("started"):
            continue
        if terminated is not None:
            return f"Init:{terminated.get('reason') or _exit(terminated)}"
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{index}/{total}"
    return ""


def _running(statuses: Any, reason: str) -> tuple[str, int]:
    up = 0
    for each in reversed(statuses):
        state = each.get("state", {})
        if waiting := state.get("waiting", {}).get("reason"):
            reason = waiting
        elif (terminated := state.get("terminated")) is not None:
            reason = terminated.get("reason") or _exit(terminated)
        elif each.get("ready") and "running" in state:
            up += 1
    return reason, up


def _exit(terminated: Json) -> str:
    if signal := terminated.get("signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _ended(status: Json) -> Json:
    found: Json = status.get("lastState", {}).get("terminated") or {}
    return found


def _true(conditions: Any, kind: str) -> bool:
    return any(each.get("type") == kind and each.get("status") == "True" for each in conditions)
