"""Fills an API with services, their endpoints said apart: what a large cluster has. Run where the API is reached.

`python -m bench.fill KUBECONFIG NAMESPACE COUNT ENDPOINTS [NODES]`: a Service and an EndpointSlice each, and so many
Nodes, by several connections at once. Prints the seconds that it took.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e.lab.api import Api, Object, Refused, load, path_of

AT_ONCE = 16


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


def many(namespace: str, count: int, each: int) -> Iterator[list[Object]]:
    """So many services of `each` endpoints; what belongs together is together."""
    for number in range(count):
        name = f"service-{number}"
        addresses = [f"10.{200 + place}.{number >> 8}.{number & 255}" for place in range(each)]
        yield [service(name, namespace, [80]), endpoints(name, namespace, 80, addresses)]


def nodes(count: int) -> Iterator[list[Object]]:
    """So many Nodes that nobody runs."""
    for number in range(count):
        meta = {"name": f"node-{number}", "labels": {"kubernetes.io/hostname": f"node-{number}"}}
        yield [{"apiVersion": "v1", "kind": "Node", "metadata": meta}]


def fill(kubeconfig: Path, groups: list[list[Object]]) -> float:
    """Create them; the seconds that it took. What is there already stays. Raises Refused, Unreachable."""
    local = threading.local()
    made: list[Api] = []

    def create(group: list[Object]) -> None:
        if not hasattr(local, "api"):
            local.api = load(kubeconfig)
            made.append(local.api)
        for item in group:
            try:
                local.api.request("POST", path_of(item).rpartition("/")[0], item)
            except Refused as error:
                if error.code != 409:
                    raise

    began = time.monotonic()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(create, groups))
    finally:
        for api in made:
            api.close()
    return time.monotonic() - began


def main(kubeconfig: str, namespace: str, count: str, each: str, others: str = "0") -> None:
    groups = [*many(namespace, int(count), int(each)), *nodes(int(others))]
    print(f"{fill(Path(kubeconfig), groups):.3f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
