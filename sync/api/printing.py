"""The columns of the built-in kinds (pkg/printers/internalversion), and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sync.api.duration import UNKNOWN, ago, human

Json = dict[str, Any]
Cell = str | int | float | bool | None

NOTHING = "<none>"
_ROLE = "node-role.kubernetes.io/"


class Printer(NamedTuple):
    """Columns as (name, priority: 1 is for `-o wide` only), and an object's cells at a time."""

    columns: Sequence[tuple[str, int]]
    cells: Callable[[Json, float], list[Cell]]


def _name(obj: Json) -> str:
    return str(obj["metadata"].get("name", ""))


def _age(obj: Json, now: float) -> str:
    return ago(obj["metadata"].get("creationTimestamp"), now)


def _service(obj: Json, now: float) -> list[Cell]:
    spec = obj["spec"]
    ports = [
        f"{port['port']}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port.get('protocol', '')}"
        for port in spec.get("ports", ())
    ]
    selector = ",".join(f"{key}={value}" for key, value in sorted(spec.get("selector", {}).items()))
    return [
        _name(obj),
        spec.get("type", ""),
        (spec.get("clusterIPs") or [NOTHING])[0],
        _external(obj),
        ",".join(ports) or NOTHING,
        _age(obj, now),
        selector or NOTHING,
    ]


def _external(obj: Json) -> str:
    spec = obj["spec"]
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    own = list(spec.get("externalIPs", ()))
    if spec.get("type") != "LoadBalancer":
        return ",".join(own) or NOTHING
    ingress = obj.get("status", {}).get("loadBalancer", {}).get("ingress") or ()
    given = sorted({each.get("ip") or each.get("hostname") or "" for each in ingress} - {""})
    return ",".join([*given, *own]) or "<pending>"


def _pod(obj: Json, now: float) -> list[Cell]:
    from sync.api.pod_state import pod_state

    spec, status = obj["spec"], obj.get("status", {})
    state = pod_state(obj)
    restarts = str(state.restarts)
    if state.restarts and state.restarted:
        restarts = f"{restarts} ({ago(state.restarted, now)} ago)"
    gates = [each.get("conditionType") for each in spec.get("readinessGates") or ()]
    true = {each.get("type") for each in status.get("conditions") or () if each.get("status") == "True"}
    addresses = status.get("podIPs") or [{}]
    return [
        _name(obj),
        f"{state.ready}/{state.containers}",
        state.reason,
        restarts,
        _age(obj, now),
        addresses[0].get("ip") or NOTHING,
        spec.get("nodeName") or NOTHING,
        status.get("nominatedNodeName") or NOTHING,
        f"{sum(gate in true for gate in gates)}/{len(gates)}" if gates else NOTHING,
    ]


def _node(obj: Json, now: float) -> list[Cell]:
    status = obj.get("status", {})
    info = status.get("nodeInfo", {})
    ready = [each for each in status.get("conditions") or () if each.get("type") == "Ready"]
    states = ["Ready" if ready[0].get("status") == "True" else "NotReady"] if ready else ["Unknown"]
    if obj.get("spec", {}).get("unschedulable"):
        states.append("SchedulingDisabled")
    return [
        _name(obj),
        ",".join(states),
        ",".join(_roles(obj["metadata"].get("labels", {}))) or NOTHING,
        _age(obj, now),
        info.get("kubeletVersion", ""),
        _node_address(status, "InternalIP"),
        _node_address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _roles(labels: dict[str, str]) -> list[str]:
    roles = {key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)}
    return sorted(roles | ({labels["kubernetes.io/role"]} if labels.get("kubernetes.io/role") else set()) - {""})


def _node_address(status: Json, kind: str) -> str:
    return next((each["address"] for each in status.get("addresses") or () if each.get("type") == kind), NOTHING)


