"""Objects that must be there before anything else works: the kinds, the namespace, what joining nodes are told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from typing import Any

import msgspec

from edgemesh.authority import Authority
from edgemesh.join.messages import Cluster
from edgemesh.names import CLUSTER_CONFIG, SYSTEM_NAMESPACE
from sync.client.connection import APPLY_PATCH, Api, ApiStatus, resource_path
from sync.client.document import read
from sync.client.kubeconfig import Access

MANAGER = "edgemesh-cloud"
ANONYMOUS = "system:anonymous"
"""Kubernetes' user of a request without credentials that it knows."""
APPLY = {"fieldManager": MANAGER, "force": "true"}

Object = dict[str, Any]


def crds() -> Iterator[Object]:
    """The CustomResourceDefinitions of `crds/`."""
    for file in sorted(files(__package__).joinpath("crds").iterdir(), key=lambda file: file.name):
        for document in read(file.read_bytes()):
            assert isinstance(document.data, dict)
            yield document.data


def cluster_config(cluster: Cluster, ca: bytes) -> Object:
    """The ConfigMap that the join endpoint answers from, and that people look into."""
    data = {name: value for name, value in msgspec.to_builtins(cluster).items() if isinstance(value, str)}
    for field in msgspec.structs.fields(Cluster):  # what has its default is said, too
        value = getattr(cluster, field.name)
        data[field.encode_name] = ",".join(value) if isinstance(value, tuple) else value
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CLUSTER_CONFIG, "namespace": SYSTEM_NAMESPACE},
        "data": {"ca.crt": ca.decode(), **data},
    }


async def put(api: Api, path: str, obj: Object) -> Object:
    """Make an object what it should be, by server-side apply: others' fields stay. Raises ApiStatus, ApiUnreachable."""
    return await api.patch(path, obj, APPLY_PATCH, APPLY)


async def believes(access: Access, authority: Authority, now: datetime) -> bool:
    """Whether an API knows the authority's clients: it refuses one without rights by its name, and not as nobody.

    Raises ApiUnreachable.
    """
    made = authority.client("edgemesh:nobody", (), now, days=1)
    asker = Access(
        server=access.server,
        ca=access.ca,
        server_name=access.server_name,
        certificate_pem=made.certificate.decode(),
        key_pem=made.key.decode(),
    )
    async with Api(asker) as api:
        try:
            await api.get(resource_path("", "v1", "nodes"), {"limit": "1"})
        except ApiStatus as error:
            return error.code != 401 and ANONYMOUS not in error.message
    return True


async def run(api: Api, cluster: Cluster, ca: bytes) -> None:
    """Make all of it. Raises ApiStatus, ApiUnreachable: run it again."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
    await put(api, resource_path("", "v1", "namespaces", name=SYSTEM_NAMESPACE), namespace)
    definitions = resource_path("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    for definition in crds():
        await put(api, f"{definitions}/{definition['metadata']['name']}", definition)
    path = resource_path("", "v1", "configmaps", SYSTEM_NAMESPACE, CLUSTER_CONFIG)
    await put(api, path, cluster_config(cluster, ca))
