"""Which groups, versions and resources are served, as clients ask it: by group, and all in one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync.api.registry import Registry, ResourceType, Subresource, by_group

Json = dict[str, Any]


def api(address: str) -> Json:
    """/api: APIVersions; `address` is host:port of this server."""
    reach = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": reach}


def apis(registry: Registry) -> Json:
    """/apis: APIGroupList."""
    groups = [_group(name, list(versions)) for name, versions in by_group(registry.all()).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> Json | None:
    """/apis/GROUP: APIGroup; None if it is not served."""
    versions = by_group(registry.all()).get(name) if name else None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(versions))} if versions else None


def resources(registry: Registry, group: str, version: str) -> Json | None:
    """/api/v1, /apis/GROUP/VERSION: APIResourceList; None if it is not served."""
    types = by_group(registry.all()).get(group, {}).get(version)
    if not types:
        return None
    listed = [entry for each in types for entry in _resources(each)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": types[0].api_version,
        "resources": sorted(listed, key=lambda entry: str(entry["name"])),
    }


def aggregated(registry: Registry, core: bool, version: str = "v2") -> Json:
    """/api (`core`) or /apis as APIGroupDiscoveryList of apidiscovery.k8s.io, `version` v2 or v2beta1."""
    groups = by_group(registry.all())
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
                "versions": [
                    {
                        "version": number,
                        "resources": [_discovered(each) for each in sorted(types, key=lambda each: each.plural)],
                        "freshness": "Current",
                    }
                    for number, types in versions.items()
                ],
            }
            for name, versions in groups.items()
            if bool(name) is not core
        ],
    }


def _group(name: str, versions: Sequence[str]) -> Json:
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def _resources(type: ResourceType) -> list[Json]:
    entry: Json = {
        "name": type.plural,
        "singularName": type.singular,
        "namespaced": type.namespaced,
        "kind": type.kind,
        "verbs": sorted(type.verbs),
    }
    if type.short_names:
        entry["shortNames"] = list(type.short_names)
    if type.categories:
        entry["categories"] = list(type.categories)
    if type.storage_hash:
        entry["storageVersionHash"] = type.storage_hash
    return [entry, *(_subresource(type, each) for each in type.served_subresources)]


def _subresource(type: ResourceType, each: Subresource) -> Json:
    entry: Json = {
        "name": f"{type.plural}/{each.name}",
        "singularName": "",
        "namespaced": type.namespaced,
        "kind": each.kind,
        "verbs": list(each.verbs),
    }
    return entry | ({"group": each.group, "version": each.version} if each.version else {})


def _discovered(type: ResourceType) -> Json:
    entry: Json = {
        "resource": type.plural,
        "responseKind": {"group": type.group, "version": type.version, "kind": type.kind},
        "scope": "Namespaced" if type.namespaced else "Cluster",
        "singularResource": type.singular,
        "verbs": sorted(type.verbs),
    }
    if type.short_names:
        entry["shortNames"] = list(type.short_names)
    if type.categories:
        entry["categories"] = list(type.categories)
    if type.served_subresources:
        entry["subresources"] = [
            {
                "subresource": each.name,
                "responseKind": {
                    "group": each.group if each.version else type.group,
                    "version": each.version or type.version,
                    "kind": each.kind,
                },
                "verbs": list(each.verbs),
            }
            for each in type.served_subresources
        ]
    return entry
