"""Service, v1 (pkg/apis/core/validation `ValidateService…`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from sync.api.status import Cause
from sync.api.validation.fields import (
    choice,
    duplicate,
    each_invalid,
    forbidden,
    invalid,
    not_supported,
    required,
)
from sync.api.validation.metadata import labels, metadata, metadata_update
from sync.api.validation.names import (
    address,
    cidr,
    dns_1035_label,
    dns_label,
    dns_subdomain,
    endpoint_address,
    parse_address,
    port_name,
    port_number,
    qualified_name,
)

Json = Mapping[str, Any]

PROTOCOLS = ("SCTP", "TCP", "UDP")
AFFINITY_MOST = 86_400
"""Seconds."""
FAMILIES = ("IPv4", "IPv6")
HINTS, MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"


def service(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    if subresource == "status" and old is not None:
        return metadata_update(obj["metadata"], old["metadata"]) + _load_balancer(obj, old)
    if old is None:
        return metadata(obj["metadata"], namespaced=True, name_rule=dns_1035_label) + _spec(obj, None)
    return metadata_update(obj["metadata"], old["metadata"]) + _changes(obj["spec"], old["spec"]) + _spec(obj, old)


def headless(spec: Json) -> bool:
    return bool(spec.get("clusterIPs", ())[:1] == ["None"])


def externally_accessible(spec: Json) -> bool:
    return spec.get("type") in ("LoadBalancer", "NodePort") or (
        spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs"))
    )


def allocates(spec: Json) -> bool:
    """Whether its ports get numbers on the nodes."""
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def needs_health_check(spec: Json) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _spec(obj: Json, old: Json | None) -> list[Cause]:
    spec = obj["spec"]
    kind = spec.get("type", "")
    ports = spec.get("ports", ())
    found: list[Cause] = []
    notes = obj["metadata"].get("annotations", {})
    if HINTS in notes and MODE in notes and notes[HINTS] != notes[MODE]:
        detail = f"must match annotations[{HINTS}] when both are specified"
        found.append(invalid(f"metadata.annotations[{MODE}]", notes[MODE], detail))
    if not ports and not headless(spec) and kind != "ExternalName":
        found.append(required("spec.ports"))
    if kind in ("LoadBalancer", "NodePort") and headless(spec):
        found.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        found += _external_name(spec)
    found += _ports(ports, kind)
    found += labels(spec.get("selector", {}), "spec.selector")
    found += _affinity(spec)
    if kind != "ExternalName":
        found += _cluster_ips(spec, old["spec"].get("clusterIPs", ()) if old else ())
    known = old["spec"].get("externalIPs", ()) if old else ()
    for index, text in enumerate(spec.get("externalIPs", ())):
        at = f"spec.externalIPs[{index}]"
        found += ([] if text in known else address(at, text)) or endpoint_address(at, text)
    found += choice("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    found += _used_twice(ports, kind)
    return found + _outside(spec, old)


def _external_name(spec: Json) -> list[Cause]:
    found = [
        forbidden(f"spec.{name}", "may not be set for ExternalName services")
        for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(name)
    ]
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        return [*found, required("spec.externalName")]
    return found + each_invalid("spec.externalName", name, dns_subdomain(name))


def _ports(ports: Any, kind: str) -> list[Cause]:
    found: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            found.append(required(f"{at}.name"))
        elif name:
            found += each_invalid(f"{at}.name", name, dns_label(name))
            if name in names:
                found.append(duplicate(f"{at}.name", name))
            names.add(name)
        found += each_invalid(f"{at}.port", port["port"], port_number(port["port"]))
        found += choice(f"{at}.protocol", port.get("protocol"), PROTOCOLS)
        target = port.get("targetPort", 0)
        wrong = port_number(target) if isinstance(target, int) else port_name(target)
        found += each_invalid(f"{at}.targetPort", target, wrong)
        if "appProtocol" in port:
            found += each_invalid(f"{at}.appProtocol", port["appProtocol"], qualified_name(port["appProtocol"]))
    return found


def _used_twice(ports: Any, kind: str) -> list[Cause]:
    found: list[Cause] = []
    if kind == "ClusterIP":
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                at = f"spec.ports[{index}].nodePort"
                found.append(forbidden(at, "may not be used when `type` is 'ClusterIP'"))
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        if number := port.get("nodePort", 0):
            key = (port.get("protocol", ""), number)
            if key in node_ports:
                found.append(duplicate(f"spec.ports[{index}].nodePort", number))
            node_ports.add(key)
    seen: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol", ""), port["port"])
        if key in seen:
            # Upstream shows its internal struct, whose other fields are empty.
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            found.append(duplicate(f"spec.ports[{index}]", shown))
        seen.add(key)
    return found


def _affinity(spec: Json) -> list[Cause]:
    kind, config = spec.get("sessionAffinity", ""), spec.get("sessionAffinityConfig")
    found = choice("spec.sessionAffinity", kind, ("ClientIP", "None"))
    at = "spec.sessionAffinityConfig"
    if kind == "None" and config is not None:
        found.append(forbidden(at, "must not be set when session affinity is None"))
    if kind == "ClientIP":
        seconds = (config or {}).get("clientIP", {}).get("timeoutSeconds", 0)
        if not 0 < seconds <= AFFINITY_MOST:
            detail = f"must be greater than 0 and less than {AFFINITY_MOST}"
            found.append(invalid(f"{at}.clientIP.timeoutSeconds", seconds, detail))
    return found


def _cluster_ips(spec: Json, known: Any) -> list[Cause]:
    at = "spec.clusterIPs"
    first, addresses, families = spec.get("clusterIP", ""), spec.get("clusterIPs", []), spec.get("ipFamilies", [])
    found: list[Cause] = []
    if first and not addresses:
        found.append(required(at))
    elif first and addresses[0] != first:
        found.append(invalid(at, addresses, "first value must match `clusterIP`"))
    elif not first and addresses:
        found.append(invalid(at, addresses, "must be empty when `clusterIP` is not specified"))
    for index, family in enumerate(families):
        if family not in FAMILIES:
            found.append(not_supported(f"spec.ipFamilies[{index}]", family, FAMILIES))
        if family in families[:index]:
            found.append(duplicate(f"spec.ipFamilies[{index}]", family))
    if "ipFamilyPolicy" in spec:
        policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
        if spec["ipFamilyPolicy"] not in policies:
            found.append(not_supported("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], policies))
    wrong: list[Cause] = []
    for index, text in enumerate(addresses):
        if index == 0 and text == "None":
            if len(addresses) > 1:
                wrong.append(invalid(at, addresses, "'None' must be the first and only value"))
        elif text not in known:
            wrong += address(f"{at}[{index}]", text)
    found += wrong
    if len(addresses) > 2:
        found.append(invalid(at, addresses, "may only hold up to 2 values"))
    if wrong:
        return found
    versions = [_version(text) for text in addresses]
    if len(addresses) > 1 and len(set(versions)) < 2:
        found.append(invalid(at, addresses, "may specify no more than one IP for each IP family"))
    if not headless(spec):
        for index, (text, version, family) in enumerate(zip(addresses, versions, families, strict=False)):
            if family in FAMILIES and family != version:
                detail = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                found.append(invalid(f"{at}[{index}]", text, detail))
    return found


def _version(text: str) -> str:
    return "IPv6" if isinstance(parse_address(text), ipaddress.IPv6Address) else "IPv4"


def _outside(spec: Json, old: Json | None) -> list[Cause]:
    """What is of load balancers, and which way packets take."""
    balanced = spec.get("type") == "LoadBalancer"
    found: list[Cause] = []
    at = "spec.LoadBalancerSourceRanges"
    if ranges := spec.get("loadBalancerSourceRanges"):
        if not balanced:
            found.append(forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
        known = old["spec"].get("loadBalancerSourceRanges", ()) if old else ()
        for index, text in enumerate(ranges):
            found += [] if text in known else cidr(f"{at}[{index}]", text.strip())
    if "allocateLoadBalancerNodePorts" in spec and not balanced:
        detail = "may only be used when `type` is 'LoadBalancer'"
        found.append(forbidden("spec.allocateLoadBalancerNodePorts", detail))
    if (name := spec.get("loadBalancerClass")) is not None:
        at = "spec.loadBalancerClass"
        if balanced:
            found += each_invalid(at, name, qualified_name(name))
        else:
            found.append(forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
    policy = spec.get("externalTrafficPolicy", "")
    if externally_accessible(spec):
        found += choice("spec.externalTrafficPolicy", policy, ("Cluster", "Local"))
    elif policy:
        detail = "may only be set for externally-accessible services"
        found.append(invalid("spec.externalTrafficPolicy", policy, detail))
    at, port = "spec.healthCheckNodePort", spec.get("healthCheckNodePort", 0)
    if needs_health_check(spec):
        found += each_invalid(at, port, port_number(port)) if port else []
    elif port:
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        found.append(invalid(at, port, detail))
    for name, supported in (
        ("internalTrafficPolicy", ("Cluster", "Local")),
        ("trafficDistribution", ("PreferClose", "PreferSameZone", "PreferSameNode")),
    ):
        if name in spec and spec[name] not in supported:
            found.append(not_supported(f"spec.{name}", spec[name], supported))
    return found


def _changes(spec: Json, old: Json) -> list[Cause]:
    """What stays once it is set."""
    found: list[Cause] = []
    if "ExternalName" not in (spec.get("type"), old.get("type")):
        if not (headless(spec) and headless(old)):
            found += _kept(spec, old, "clusterIPs", "clusterIP")
        if not headless(spec) and not headless(old):
            found += _kept(spec, old, "ipFamilies", "ipFamily")
    if old.get("type") == spec.get("type") == "LoadBalancer":
        now, before = spec.get("loadBalancerClass"), old.get("loadBalancerClass")
        if now != before:
            found.append(invalid("spec.loadBalancerClass", now, "may not change once set"))
    checked = needs_health_check(spec) and needs_health_check(old)
    if checked and spec.get("healthCheckNodePort") != old.get("healthCheckNodePort"):
        found.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return found


def _kept(spec: Json, old: Json, field: str, what: str) -> list[Cause]:
    now, before = spec.get(field) or [], old.get(field) or []
    at = f"spec.{field}"
    if len(now) == len(before):
        return [
            invalid(f"{at}[{index}]", now, "may not change once set")
            for index, (new, was) in enumerate(zip(now, before, strict=True))
            if new != was
        ]
    found: list[Cause] = []
    shown = now or None
    if not now:
        found.append(invalid(f"{at}[0]", shown, f"primary {what} can not be unset"))
    elif before and now[0] != before[0]:
        found.append(invalid(f"{at}[0]", shown, "may not change once set"))
    if len(now) == 1 < len(before) and spec.get("ipFamilyPolicy") != "SingleStack":
        detail = f"must be set to 'SingleStack' when releasing the secondary {what}"
        found.append(invalid("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), detail))
    return found


def _load_balancer(obj: Json, old: Json) -> list[Cause]:
    at = "status.loadBalancer.ingress"
    ingress = obj["status"]["loadBalancer"].get("ingress", ())
    found: list[Cause] = []
    if (
        ingress
        and obj["spec"].get("type") != "LoadBalancer"
        and ingress != old["status"]["loadBalancer"].get("ingress")
    ):
        found.append(forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'"))
    for index, each in enumerate(ingress):
        if each.get("ip"):
            found += address(f"{at}[{index}].ip", each["ip"])
        if name := each.get("hostname"):
            found += each_invalid(f"{at}[{index}].hostname", name, dns_subdomain(name))
    return found
