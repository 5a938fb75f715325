"""What a deletion makes of an object: gone, or marked and waiting for whoever has to finish first.

Pure. Source: apiserver's registry/rest/delete.go and registry/generic/registry/store.go. A pod that is bound waits for
its kubelet, an object with finalizers for whoever set them, a namespace and a custom resource definition for what is
in them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from sync.api import status
from sync.api.options import Deletion
from sync.api.registry import ResourceType
from sync.api.status import GroupResource

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
CRD_CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
IMMORTAL = ("default", "kube-system", "kube-public")
DEFAULT_GRACE = 30
_RETURNED = ("namespaces", "pods", "serviceaccounts", "services")


class Outcome(NamedTuple):
    """The object as it is now (its last state if `gone`); `changed`: it differs from what was there."""

    obj: dict[str, Any]
    gone: bool
    changed: bool = True


def timestamp(seconds: float) -> str:
    """metav1.Time."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def delete(obj: dict[str, Any], type: ResourceType, options: Deletion, now: float) -> Outcome:
    """Change `obj`, which is the caller's own. Raises ApiError 409 for preconditions, 403 for what has to stay."""
    metadata = obj["metadata"]
    _check(metadata, type, options)
    finalizers = _finalizers(metadata.get("finalizers", []), options.policy)
    if type.group == "" and type.plural == "namespaces":
        return _namespace(obj, finalizers, now)
    if type.group == "" and type.plural == "pods":
        return _pod(obj, finalizers, options, now)
    if type.plural == "customresourcedefinitions" and not metadata.get("deletionTimestamp"):
        _terminating(obj, now)
    if finalizers:
        return Outcome(obj, False, _mark(metadata, finalizers, now))
    return Outcome(obj, True)


def finished(obj: dict[str, Any]) -> bool:
    """Whether an update leaves nothing that a marked object waits for."""
    metadata = obj["metadata"]
    waits = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
    if obj.get("kind") == "Namespace" and obj.get("spec", {}).get("finalizers"):
        return False
    return bool(metadata.get("deletionTimestamp")) and not waits


def answer(type: ResourceType, obj: dict[str, Any], gone: bool) -> dict[str, Any]:
    """What a client is told: the object while it is there (and of some kinds its last state), or a Status."""
    if not gone or (type.group == "" and type.plural in _RETURNED):
        return obj
    metadata = obj["metadata"]
    details = {"name": metadata["name"], "group": type.group, "kind": type.plural, "uid": metadata.get("uid", "")}
    return status.success(**{name: value for name, value in details.items() if value})


def _check(metadata: dict[str, Any], type: ResourceType, options: Deletion) -> None:
    name, uid, revision = metadata["name"], metadata.get("uid", ""), metadata.get("resourceVersion", "")
    if type.group == "" and type.plural == "namespaces" and name in IMMORTAL:
        raise status.forbidden(type.group_resource, name, "this namespace may not be deleted")
    kind = GroupResource(type.group, type.kind)
    if options.uid is not None and options.uid != uid:
        text = f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid})."
        raise status.conflict(kind, name, f"{text} The object might have been deleted and then recreated")
    if options.resource_version is not None and options.resource_version != revision:
        text = f"the ResourceVersion in the precondition ({options.resource_version}) does not match"
        text = f"{text} the ResourceVersion in record ({revision})."
        raise status.conflict(kind, name, f"{text} The object might have been modified")


def _finalizers(present: list[str], policy: str) -> list[str]:
    """What the policy makes of them; the default leaves them."""
    if not policy:
        return present
    others = [each for each in present if each not in (ORPHAN, FOREGROUND)]
    return others + {"Orphan": [ORPHAN], "Foreground": [FOREGROUND]}.get(policy, [])


def _mark(metadata: dict[str, Any], finalizers: list[str], now: float, grace: int = 0) -> bool:
    before = dict(metadata)
    metadata["finalizers"] = finalizers
    if not finalizers:
        del metadata["finalizers"]
    if not metadata.get("deletionTimestamp"):
        if metadata.get("generation"):
            metadata["generation"] += 1
        metadata["deletionTimestamp"] = timestamp(now + grace)
        metadata["deletionGracePeriodSeconds"] = grace
    elif metadata.get("deletionGracePeriodSeconds", 0) > grace:
        began = _seconds(metadata["deletionTimestamp"]) - metadata["deletionGracePeriodSeconds"]
        if began + grace < now and grace:
            grace = 1
        metadata["deletionTimestamp"] = timestamp(max(began + grace, now))
        metadata["deletionGracePeriodSeconds"] = grace
    return before != metadata


def _pod(obj: dict[str, Any], finalizers: list[str], options: Deletion, now: float) -> Outcome:
    metadata = obj["metadata"]
    left = metadata.get("deletionGracePeriodSeconds", 0) if metadata.get("deletionTimestamp") else None
    if left is None:
        grace = options.grace
        if grace is None:
            grace = obj.get("spec", {}).get("terminationGracePeriodSeconds", DEFAULT_GRACE)
        ended = obj.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if ended or not obj.get("spec", {}).get("nodeName"):
            grace = 0
        grace = 1 if grace < 0 else grace
    elif left and (options.grace is None or options.grace >= left):
        return Outcome(obj, False, False)  # its kubelet is at it
    else:
        grace = options.grace if left and options.grace is not None else 0
    changed = _mark(metadata, finalizers, now, grace)
    return Outcome(obj, not finalizers and grace == 0, changed)


def _namespace(obj: dict[str, Any], finalizers: list[str], now: float) -> Outcome:
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = timestamp(now)
        if finalizers:
            metadata["finalizers"] = finalizers
        obj.setdefault("status", {})["phase"] = "Terminating"
        return Outcome(obj, not finalizers and not obj.get("spec", {}).get("finalizers"))
    waits = metadata.get("finalizers") or obj.get("spec", {}).get("finalizers")
    return Outcome(obj, not waits, False)


def _terminating(crd: dict[str, Any], now: float) -> None:
    conditions = crd.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [each for each in conditions if each.get("type") != "Terminating"]
    conditions.append(
        {
            "type": "Terminating",
            "status": "True",
            "lastTransitionTime": timestamp(now),
            "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        }
    )


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
