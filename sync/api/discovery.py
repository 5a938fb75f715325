"""Which groups, versions and resources are served, as clients ask it: by group, and all in one answer."""

from __future__ import annotations

from typing import Any

from sync.api.registry import Registry


def api(address: str) -> dict[str, Any]:
    """/api: APIVersions; `address` is host:port of this server."""
    raise NotImplementedError


def apis(registry: Registry) -> dict[str, Any]:
    """/apis: APIGroupList."""
    raise NotImplementedError


def group(registry: Registry, name: str) -> dict[str, Any] | None:
    """/apis/GROUP: APIGroup; None if it is not served."""
    raise NotImplementedError


def resources(registry: Registry, group: str, version: str) -> dict[str, Any] | None:
    """/api/v1, /apis/GROUP/VERSION: APIResourceList; None if it is not served."""
    raise NotImplementedError


def aggregated(registry: Registry, core: bool, version: str = "v2") -> dict[str, Any]:
    """/api (`core`) or /apis as APIGroupDiscoveryList of apidiscovery.k8s.io, `version` v2 or v2beta1."""
    raise NotImplementedError
