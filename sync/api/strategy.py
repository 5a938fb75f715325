"""What of an object may be written by which endpoint: metadata's own rules, status apart from spec, generation.

As upstream's `strategy.go` of each kind and apiserver's `rest.BeforeUpdate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sync.api import quantity
from sync.api.registry import ResourceType
from sync.api.validation.metadata import NAMESPACE
from sync.api.validation.service import allocates, externally_accessible, headless, needs_health_check

Json = dict[str, Any]

_SERVER = ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation")
_CREATE_ON_UPDATE = frozenset(("Service", "Lease", "Event"))
_GENERATION = frozenset(("Pod", "EndpointSlice", "CustomResourceDefinition"))


class Strategy:
    """One kind's rules."""

    def __init__(self, type: ResourceType) -> None:
        self.type = type
        self.has_status = "status" in type.subresources
        self.create_on_update = not type.custom and type.kind in _CREATE_ON_UPDATE
        """An update of what is not there creates it."""
        self._counted = type.custom or type.kind in _GENERATION

    def prepare_create(self, obj: Json) -> None:
        """In place, after prune_and_default: what a client may not set is taken away (status where it is a subresource,
        metadata that is the server's), generation set. uid, creationTimestamp, name and namespace are the caller's, and
        so is who asks for a certificate."""
        for name in _SERVER:
            obj["metadata"].pop(name, None)
        if self._counted:
            obj["metadata"]["generation"] = 1
        if self.type.custom:
            if self.has_status:
                obj.pop("status", None)
        elif prepare := _CREATE.get(self.type.kind):
            prepare(obj)

    def complete(self, obj: Json) -> None:
        """In place, once ownership of a new object is noted: what nobody asked for is nobody's."""
        if not self.type.custom and (give := _COMPLETE.get(self.type.kind)):
            give(obj)

    def prepare_update(self, obj: Json, old: Json, subresource: str, *, now: str) -> None:
        """In place: what this endpoint may not write is taken from `old`; generation rises when the spec changes. `now`
        (RFC 3339) is for conditions that came without a time."""
        meta, before = obj["metadata"], old["metadata"]
        _take(meta, before, "generation")
        if self.type.custom:
            self._custom(obj, old, subresource)
        elif prepare := _UPDATE.get((self.type.kind, subresource)):
            prepare(obj, old, now)
        elif subresource == "status":
            _take(obj, old, "spec")
        elif self.has_status:
            _take(obj, old, "status")
        meta = obj["metadata"]
        meta.pop("selfLink", None)
        if not meta.get("uid"):
            _take(meta, before, "uid")
        if "creationTimestamp" in before:
            _take(meta, before, "creationTimestamp")
        if "deletionTimestamp" in before:
            _take(meta, before, "deletionTimestamp")
        if "deletionGracePeriodSeconds" in before and "deletionGracePeriodSeconds" not in meta:
            _take(meta, before, "deletionGracePeriodSeconds")
        if self._counted and not subresource and self._changed(obj, old):
            meta["generation"] = before.get("generation", 0) + 1

    def _custom(self, obj: Json, old: Json, subresource: str) -> None:
        if subresource == "status":
            managed, version = obj["metadata"].get("managedFields"), obj["metadata"].get("resourceVersion")
            status = obj.get("status")
            obj.clear()
            obj |= {name: value for name, value in old.items() if name != "status"}
            obj["metadata"] = dict(old["metadata"])
            for name, value in (("managedFields", managed), ("resourceVersion", version)):
                if value is not None:
                    obj["metadata"][name] = value
            if status is not None:
                obj["status"] = status
        elif self.has_status:
            _take(obj, old, "status")

    def _changed(self, obj: Json, old: Json) -> bool:
        left_out = {"metadata", "status"} if self.has_status or not self.type.custom else {"metadata"}
        if self.type.kind == "EndpointSlice" and obj["metadata"].get("labels") != old["metadata"].get("labels"):
            return True
        return _rest(obj, left_out) != _rest(old, left_out)


def strategy(type: ResourceType) -> Strategy:
    return Strategy(type)


def _rest(obj: Json, left_out: set[str]) -> Json:
    return {name: value for name, value in obj.items() if name not in left_out}


