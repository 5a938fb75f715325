"""What there is from the first start on: Kubernetes' namespaces and the API's own service."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from sync.api.admission import NAMESPACES
from sync.api.objects import Objects
from sync.api.options import Write
from sync.api.status import ApiError
from sync.store import Key

MANAGER = "edgemesh-api"
SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
SERVICE = "kubernetes"
_SKIPS = {"endpointslice.kubernetes.io/skip-mirror": "true"}


async def make(objects: Objects, advertise: str, port: int) -> None:
    """Make what is missing; the service leads to `advertise`, if that is an address."""
    for name in SYSTEM_NAMESPACES:
        await _ensure(objects, NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    await _ensure(objects, "services", "", _service(objects.allocator.first_address, port))
    for piece in _slices(advertise, port):
        await _ensure(objects, "endpointslices", "discovery.k8s.io", piece, follow=True)


def _service(address: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": address,
            "ports": [{"name": "https", "port": 443, "targetPort": port, "protocol": "TCP"}],
            "type": "ClusterIP",
        },
    }


def _slices(advertise: str, port: int) -> Iterator[dict[str, Any]]:
    try:
        address = ipaddress.ip_address(advertise)
    except ValueError:
        return
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return  # nobody else reaches it there
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": SERVICE,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": SERVICE, **_SKIPS},
        },
        "addressType": f"IPv{address.version}",
        "endpoints": [{"addresses": [advertise], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


async def _ensure(objects: Objects, plural: str, group: str, obj: dict[str, Any], *, follow: bool = False) -> None:
    """Make an object that is not there; with `follow`, one that is there says the same from now on."""
    type = objects.registry.find(group, "v1", plural)
    assert type is not None
    metadata = obj["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    there = objects.store.get(Key(type.storage, namespace, name)) is not None
    write = Write(MANAGER, [])
    objects.checked(type, obj, (), write)
    try:
        if not there:
            await objects.create(type, namespace, obj, write)
        elif follow:
            await objects.update(type, namespace, name, lambda _: obj, write)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
