"""Kinds for the tests of this folder: built-in ones, and a custom one that has each type of list and map."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sync.api.registry import Registry, ResourceType, Subresource
from sync.api.schema import Schema

NOW = "2026-01-02T03:04:05Z"

_ITEM = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "zone": {"type": "string", "default": "west"},
        "weight": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "color": {"type": "string"},
                "size": {"type": "number"},
                "keyed": {
                    "type": "array",
                    "items": _ITEM,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "zone"],
                },
                "whole": {"type": "array", "items": _ITEM, "x-kubernetes-list-type": "atomic"},
                "plain": {"type": "array", "items": {"type": "string"}},
                "names": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "ports": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"},
                "free": {"type": "object", "additionalProperties": {"type": "string"}},
                "fixed": {
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                    "x-kubernetes-map-type": "atomic",
                },
                "nested": {"type": "object", "additionalProperties": _ITEM},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "port": {"x-kubernetes-int-or-string": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {"phase": {"type": "string"}, "seen": {"type": "integer"}},
        },
    },
}
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": SCHEMA},
            }
        ],
    },
}
THING = ResourceType(
    group="example.org",
    version="v1",
    kind="Thing",
    plural="things",
    singular="thing",
    schema=Schema(SCHEMA, custom=True),
    namespaced=True,
    verbs=frozenset({"get", "update", "patch", "create", "delete"}),
    served_subresources=(Subresource("status", ("get", "update", "patch"), "Thing"),),
    custom=True,
)


@lru_cache(1)
def registry() -> Registry:
    return Registry()


def kind(name: str) -> ResourceType:
    """ "Service", "EndpointSlice", "Thing"."""
    if name == "Thing":
        return THING
    return next(each for each in registry().all() if each.kind == name)
