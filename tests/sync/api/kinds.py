"""Objects of each kind for tests, and what this API makes of them without a server: read, prepared, validated."""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from sync.api.codec import decode_json
from sync.api.crd import accept
from sync.api.prune import prune_and_default, strict_error
from sync.api.registry import Registry, ResourceType
from sync.api.status import invalid
from sync.api.strategy import strategy
from sync.api.validation import validate

Json = dict[str, Any]

NOW = "2026-01-01T00:00:00Z"


def service(name: str = "web", /, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}, **spec},
    }


def pod(name: str = "web", /, container: Json | None = None, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "web:1", **(container or {})}], **spec},
    }


def node(name: str = "n1", /, status: Json | None = None, **spec: Any) -> Json:
    found = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
    return found | ({"status": status} if status else {})


def endpoint_slice(name: str = "web-1", /, **fields: Any) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80}],
        "endpoints": [{"addresses": ["10.244.1.2"], "conditions": {"ready": True}}],
        **fields,
    }


def lease(name: str = "n1", /, **spec: Any) -> Json:
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}


def config_map(name: str = "settings", /, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **fields}


def secret(name: str = "key", /, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **fields}


def namespace(name: str = "shop", /, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, **fields}


def event(name: str = "web.1", /, **fields: Any) -> Json:
    about = {"kind": "Pod", "namespace": "default", "name": "web"}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name},
        "involvedObject": about,
        "reason": "Started",
        "message": "it runs",
        "type": "Normal",
        **fields,
    }


def new_event(name: str = "web.2", /, **fields: Any) -> Json:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "web"},
        "reason": "Started",
        "note": "it runs",
        "type": "Normal",
        "action": "Starting",
        "reportingController": "edgemesh.kubeedge.io/agent",
        "reportingInstance": "n1",
        **fields,
    }


def service_account(name: str = "web", /, **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}, **fields}


def signing_request(name: str = "n1", /, **spec: Any) -> Json:
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": REQUEST, "signerName": "example.com/nodes", "usages": ["client auth"], **spec},
    }


def definition(
    name: str = "shirts.example.com", /, schema: Json | None = None, version: Json | None = None, **spec: Any
) -> Json:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "shirts", "kind": "Shirt"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": SHIRT if schema is None else schema},
                    "subresources": {"status": {}},
                    **(version or {}),
                }
            ],
            **spec,
        },
    }


def shirt(name: str = "s1", /, **spec: Any) -> Json:
    return {"apiVersion": "example.com/v1", "kind": "Shirt", "metadata": {"name": name}, "spec": spec}


SHIRT: Json = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["color"],
            "properties": {
                "color": {"type": "string", "enum": ["red", "blue"]},
                "size": {"type": "integer", "minimum": 1, "maximum": 60, "default": 40},
                "label": {"type": "string", "maxLength": 5, "minLength": 2, "pattern": "^[a-z]+$"},
                "weight": {"type": "number", "exclusiveMinimum": True, "minimum": 0, "multipleOf": 0.5},
                "note": {"type": "string", "nullable": True},
                "since": {"type": "string", "format": "date-time"},
                "width": {"x-kubernetes-int-or-string": True},
                "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
                    },
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "sizes": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}},
                "way": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                },
            },
        },
        "status": {"type": "object", "properties": {"worn": {"type": "boolean"}}},
    },
}


REQUEST = (
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIV01IMENBUUF3R3pFWk1CY0dBMVVFQXd3UVpXUm5aVzFsYzJn"
    "NmJtOWtaVHB1TVRCWk1CTUdCeXFHU000OQpBZ0VHQ0NxR1NNNDlBd0VIQTBJQUJCWVozUHBucHF5UVM0QmlDZk4walNkdlV3QW9X"
    "Nk9FeHA1Q21QVzBMRnZ3CnJTSWNrU2ViZFRBWlVsWXUrOVdQdHNGeG43QWNZMFN0Vlc0RE5BSWx4OTZnQURBS0JnZ3Foa2pPUFFR"
    "REFnTkoKQURCR0FpRUF3MTFKWml5M2NrREpCeUVVOENSQ3lrQWdML3FDK0NoK1ZtU00rMDJUKzZJQ0lRQzIrOHYxMGRPbAp0Y0FH"
    "cFovY2NWV0FtSnJod3ZDV1Y1dTVaZDBFN1IxT2tBPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg=="
)
"""A request for a certificate for CN edgemesh:node:n1, made once: its signature is random."""


def registry(*definitions: Json) -> Registry:
    """With these definitions, taken as they are and established."""
    found = Registry()
    crds = []
    for each in definitions:
        crd = created(copy.deepcopy(each), found)
        accept(crd, (), NOW)
        crds.append(crd)
    found.set_crds(crds)
    return found


def type_of(obj: Json, among: Registry) -> ResourceType:
    found = among.by_kind(obj["apiVersion"], obj["kind"])
    assert found, obj["kind"]
    return found


def read(obj: Json, type: ResourceType) -> Json:
    """A body as it is decoded, strictly. Raises ApiError."""
    found, duplicate = decode_json(msgspec.json.encode(obj))
    unknown: list[str] = []
    prune_and_default(found, type, found=unknown)
    if unknown or duplicate:
        raise strict_error(type, unknown, duplicate)
    return found


def created(obj: Json, among: Registry) -> Json:
    """What a POST would store, but for what a server adds. Raises ApiError."""
    type = type_of(obj, among)
    found = read(obj, type)
    meta = found.setdefault("metadata", {})
    if type.namespaced:
        meta["namespace"] = "default"
    strategy(type).prepare_create(found)
    strategy(type).complete(found)
    meta |= {"uid": "u", "creationTimestamp": NOW}
    if causes := validate(found, None, type):
        raise invalid("" if type.storage == "events" else type.group, type.kind, meta.get("name", ""), causes)
    meta["resourceVersion"] = "1"
    return found


def updated(obj: Json, old: Json, among: Registry, subresource: str = "") -> Json:
    """What a PUT of `obj` over `old` would store. Raises ApiError."""
    type = type_of(old, among)
    found = read(obj, type)
    strategy(type).prepare_update(found, old, subresource, now=NOW)
    if causes := validate(found, old, type, subresource):
        raise invalid(type.group, type.kind, old["metadata"]["name"], causes)
    return found


def path(obj: Json, among: Registry) -> str:
    """Where objects of the kind are made."""
    type = type_of(obj, among)
    root = f"/apis/{type.group}/{type.version}" if type.group else f"/api/{type.version}"
    return f"{root}/namespaces/default/{type.plural}" if type.namespaced else f"{root}/{type.plural}"


def merged(obj: Any, change: Any) -> Any:
    """RFC 7386."""
    if not isinstance(change, dict):
        return change
    found = dict(obj) if isinstance(obj, dict) else {}
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found