def _take(obj: Json, old: Mapping[str, Any], name: str) -> None:
    """A field as it was."""
    if name in old:
        obj[name] = old[name]
    else:
        obj.pop(name, None)


def _create_service(obj: Json) -> None:
    obj["status"] = {"loadBalancer": {}}


def _give_families(obj: Json) -> None:
    spec = obj["spec"]
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    if spec.get("type") == "ExternalName":
        return
    if headless(spec) and not spec.get("selector") and "ipFamilies" not in spec and "ipFamilyPolicy" not in spec:
        # Nobody here knows which addresses its endpoints will have.
        spec |= {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _update_service(obj: Json, old: Json, now: str) -> None:
    _take(obj, old, "status")
    spec, before = obj["spec"], old["spec"]
    has, had = spec.get("type") != "ExternalName", before.get("type") != "ExternalName"
    if has and had:
        if not spec.get("clusterIP"):
            _take(spec, before, "clusterIP")
        if not spec.get("clusterIPs") and spec.get("clusterIP") == before.get("clusterIP"):
            _take(spec, before, "clusterIPs")
        for name in ("ipFamilies", "ipFamilyPolicy"):
            if name not in spec:
                _take(spec, before, name)
        _one_address(spec, before)
    elif has:
        _give_families(obj)
        _take(obj, old, "status")
    else:
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if spec.get(name) == before.get(name):
                spec.pop(name, None)
    _node_ports(spec, before)
    if spec.get("type") != "LoadBalancer" == before.get("type"):
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(name) == before.get(name):
                spec.pop(name, None)
        obj["status"] = {**obj["status"], "loadBalancer": {}}
    inward = externally_accessible(before) and not externally_accessible(spec)
    if inward and spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)


def _one_address(spec: Json, before: Json) -> None:
    """`clusterIP` and `clusterIPs` are one thing: who changes one means the other too."""
    first, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if first != before.get("clusterIP", "") and addresses == (before.get("clusterIPs") or []):
        spec["clusterIPs"] = [first, *addresses[1:]] if first else []
        if not first:
            spec.pop("clusterIPs")


def _node_ports(spec: Json, before: Json) -> None:
    """A port keeps its number by its name; where none is needed any more they go, unless one is new."""
    kinds = ("NodePort", "LoadBalancer")
    needs, needed = spec.get("type") in kinds, before.get("type") in kinds
    ports, earlier = spec.get("ports") or [], before.get("ports") or []
    if allocates(before) and allocates(spec):
        used = _numbers(ports)
        known = {port.get("name", ""): port.get("nodePort", 0) for port in earlier}
        for port in ports:
            number = known.get(port.get("name", ""))
            if not port.get("nodePort") and number and number not in used:
                port["nodePort"] = number
    elif needed and not needs and _numbers(ports) <= _numbers(earlier):
        for port in ports:
            port.pop("nodePort", None)
    if needs_health_check(before):
        if needs_health_check(spec):
            spec.setdefault("healthCheckNodePort", before.get("healthCheckNodePort", 0))
        elif spec.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
            spec.pop("healthCheckNodePort", None)


def _numbers(ports: Iterable[Mapping[str, Any]]) -> set[int]:
    return {port["nodePort"] for port in ports if port.get("nodePort")}


def _create_pod(obj: Json) -> None:
    obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}


