"""pods/binding: a pod gets its node, once. Source: registry/core/pod/storage, BindingREST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sync.api import status
from sync.api.status import GroupResource

_BINDING = GroupResource("", "pods/binding")


def bound(binding: dict[str, Any], name: str) -> Callable[[dict[str, Any] | None], dict[str, Any]]:
    """What makes the pod `name` one that is bound as `binding` says. Raises ApiError, and so does what it gives."""
    metadata, target = binding.get("metadata") or {}, binding.get("target") or {}
    if not isinstance(metadata, dict) or not isinstance(target, dict) or not isinstance(target.get("name", ""), str):
        raise status.bad_request("metadata and target have to be objects, target.name a string")
    if metadata.get("name", name) != name:
        raise status.bad_request("name in URL does not match name in Binding object")
    if target.get("kind", "Node") not in ("", "Node"):
        raise status.bad_request('target.kind: Unsupported value: supported values: "Node", "<empty>"')
    if not target.get("name"):
        raise status.bad_request("target.name: Required value")

    def assign(pod: dict[str, Any] | None) -> dict[str, Any]:
        assert pod is not None
        spec, about = pod["spec"], pod["metadata"]
        if metadata.get("uid") and metadata["uid"] != about["uid"]:
            raise status.conflict(_BINDING, name, "the pod was made anew")
        if about.get("deletionTimestamp"):
            raise status.conflict(_BINDING, name, f"pod {name} is being deleted, cannot be assigned to a host")
        if spec.get("nodeName"):
            raise status.conflict(_BINDING, name, f'pod {name} is already assigned to node "{spec["nodeName"]}"')
        if spec.get("schedulingGates"):
            raise status.conflict(_BINDING, name, f"pod {name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = target["name"]
        for field in ("annotations", "labels"):
            added = metadata.get(field)
            if isinstance(added, dict):
                about[field] = {**(about.get(field) or {}), **added}
        conditions = pod.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [each for each in conditions if each.get("type") != "PodScheduled"]
        conditions.append({"type": "PodScheduled", "status": "True"})
        return pod

    return assign
