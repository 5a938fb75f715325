"""EndpointSlice, discovery.k8s.io/v1 (pkg/apis/discovery/validation)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sync.api.status import Cause
from sync.api.validation.fields import (
    choice,
    duplicate,
    each_invalid,
    immutable,
    invalid,
    not_supported,
    required,
    too_many,
)
from sync.api.validation.metadata import labels, metadata, metadata_update
from sync.api.validation.names import (
    address,
    dns_label,
    dns_subdomain,
    endpoint_address,
    label_value,
    parse_address,
    qualified_name,
)
from sync.api.validation.service import PROTOCOLS

Json = Mapping[str, Any]

ENDPOINTS, PORTS, ADDRESSES, TOPOLOGY, HINTS = 1000, 20_000, 100, 16, 8
"""How many there may be at most."""


def endpoint_slice(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    meta = obj["metadata"]
    found = metadata(meta, namespaced=True) if old is None else metadata_update(meta, old["metadata"])
    kind = obj.get("addressType", "")
    found += choice("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    found += _ports(obj.get("ports") or ())
    if old is None or obj.get("endpoints") != old.get("endpoints"):
        found += _endpoints(obj.get("endpoints") or (), kind)
    return found + (immutable("addressType", kind, old.get("addressType", "")) if old is not None else [])


def _ports(ports: Any) -> list[Cause]:
    if len(ports) > PORTS:
        return [too_many("ports", len(ports), PORTS)]
    found: list[Cause] = []
    names: set[str] = set()
    for index, each in enumerate(ports):
        at = f"ports[{index}]"
        name = each.get("name", "")
        if name:
            found += each_invalid(f"{at}.name", name, dns_label(name))
        if name in names:
            found.append(duplicate(f"{at}.name", name))
        names.add(name)
        if each.get("protocol") not in PROTOCOLS:
            found.append(not_supported(f"{at}.protocol", each.get("protocol"), PROTOCOLS))
        if "appProtocol" in each:
            found += each_invalid(f"{at}.appProtocol", each["appProtocol"], qualified_name(each["appProtocol"]))
    return found


def _endpoints(endpoints: Any, kind: str) -> list[Cause]:
    if len(endpoints) > ENDPOINTS:
        return [too_many("endpoints", len(endpoints), ENDPOINTS)]
    found: list[Cause] = []
    for index, each in enumerate(endpoints):
        at = f"endpoints[{index}]"
        addresses = each.get("addresses") or ()
        if not addresses:
            found.append(required(f"{at}.addresses", "must contain at least 1 address"))
        elif len(addresses) > ADDRESSES:
            found.append(too_many(f"{at}.addresses", len(addresses), ADDRESSES))
        for place, text in enumerate(addresses):
            found += _address(text, kind, f"{at}.addresses", place)
        if "nodeName" in each:
            found += each_invalid(f"{at}.nodeName", each["nodeName"], dns_subdomain(each["nodeName"]))
        topology = each.get("deprecatedTopology", {})
        if len(topology) > TOPOLOGY:
            found.append(too_many(f"{at}.deprecatedTopology", len(topology), TOPOLOGY))
        found += labels(topology, f"{at}.deprecatedTopology")
        if "hostname" in each:
            found += each_invalid(f"{at}.hostname", each["hostname"], dns_label(each["hostname"]))
        found += _hints(each.get("hints", {}), f"{at}.hints")
    return found


def _address(text: str, kind: str, path: str, index: int) -> list[Cause]:
    at = f"{path}[{index}]"
    if kind == "FQDN":
        return _fqdn(text, at)
    if kind not in ("IPv4", "IPv6"):
        return []
    if wrong := address(at, text):
        return wrong
    parsed = parse_address(text)
    if kind == "IPv6" and str(parsed) != text:
        return [invalid(at, text, f'must be in canonical form ("{parsed}")')]
    found: list[Cause] = []
    if not isinstance(parsed, IPv4Address if kind == "IPv4" else IPv6Address):
        found.append(invalid(path, text, f"must be an {kind} address"))
    return found + endpoint_address(at, text)


def _fqdn(text: str, at: str) -> list[Cause]:
    if not text:
        return [required(at)]
    name = text.removesuffix(".")
    if wrong := dns_subdomain(name):
        return [invalid(at, name, ",".join(wrong))]
    if "." not in name:
        return [invalid(at, name, "should be a domain with at least two segments separated by dots")]
    return [invalid(at, part, ",".join(wrong)) for part in name.split(".") if (wrong := dns_label(part))][:1]


def _hints(hints: Json, path: str) -> list[Cause]:
    found: list[Cause] = []
    for field, rule in (("forZones", label_value), ("forNodes", dns_subdomain)):
        entries = hints.get(field) or ()
        if len(entries) > HINTS:
            return [*found, too_many(f"{path}.{field}", len(entries), HINTS)]
        names: set[str] = set()
        for index, each in enumerate(entries):
            name = each.get("name", "")
            if name in names:
                found.append(duplicate(f"{path}.{field}[{index}].name", name))
            names.add(name)
            found += each_invalid(f"{path}.{field}[{index}].name", name, rule(name))
    return found
