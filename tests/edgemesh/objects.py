"""Objects for the tests of the plan, written as a user would."""

import base64
from typing import Any, TypeVar

from sync.resources.decode import decode
from sync.resources.kinds import DestinationRule, EndpointSlice, MeshNode, Node, Pod, Resource, Service

T = TypeVar("T", bound=Resource)


def _object(kind: type[T], name: str, namespace: str = "", labels: dict[str, str] | None = None, **fields: Any) -> T:
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    found, faults = decode({"apiVersion": kind.api_version, "kind": kind.__name__, "metadata": metadata} | fields)
    assert isinstance(found, kind), faults
    return found


def service(
    name: str = "orders", labels: dict[str, str] | None = None, namespace: str = "shop", **spec: Any
) -> Service:
    return _object(Service, name, namespace, labels, spec={"ports": [{"name": "http", "port": 80}]} | spec)


def endpoint(address: str, node: str = "", *, ready: bool | None = True, **fields: Any) -> dict[str, Any]:
    conditions = {
        "ready": ready,
        "serving": fields.pop("serving", None),
        "terminating": fields.pop("terminating", None),
    }
    return {"addresses": [address], "nodeName": node, "conditions": conditions} | fields


def piece(
    *endpoints: dict[str, Any],
    service: str = "orders",
    name: str = "orders-1",
    ports: list[dict[str, Any]] | None = None,
    labels: dict[str, str] | None = None,
    **fields: Any,
) -> EndpointSlice:
    return _object(
        EndpointSlice,
        name,
        "shop",
        {"kubernetes.io/service-name": service} | (labels or {}),
        endpoints=list(endpoints),
        ports=[{"name": "http", "port": 8080}] if ports is None else ports,
        **{"addressType": "IPv4"} | fields,
    )


def pod(name: str, address: str, node: str = "a", *, app: str = "orders", ready: bool = True, **spec: Any) -> Pod:
    return _object(
        Pod,
        name,
        "shop",
        {"app": app},
        spec={"nodeName": node, "containers": [{"name": "c"}]} | spec,
        status={
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    )


def node(name: str, zone: str = "", pod_range: str = "", address: str = "") -> Node:
    return _object(
        Node,
        name,
        labels={"topology.kubernetes.io/zone": zone} if zone else {},
        spec={"podCIDR": pod_range} if pod_range else {},
        status={"addresses": [{"type": "InternalIP", "address": address}]} if address else {},
    )


def public_key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def mesh_node(
    name: str, number: int, *, key: int | None = None, status: dict[str, Any] | None = None, **spec: Any
) -> MeshNode:
    """Node `number`: mesh address 10.222.0.`number`, pods 10.244.`number`.0/24, LAN 192.0.2.`number`."""
    return _object(
        MeshNode,
        name,
        spec={
            "publicKey": base64.b64encode(public_key(number if key is None else key)).decode(),
            "listenPort": 20000 + number,
            "addresses": [f"192.0.2.{number}"],
        }
        | spec,
        status={"meshAddresses": [f"10.222.0.{number}"], "podRanges": [f"10.244.{number}.0/24"]}
        if status is None
        else status,
    )


def rule(name: str = "orders", **balancer: Any) -> DestinationRule:
    return _object(DestinationRule, name, "shop", spec={"host": name, "trafficPolicy": {"loadBalancer": balancer}})