def qos_class(spec: Json) -> str:
    """Guaranteed, Burstable or BestEffort (component-helpers `qos`): by CPU and memory of the containers."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    amounts = [
        [
            {name: quantity.parse(text).value for name, text in each.get("resources", {}).get(what, {}).items()}
            for what in ("requests", "limits")
        ]
        for each in containers
    ]
    counted = [
        [{name: value for name, value in each.items() if name in ("cpu", "memory") and value} for each in pair]
        for pair in amounts
    ]
    if not any(each for pair in counted for each in pair):
        return "BestEffort"
    if all(len(limits) == 2 and (requests or limits) == limits for requests, limits in counted):
        return "Guaranteed"
    return "Burstable"


def _pod_status(obj: Json, old: Json, now: str) -> None:
    _take(obj, old, "spec")
    obj["metadata"].pop("deletionTimestamp", None)
    _take(obj["metadata"], old["metadata"], "ownerReferences")
    if not obj["status"].get("qosClass"):
        _take(obj["status"], old["status"], "qosClass")


def _create_namespace(obj: Json) -> None:
    obj["status"] = {"phase": "Active"}


def _give_finalizer(obj: Json) -> None:
    finalizers = obj["spec"].setdefault("finalizers", [])
    if NAMESPACE not in finalizers:
        finalizers.append(NAMESPACE)


def _update_namespace(obj: Json, old: Json, now: str) -> None:
    _take(obj, old, "status")
    _take(obj["spec"], old["spec"], "finalizers")


def _finalize_namespace(obj: Json, old: Json, now: str) -> None:
    _take(obj, old, "status")


def _update_secret(obj: Json, old: Json, now: str) -> None:
    if not obj.get("type"):
        _take(obj, old, "type")


def _create_request(obj: Json) -> None:
    for name in ("username", "uid", "groups", "extra"):
        obj["spec"].pop(name, None)
    obj["status"] = {}


def _update_request(obj: Json, old: Json, now: str) -> None:
    _take(obj, old, "spec")
    _take(obj, old, "status")


def _request_status(obj: Json, old: Json, now: str) -> None:
    _take(obj, old, "spec")
    conditions = obj["status"].get("conditions") or []
    kinds = [each.get("type") for each in conditions]
    before = [each for each in old["status"].get("conditions") or () if each.get("type") in ("Approved", "Denied")]
    if kept := [each for each in before if each["type"] not in kinds]:
        obj["status"]["conditions"] = [*kept, *conditions]
    _condition_times(obj, old, now)


def _request_approval(obj: Json, old: Json, now: str) -> None:
    _condition_times(obj, old, now)
    conditions = obj["status"].get("conditions")
    _take(obj, old, "spec")
    obj["status"] = dict(old["status"])
    obj["status"].pop("conditions", None)
    if conditions:
        obj["status"]["conditions"] = conditions


def _condition_times(obj: Json, old: Json, now: str) -> None:
    before = old["status"].get("conditions") or ()
    for each in obj["status"].get("conditions") or ():
        if not each.get("lastUpdateTime"):
            each["lastUpdateTime"] = now
        if not each.get("lastTransitionTime"):
            same = [was for was in before if (was.get("type"), was.get("status")) == (each["type"], each.get("status"))]
            each["lastTransitionTime"] = same[0]["lastTransitionTime"] if same else now


def _create_slice(obj: Json) -> None:
    for each in obj.get("endpoints") or ():
        each.pop("deprecatedTopology", None)  # v1 has `zone` and `nodeName` in its place


def _update_slice(obj: Json, old: Json, now: str) -> None:
    _create_slice(obj)


def _definition_status(obj: Json, old: Json, now: str) -> None:
    _take(obj, old, "spec")
    version = obj["metadata"].get("resourceVersion")
    obj["metadata"] = dict(old["metadata"])
    if version:
        obj["metadata"]["resourceVersion"] = version


def _create_definition(obj: Json) -> None:
    stored = [each["name"] for each in obj["spec"].get("versions") or () if each.get("storage")]
    obj["status"] = {"storedVersions": stored[:1], "conditions": [], "acceptedNames": {"kind": "", "plural": ""}}


_CREATE: dict[str, Callable[[Json], None]] = {
    "Service": _create_service,
    "Pod": _create_pod,
    "EndpointSlice": _create_slice,
    "Namespace": _create_namespace,
    "CertificateSigningRequest": _create_request,
    "CustomResourceDefinition": _create_definition,
}
_COMPLETE: dict[str, Callable[[Json], None]] = {"Service": _give_families, "Namespace": _give_finalizer}
_UPDATE: dict[tuple[str, str], Callable[[Json, Json, str], None]] = {
    ("Service", ""): _update_service,
    ("Pod", "status"): _pod_status,
    ("EndpointSlice", ""): _update_slice,
    ("Namespace", ""): _update_namespace,
    ("Namespace", "finalize"): _finalize_namespace,
    ("Secret", ""): _update_secret,
    ("CertificateSigningRequest", ""): _update_request,
    ("CertificateSigningRequest", "status"): _request_status,
    ("CertificateSigningRequest", "approval"): _request_approval,
    ("CustomResourceDefinition", "status"): _definition_status,
}
