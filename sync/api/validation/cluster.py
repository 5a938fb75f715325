"""Node, Namespace and Lease (pkg/apis/core/validation, pkg/apis/coordination/validation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync.api import quantity
from sync.api.status import Cause
from sync.api.validation.fields import duplicate, each_invalid, forbidden, invalid, not_supported, required
from sync.api.validation.metadata import metadata, metadata_update
from sync.api.validation.names import cidr, dns_label, label_value, qualified_name
from sync.api.validation.pod import EFFECTS

Json = Mapping[str, Any]

FINALIZER = "kubernetes"
STANDARD_FINALIZERS = (FINALIZER, "orphan", "foregroundDeletion")


def node(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    spec, status = obj["spec"], obj["status"]
    if old is None:
        found = metadata(obj["metadata"], namespaced=False)
        for index, text in enumerate(spec.get("podCIDRs", ())):
            found += cidr(f"spec.podCIDRs[{index}]", text)
        versions = [":" in text for text in spec.get("podCIDRs", ())]
        if len(versions) > len(set(versions)):
            detail = "may specify no more than one CIDR for each IP family"
            found.append(invalid("spec.podCIDRs", spec["podCIDRs"], detail))
        return found + _taints(spec.get("taints") or ()) + _amounts(status)
    found = metadata_update(obj["metadata"], old["metadata"]) + _amounts(status)
    addresses = [(each.get("type"), each.get("address")) for each in status.get("addresses") or ()]
    for index, each in enumerate(addresses):
        if each in addresses[:index]:
            found.append(duplicate(f"status.addresses[{index}]", {"Type": each[0], "Address": each[1]}))
    before, now = old["spec"].get("podCIDRs", []), spec.get("podCIDRs", [])
    if before and before != now:
        changed = 1 if len(before) != len(now) else sum(a != b for a, b in zip(before, now, strict=True))
        detail = 'node updates may not change podCIDR except from "" to valid'
        found += [forbidden("spec.podCIDRs", detail)] * changed
    if old["spec"].get("providerID") and old["spec"]["providerID"] != spec.get("providerID"):
        found.append(forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid'))
    return found + _taints(spec.get("taints") or ())


def _taints(taints: Any) -> list[Cause]:
    found: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, each in enumerate(taints):
        at = f"metadata.taints[{index}]"
        key, value, effect = each.get("key", ""), each.get("value", ""), each.get("effect", "")
        found += each_invalid(f"{at}.key", key, qualified_name(key))
        if wrong := label_value(value):
            found.append(invalid(f"{at}.value", value, ";".join(wrong)))
        if not effect:
            found.append(required(f"{at}.effect"))
        elif effect not in EFFECTS:
            found.append(not_supported(f"{at}.effect", effect, EFFECTS))
        if (key, effect) in seen:
            cause = duplicate(at, each)
            found.append(cause._replace(message=f"{cause.message}: taints must be unique by key and effect pair"))
        seen.add((key, effect))
    return found


def _amounts(status: Json) -> list[Cause]:
    found: list[Cause] = []
    for field in ("capacity", "allocatable"):
        for name, text in status.get(field, {}).items():
            if quantity.parse(text).value < 0:
                found.append(invalid(f"status.{field}.{name}", text, "must be greater than or equal to 0"))
    return found


def namespace(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    finalizers = [
        cause for each in obj["spec"].get("finalizers") or () for cause in namespace_finalizer(each, "spec.finalizers")
    ]
    if old is None:
        return metadata(obj["metadata"], namespaced=False, name_rule=dns_label) + finalizers
    found = metadata_update(obj["metadata"], old["metadata"])
    if subresource == "status":
        going = "deletionTimestamp" in obj["metadata"]
        wanted, phase = "Terminating" if going else "Active", obj["status"].get("phase", "")
        if phase != wanted:
            state = "is not empty" if going else "is empty"
            detail = f"may only be '{wanted}' if `deletionTimestamp` {state}"
            found.append(invalid("status.Phase", phase, detail))
    return found + finalizers if subresource == "finalize" else found


def namespace_finalizer(name: str, path: str) -> list[Cause]:
    """A qualified name, with a domain unless it is one of Kubernetes' own."""
    found = each_invalid(path, name, qualified_name(name))
    if "/" not in name and name not in STANDARD_FINALIZERS:
        found.append(invalid(path, name, "name is neither a standard finalizer name nor is it fully qualified"))
    return found


def lease(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    meta, spec = obj["metadata"], obj["spec"]
    found = metadata(meta, namespaced=True) if old is None else metadata_update(meta, old["metadata"])
    if spec.get("leaseDurationSeconds", 1) <= 0:
        found.append(invalid("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0"))
    if spec.get("leaseTransitions", 0) < 0:
        detail = "must be greater than or equal to 0"
        found.append(invalid("spec.leaseTransitions", spec["leaseTransitions"], detail))
    return found
