"""Objects of benchmarks: services whose endpoints are said apart, many of them, and nodes that nobody runs."""

from __future__ import annotations

from collections.abc import Iterator

from e2e.lab.api import Object


def service(name: str, namespace: str, ports: list[int], selector: str = "") -> Object:
    """A Service of a benchmark's own; without a selector its endpoints are said apart."""
    listed = [{"name": f"p{port}", "port": port} for port in ports]
    spec: Object = {"ports": listed, **({"selector": {"app": selector}} if selector else {})}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def endpoints(name: str, namespace: str, port: int, addresses: list[str]) -> Object:
    """The EndpointSlice of a service that has no selector."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": f"p{port}", "protocol": "TCP", "port": port}],
    }


def many(namespace: str, count: int, each: int) -> Iterator[Object]:
    """So many services of `each` endpoints."""
    for number in range(count):
        name = f"service-{number}"
        addresses = [f"10.{200 + place}.{number >> 8}.{number & 255}" for place in range(each)]
        yield service(name, namespace, [80])
        yield endpoints(name, namespace, 80, addresses)


def nodes(count: int) -> Iterator[Object]:
    """So many Nodes that nobody runs."""
    for number in range(count):
        meta = {"name": f"node-{number}", "labels": {"kubernetes.io/hostname": f"node-{number}"}}
        yield {"apiVersion": "v1", "kind": "Node", "metadata": meta}
