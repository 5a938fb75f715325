"""What is asked for by paths that are no resource's: the version, discovery, OpenAPI, the list of paths.

Source: Kubernetes API concepts, "discovery API"; "non-resource requests" of its authorization.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sync.api import discovery, forms, openapi, status
from sync.api.registry import Registry
from sync.api.requests import Answer

_AGGREGATED = "apidiscovery.k8s.io"
_PATHS = ("/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version")


def answer(registry: Registry, path: str, accept: str, address: str) -> Answer:
    """The answer to a GET of `path`; `address` is host:port of this server. Raises ApiError 404, 406."""
    parts = path.strip("/").split("/")
    if parts[:2] == ["openapi", "v3"] and len(parts) in (4, 5):
        return _openapi(registry, parts)
    if path in ("/api", "/apis") and (version := _aggregated(accept)):
        document = discovery.aggregated(registry, path == "/api", version)
        media = f"{forms.JSON};g={_AGGREGATED};v={version};as=APIGroupDiscoveryList"
        return Answer(200, msgspec.json.encode(document) + b"\n", media)
    found = _document(registry, parts, address)
    if found is None:
        raise status.no_such_path()
    form = forms.negotiate(accept)._replace(shape="")
    return Answer(200, forms.document(found, form), form.media)


def _document(registry: Registry, parts: list[str], address: str) -> Any:
    match parts:
        case [""]:
            return {"paths": _PATHS}
        case ["version"]:
            return openapi.version()
        case ["openapi", "v3"]:
            return openapi.index(registry)
        case ["api"]:
            return discovery.api(address)
        case ["apis"]:
            return discovery.apis(registry)
        case ["apis", group]:
            return discovery.group(registry, group)
        case ["api", version]:
            return discovery.resources(registry, "", version)
        case ["apis", group, version]:
            return discovery.resources(registry, group, version)
    return None


def _aggregated(accept: str) -> str:
    """The version of discovery in one document, if that is asked for before anything else; else empty."""
    for each in accept.split(","):
        media, said = forms.parameters(each)
        if media != forms.JSON:
            continue
        if said.get("g") == _AGGREGATED and said.get("v") in ("v2", "v2beta1"):
            return said["v"]
        if not said.get("as"):
            break
    return ""


def _openapi(registry: Registry, parts: list[str]) -> Answer:
    group, version = ("", parts[3]) if parts[2] == "api" else (parts[3], parts[4] if len(parts) == 5 else "")
    found = openapi.document(registry, group, version)
    if found is None:
        raise status.no_such_path()
    body, tag = found
    headers = (
        ("Content-Encoding", "gzip"),
        ("ETag", f'"{tag}"'),
        ("Cache-Control", "public, immutable"),
    )
    return Answer(200, body, forms.JSON, headers=headers)
