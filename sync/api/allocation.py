"""Cluster IPs and node ports of Services, given while a Service is written; which of them it keeps is `strategy`'s.

What is in use is read from the newest state of the store, durable or not, so that two writes at a time never get the
same; a deletion gives back what it had. An address that nobody asked for is the one that the service would have from
a directory of manifests (`sync/controllers/addresses`), if it is free.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from sync.api import status
from sync.api.status import Cause
from sync.api.validation.service import allocates, needs_health_check
from sync.controllers import addresses
from sync.resources.kinds import Key as ObjectKey
from sync.store import Entry, Key, Store

RESOURCE = "services"
NONE = "None"


class _Port(msgspec.Struct, rename="camel"):
    node_port: int = 0


class _Spec(msgspec.Struct):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: list[str] = msgspec.field(default_factory=list, name="clusterIPs")
    ports: list[_Port] = []
    health: int = msgspec.field(default=0, name="healthCheckNodePort")


class _Service(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


class _Use(NamedTuple):
    revision: int
    addresses: tuple[str, ...]
    ports: tuple[int, ...]


class Allocator:
    """For a service range (CIDR text) and node ports from `first` to `last`."""

    def __init__(self, store: Store, service_range: str, node_ports: tuple[int, int]) -> None:
        self._store = store
        self._range = ipaddress.ip_network(service_range)
        self._node_ports = node_ports
        self._known: dict[Key, _Use] = {}
        self._decoder = msgspec.json.Decoder(_Service)

    @property
    def first_address(self) -> str:
        """The API's own."""
        return str(self._range[1])

    def assign(self, service: dict[str, Any], old: dict[str, Any] | None) -> None:
        """In place: what the type of the service needs and has not; what it had before stays. Raises ApiError 422."""
        spec: dict[str, Any] | None = service.get("spec")
        if not spec:
            return  # validation says what is missing
        metadata = service["metadata"]
        key = Key(RESOURCE, metadata.get("namespace", ""), str(metadata.get("name") or ""))
        before: dict[str, Any] = (old or {}).get("spec") or {}
        taken, ports = self._in_use(key)
        causes = list(self._address(spec, before, key, taken))
        causes += self._ports(spec, before, key, ports)
        if causes:
            raise status.invalid("", "Service", key.name, causes)

    def _in_use(self, but: Key) -> tuple[set[str], set[int]]:
        known: dict[Key, _Use] = {}
        taken: set[str] = set()
        ports: set[int] = set()
        for entry in self._store.heads(RESOURCE):
            use = self._known.get(entry.key)
            if use is None or use.revision != entry.revision:
                use = self._use(entry)
            known[entry.key] = use
            if entry.key != but:
                taken.update(use.addresses)
                ports.update(use.ports)
        self._known = known
        return taken, ports

    def _use(self, entry: Entry) -> _Use:
        spec = self._decoder.decode(entry.data).spec
        named = {spec.cluster_ip, *spec.cluster_ips} - {"", NONE}
        ports = {port.node_port for port in spec.ports} | {spec.health}
        return _Use(entry.revision, tuple(named), tuple(ports - {0}))

    def _address(self, spec: dict[str, Any], before: dict[str, Any], key: Key, taken: set[str]) -> Iterator[Cause]:
        if spec.get("type") == "ExternalName":
            if spec.get("clusterIP") == before.get("clusterIP"):
                _drop(spec, "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
            return
        asked = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        asked = asked or before.get("clusterIP", "")
        if not asked:
            service = ObjectKey("Service", key.namespace, key.name)
            asked = addresses.choose(service, str(self._range), taken)
            if not asked:
                yield _cause("spec.clusterIPs", [], "failed to allocate a serviceIP: range is full")
                return
        elif asked != NONE and asked != before.get("clusterIP"):
            problem = self._refuse(asked, taken)
            if problem:
                yield _cause("spec.clusterIPs", [asked], f"failed to allocate IP {asked}: {problem}")
                return
        spec["clusterIP"] = asked
        spec["clusterIPs"] = [asked, *(spec.get("clusterIPs") or [])[1:]]
        spec.setdefault("ipFamilies", ["IPv6" if ":" in asked else "IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")

    def _refuse(self, asked: str, taken: set[str]) -> str:
        try:
            address = ipaddress.ip_address(asked)
        except ValueError:
            return ""  # validation says it better
        if address not in self._range:
            return "the provided network does not match the current range"
        return "provided IP is already allocated" if str(address) in taken else ""

    def _ports(self, spec: dict[str, Any], before: dict[str, Any], key: Key, taken: set[int]) -> Iterator[Cause]:
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            return
        ports = [port for port in spec.get("ports") or () if isinstance(port, dict)]
        had = {port.get("nodePort") for port in before.get("ports") or ()}
        for index, port in enumerate(ports):
            asked = port.get("nodePort")
            if asked and asked not in had and (problem := self._refuse_port(asked, taken)):
                yield _cause(f"spec.ports[{index}].nodePort", asked, problem)
        used = taken | {port["nodePort"] for port in ports if port.get("nodePort")}
        for port in ports:
            if allocates(spec) and not port.get("nodePort"):
                port["nodePort"] = self._free(key, port, used)
                used.add(port["nodePort"])
        if not needs_health_check(spec):
            return
        asked = spec.get("healthCheckNodePort")
        if not asked:
            spec["healthCheckNodePort"] = self._free(key, {"name": "healthCheckNodePort"}, used)
        elif asked != before.get("healthCheckNodePort") and (problem := self._refuse_port(asked, used)):
            raise status.bad_request(f"failed to allocate requested HealthCheck NodePort {asked}: {problem}")

    def _refuse_port(self, asked: int, taken: set[int]) -> str:
        first, last = self._node_ports
        if not first <= asked <= last:
            return f"provided port is not in the valid range. The range of valid ports is {first}-{last}"
        return "provided port is already allocated" if asked in taken else ""

    def _free(self, key: Key, port: dict[str, Any], used: set[int]) -> int:
        """A free node port, of the service's own sequence."""
        first, last = self._node_ports
        size = last - first + 1
        text = f"{key.namespace}/{key.name}/{port.get('protocol', '')}/{port.get('port', '')}/{port.get('name', '')}"
        start = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % size
        for offset in range(size):
            candidate = first + (start + offset) % size
            if candidate not in used:
                return candidate
        raise status.internal("failed to allocate a nodePort: range is full")


def _cause(field: str, value: Any, text: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {msgspec.json.encode(value).decode()}: {text}")


def _drop(spec: dict[str, Any], *names: str) -> None:
    for name in names:
        spec.pop(name, None)