def _event(obj: Json, now: float) -> list[Cell]:
    about, series = obj.get("involvedObject", {}), obj.get("series")
    first = ago(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = ago(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 1
    if series is not None:
        last, count = ago(series.get("lastObservedTime"), now), series.get("count", 0)
    kind, name = str(about.get("kind", "")).lower(), about.get("name")
    return [
        last,
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        _source(obj),
        str(obj.get("message", "")).strip(),
        first,
        count,
        _name(obj),
    ]


def _source(obj: Json) -> str:
    source = obj.get("source", {})
    parts = [source.get("component") or obj.get("reportingComponent", ""), source.get("host", "")]
    if not source.get("component") and not parts[1]:
        parts[1] = obj.get("reportingInstance", "")
    return ", ".join(filter(None, parts))


def _namespace(obj: Json, now: float) -> list[Cell]:
    return [_name(obj), obj.get("status", {}).get("phase", ""), _age(obj, now)]


def _secret(obj: Json, now: float) -> list[Cell]:
    return [_name(obj), obj.get("type", ""), len(obj.get("data", {})), _age(obj, now)]


def _config_map(obj: Json, now: float) -> list[Cell]:
    return [_name(obj), len(obj.get("data", {})) + len(obj.get("binaryData", {})), _age(obj, now)]


def _service_account(obj: Json, now: float) -> list[Cell]:
    return [_name(obj), len(obj.get("secrets", ())), _age(obj, now)]


def _lease(obj: Json, now: float) -> list[Cell]:
    return [_name(obj), obj["spec"].get("holderIdentity", ""), _age(obj, now)]


def _endpoint_slice(obj: Json, now: float) -> list[Cell]:
    ports = [str(port["port"]) if "port" in port else port.get("name", "*") for port in obj.get("ports") or ()]
    addresses = [text for each in obj.get("endpoints") or () for text in each.get("addresses") or ()]
    return [
        _name(obj),
        obj.get("addressType", ""),
        _some(ports, "<unset>"),
        _some(addresses, "<unset>"),
        _age(obj, now),
    ]


def _some(texts: Sequence[str], none: str, most: int = 3) -> str:
    if not texts:
        return none
    more = f" + {len(texts) - most} more..." if len(texts) > most else ""
    return ",".join(texts[:most]) + more


def _signing_request(obj: Json, now: float) -> list[Cell]:
    spec = obj["spec"]
    duration = human(spec["expirationSeconds"]) if "expirationSeconds" in spec else NOTHING
    return [
        _name(obj),
        _age(obj, now),
        spec.get("signerName") or NOTHING,
        spec.get("username", ""),
        duration,
        _request_state(obj.get("status", {})),
    ]


def _request_state(status: Json) -> str:
    kinds = [each.get("type") for each in status.get("conditions") or ()]
    state = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    state += ",Failed" if "Failed" in kinds else ""
    return f"{state},Issued" if status.get("certificate") else state


def _columns(names: Iterable[str], wide: Iterable[str] = ()) -> Sequence[tuple[str, int]]:
    return [*((name, 0) for name in names), *((name, 1) for name in wide)]


PRINTERS = {
    "ConfigMap": Printer(_columns(("Name", "Data", "Age")), _config_map),
    "CertificateSigningRequest": Printer(
        _columns(("Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition")), _signing_request
    ),
    "EndpointSlice": Printer(_columns(("Name", "AddressType", "Ports", "Endpoints", "Age")), _endpoint_slice),
    "Event": Printer(
        [
            *_columns(("Last Seen", "Type", "Reason", "Object"), ("Subobject", "Source")),
            *_columns(("Message",), ("First Seen", "Count", "Name")),
        ],
        _event,
    ),
    "Lease": Printer(_columns(("Name", "Holder", "Age")), _lease),
    "Namespace": Printer(_columns(("Name", "Status", "Age")), _namespace),
    "Node": Printer(
        _columns(
            ("Name", "Status", "Roles", "Age", "Version"),
            ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        ),
        _node,
    ),
    "Pod": Printer(
        _columns(("Name", "Ready", "Status", "Restarts", "Age"), ("IP", "Node", "Nominated Node", "Readiness Gates")),
        _pod,
    ),
    "Secret": Printer(_columns(("Name", "Type", "Data", "Age")), _secret),
    "Service": Printer(
        _columns(("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"), ("Selector",)), _service
    ),
    "ServiceAccount": Printer(_columns(("Name", "Secrets", "Age")), _service_account),
}
"""By kind; kinds without one have a name and the time of their creation."""
