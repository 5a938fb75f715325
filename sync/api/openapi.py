"""OpenAPI v3: the index with hashes and a document a group version; and which Kubernetes this says it is.

Built-in documents are files, sent as they are. A CRD's is made from its schemas when it is first asked for.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec

from sync.api.registry import Registry, ResourceType, Subresource, by_group
from sync.api.schema import DATA

KUBERNETES = "1.34.2"
"""What is said to clients; the data's release (`data/resources.json`)."""
_KIND = "x-kubernetes-group-version-kind"
_REFERENCE = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"

Json = dict[str, Any]


def index(registry: Registry) -> Json:
    """/openapi/v3: {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=…"}}}."""
    paths = {}
    for group, versions in by_group(registry.all()).items():
        for version, types in versions.items():
            path = _path(group, version)
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(types)}"}
    return {"paths": paths}


def document(registry: Registry, group: str, version: str) -> tuple[bytes, str] | None:
    """(the document gzipped, its hash), or None if it is not served."""
    types = by_group(registry.all()).get(group, {}).get(version)
    if not types:
        return None
    if not types[0].custom:
        return _file(group, version).read_bytes(), _hash(types)
    return _made(tuple(types)), _hash(types)


def version() -> dict[str, str]:
    """/version."""
    major, minor, _ = KUBERNETES.split(".")
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"v{KUBERNETES}+edgemesh",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _file(group: str, version: str) -> Any:
    return DATA / "openapi" / f"{_path(group, version).replace('/', '__')}.json.gz"


@cache
def _file_hash(group: str, version: str) -> str:
    return _digest(_file(group, version).read_bytes())


def _hash(types: Sequence[ResourceType]) -> str:
    first = types[0]
    if not first.custom:
        return _file_hash(first.group, first.version)
    parts = [[each.kind, each.plural, each.namespaced, sorted(each.subresources), each.schema.node] for each in types]
    return _digest(msgspec.json.encode(parts, order="deterministic"))


def _digest(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest().upper()


_documents: dict[str, bytes] = {}
"""The last few that were made, by hash."""
_KEPT = 32


def _made(types: tuple[ResourceType, ...]) -> bytes:
    key = _hash(types)
    if key not in _documents:
        while len(_documents) >= _KEPT:
            _documents.pop(next(iter(_documents)))
        _documents[key] = gzip.compress(msgspec.json.encode(_custom(types)), 6, mtime=0)
    return _documents[key]


def _custom(types: Iterable[ResourceType]) -> Json:
    """A document with a path and a definition for each kind. Parameters and lists are those of a built-in document."""
    base: Json = msgspec.json.decode(gzip.decompress(_file("coordination.k8s.io", "v1").read_bytes()))
    known: Json = base["components"]["schemas"]
    like = {path.partition("/v1/")[2]: item for path, item in base["paths"].items()}
    schemas = {name: known[name] for name in known if name.startswith(_META)}
    paths: Json = {}
    for each in types:
        name = _definition_name(each)
        schemas[name] = _definition(each)
        schemas[f"{name}List"] = _list(each, name)
        root = f"/{_path(each.group, each.version)}/"
        if each.namespaced:
            root += "namespaces/{namespace}/"
            across = like["leases"]
            paths[f"/{_path(each.group, each.version)}/{each.plural}"] = _renamed(across, each, name, "", cluster=False)
        for key, end in (("namespaces/{namespace}/leases", ""), ("namespaces/{namespace}/leases/{name}", "/{name}")):
            paths[f"{root}{each.plural}{end}"] = _renamed(like[key], each, name, "", cluster=not each.namespaced)
        for sub in each.served_subresources:
            item = _renamed(like["namespaces/{namespace}/leases/{name}"], each, name, sub.name, not each.namespaced)
            paths[f"{root}{each.plural}/{{name}}/{sub.name}"] = _verbs(item, sub)
    return {"openapi": base["openapi"], "info": base["info"], "paths": paths, "components": {"schemas": schemas}}


def _verbs(item: Json, sub: Subresource) -> Json:
    methods = {"get": "get", "put": "update", "patch": "patch"}
    return {key: value for key, value in item.items() if key == "parameters" or methods.get(key) in sub.verbs}


def _renamed(item: Json, type: ResourceType, name: str, sub: str, cluster: bool) -> Json:
    """A path of leases, for this kind."""
    item = copy.deepcopy(item)
    wanted = {"group": type.group, "kind": type.kind, "version": type.version}
    where = f"{''.join(part.capitalize() for part in type.group.split('.'))}{type.version.capitalize()}"
    tag = f"{where[0].lower()}{where[1 : -len(type.version)]}_{type.version}"

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: wanted if key == _KIND and each["kind"] == "Lease" else walk(each) for key, each in value.items()
            }
        if isinstance(value, list):
            return [walk(each) for each in value]
        if isinstance(value, str):
            if value.startswith(_REFERENCE):
                return value.replace("io.k8s.api.coordination.v1.Lease", name)
            value = value.replace("CoordinationV1", where).replace("coordination_v1", tag).replace("Lease", type.kind)
            return value.replace("Namespaced", "") if cluster else value
        return value

    found: Json = walk(item)
    if cluster:
        found["parameters"] = [each for each in found["parameters"] if each["name"] != "namespace"]
    if sub:
        for operation in found.values():
            if isinstance(operation, dict) and "operationId" in operation:
                operation["operationId"] += sub.capitalize()
    return found


