"""ConfigMap, Secret and ServiceAccount, v1 (pkg/apis/core/validation)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from sync.api.status import Cause
from sync.api.validation.fields import forbidden, immutable, invalid, required, too_long
from sync.api.validation.metadata import keys, metadata, metadata_update

Json = Mapping[str, Any]

SIZE = 1024 * 1024
"""Bytes of all values."""
_IMMUTABLE = "field is immutable when `immutable` is set"
_DOCKER = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}


def config_map(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    found: list[Cause] = []
    if old is not None:
        found += metadata_update(obj["metadata"], old["metadata"]) + _frozen(obj, old, ("data", "binaryData"))
    else:
        found += metadata(obj["metadata"], namespaced=True)
    data, binary = obj.get("data", {}), obj.get("binaryData", {})
    found += keys(data, "data")
    for key in data:
        if key in binary:
            found.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    found += keys(binary, "binaryData")
    if sum(len(value.encode()) for value in data.values()) + sum(map(_decoded, binary.values())) > SIZE:
        found.append(too_long("[]", SIZE))
    return found


def secret(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    found: list[Cause] = []
    if old is not None:
        found += metadata_update(obj["metadata"], old["metadata"])
        found += immutable("type", obj.get("type", ""), old.get("type", ""))
        found += _frozen(obj, old, ("data",))
    else:
        found += metadata(obj["metadata"], namespaced=True)
    data = obj.get("data", {})
    found += keys(data, "data")
    if sum(map(_decoded, data.values())) > SIZE:
        found.append(too_long("data", SIZE))
    return found + _typed(obj, data)


def service_account(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    if old is None:
        return metadata(obj["metadata"], namespaced=True)
    return metadata_update(obj["metadata"], old["metadata"])


def _typed(obj: Json, data: Json) -> list[Cause]:
    """What a secret of a known type must have."""
    kind = obj.get("type", "")
    if kind == "kubernetes.io/service-account-token":
        name = "kubernetes.io/service-account.name"
        there = obj["metadata"].get("annotations", {}).get(name)
        return [] if there else [required(f"metadata.annotations[{name}]")]
    if kind in _DOCKER:
        key = _DOCKER[kind]
        if key not in data:
            return [required(f"data[{key}]")]
        try:
            readable = isinstance(json.loads(base64.b64decode(data[key])), dict)
        except (ValueError, RecursionError):
            readable = False
        if not readable:
            return [invalid(f"data[{key}]", "<secret contents redacted>", "is not a JSON object")]
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        return [required("data[username]"), required("data[password]")]
    if kind == "kubernetes.io/ssh-auth" and not data.get("ssh-privatekey"):
        return [required("data[ssh-privatekey]")]
    if kind == "kubernetes.io/tls":
        return [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    return []


def _frozen(obj: Json, old: Json, fields: tuple[str, ...]) -> list[Cause]:
    if not old.get("immutable"):
        return []
    found = [] if obj.get("immutable") else [forbidden("immutable", _IMMUTABLE)]
    return found + [forbidden(name, _IMMUTABLE) for name in fields if obj.get(name, {}) != old.get(name, {})]


def _decoded(text: str | None) -> int:
    """Bytes that base64 text stands for."""
    return len(text) // 4 * 3 - text[-2:].count("=") if text else 0
