"""The API as joining sees it: the few calls, and the paths of the objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgemesh.names import CLUSTER_CONFIG, REVOKED_CONFIG, SYSTEM_NAMESPACE
from sync.client.connection import ApiStatus, resource_path

Object = dict[str, Any]


class Objects(Protocol):
    """What is used of `sync.client.connection.Api`; raises as that does (ApiStatus, ApiUnreachable)."""

    async def get(self, path: str) -> Object:
        """One object."""
        ...

    async def list(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """A whole list."""
        ...

    async def create(self, path: str, obj: Mapping[str, Any]) -> Object:
        """POST to a collection."""
        ...

    async def update(self, path: str, obj: Mapping[str, Any]) -> Object:
        """PUT."""
        ...

    async def patch(self, path: str, patch: object) -> Object:
        """PATCH, a merge patch."""
        ...

    async def delete(self, path: str) -> Object:
        """DELETE."""
        ...


SECRETS = resource_path("", "v1", "secrets", SYSTEM_NAMESPACE)
CONFIG_MAPS = resource_path("", "v1", "configmaps", SYSTEM_NAMESPACE)
NODES = resource_path("", "v1", "nodes")
MESH_NODES = resource_path("edgemesh.kubeedge.io", "v1alpha1", "meshnodes")
REQUESTS = resource_path("certificates.k8s.io", "v1", "certificatesigningrequests")
CLUSTER = f"{CONFIG_MAPS}/{CLUSTER_CONFIG}"
REVOKED = f"{CONFIG_MAPS}/{REVOKED_CONFIG}"


def leases(namespace: str) -> str:
    """The path of a namespace's leases."""
    return resource_path("coordination.k8s.io", "v1", "leases", namespace)


async def find(api: Objects, path: str) -> Object | None:
    """An object, None if there is none."""
    try:
        return await api.get(path)
    except ApiStatus as error:
        if error.code != 404:
            raise
        return None


async def remove(api: Objects, path: str, *, whatever: bool = False) -> bool:
    """Delete an object; False if there was none. With `whatever` its finalizers, whosever they are, don't keep it."""
    try:
        await api.delete(path)
        if whatever and await find(api, path):
            await api.patch(path, {"metadata": {"finalizers": None}})
    except ApiStatus as error:
        if error.code != 404:
            raise
        return False
    return True


async def put(api: Objects, collection: str, obj: Object) -> None:
    """Make an object, or replace its data, whichever it needs."""
    path = f"{collection}/{obj['metadata']['name']}"
    found = await find(api, path)
    if found is None:
        await api.create(collection, obj)
    elif found.get("data") != obj["data"]:
        await api.update(path, {**found, "data": obj["data"]})