def _definition_name(type: ResourceType) -> str:
    return ".".join([*reversed(type.group.split(".")), type.version, type.kind])


def _definition(type: ResourceType) -> Json:
    node = _published(type.schema.node)
    properties = node.setdefault("properties", {})
    lease: Mapping[str, Any] = _texts()
    properties["apiVersion"] = {"type": "string", "description": lease["apiVersion"]}
    properties["kind"] = {"type": "string", "description": lease["kind"]}
    properties["metadata"] = {
        "allOf": [{"$ref": f"{_REFERENCE}{_META}.ObjectMeta"}],
        "description": f"Standard object's metadata. {lease['metadata']}",
    }
    node["x-kubernetes-group-version-kind"] = [{"group": type.group, "kind": type.kind, "version": type.version}]
    return node


@cache
def _texts() -> dict[str, str]:
    """Kubernetes' words for the fields that all kinds have."""
    base = msgspec.json.decode(gzip.decompress(_file("coordination.k8s.io", "v1").read_bytes()))
    fields = base["components"]["schemas"]["io.k8s.api.coordination.v1.Lease"]["properties"]
    return {name: fields[name]["description"] for name in ("apiVersion", "kind", "metadata")}


def _published(node: Mapping[str, Any]) -> Json:
    """A structural schema as it is published: without rules in CEL; objects of any shape without their fields."""
    found: Json = {}
    for name, value in node.items():
        if name == "properties":
            found[name] = {key: each if "$ref" in each else _published(each) for key, each in value.items()}
        elif name in ("items", "additionalProperties", "not") and isinstance(value, Mapping):
            found[name] = _published(value)
        elif name in ("allOf", "anyOf", "oneOf"):
            found[name] = [_published(each) for each in value]
        elif name != "x-kubernetes-validations":
            found[name] = value
    if node.get("x-kubernetes-int-or-string") and "anyOf" not in found:
        found["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return found


def _list(type: ResourceType, name: str) -> Json:
    return {
        "description": f"{type.list_kind} is a list of {type.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": _texts()["apiVersion"]},
            "kind": {"type": "string", "description": _texts()["kind"]},
            "metadata": {"allOf": [{"$ref": f"{_REFERENCE}{_META}.ListMeta"}]},
            "items": {"type": "array", "items": {"$ref": _REFERENCE + name}, "description": f"List of {type.plural}."},
        },
        "x-kubernetes-group-version-kind": [{"group": type.group, "kind": type.list_kind, "version": type.version}],
    }
