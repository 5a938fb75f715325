"""`python dev/openapi.py KUBERNETES_SOURCE`: make `sync/api/data` anew from what Kubernetes publishes.

Takes the source tree of Kubernetes (a checkout, or the Go module `k8s.io/kubernetes@VERSION` with `k8s.io/api`,
`apimachinery` and `apiextensions-apiserver` beside it). Reads `api/openapi-spec/v3` and `api/discovery`, and from the
types in Go which fields are pointers, since OpenAPI does not say whether Go leaves an empty field out. Writes:

    resources.json     the served kinds: names, verbs, subresources
    schemas.json       their definitions without descriptions; "x-zero" is "omit" for a field that Go leaves out when
                       it is empty and "write" for one that it always writes; "x-go" is the name of a scalar's Go type
    openapi/*.json.gz  a document a group version, cut to the served paths, verbs and JSON, as it is sent

The same source gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[1] / "sync" / "api" / "data"
SERVED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "v1": {
        "bindings": (),
        "configmaps": (),
        "events": (),
        "namespaces": ("finalize", "status"),
        "nodes": ("status",),
        "pods": ("binding", "status"),
        "secrets": (),
        "serviceaccounts": (),
        "services": ("status",),
    },
    "apiextensions.k8s.io/v1": {"customresourcedefinitions": ("status",)},
    "authentication.k8s.io/v1": {"selfsubjectreviews": ()},
    "authorization.k8s.io/v1": {
        "selfsubjectaccessreviews": (),
        "selfsubjectrulesreviews": (),
        "subjectaccessreviews": (),
    },
    "certificates.k8s.io/v1": {"certificatesigningrequests": ("approval", "status")},
    "coordination.k8s.io/v1": {"leases": ()},
    "discovery.k8s.io/v1": {"endpointslices": ()},
    "events.k8s.io/v1": {"events": ()},
}
"""Resources and their subresources by group version. Left out are, of core v1, `endpoints` and all that needs more than
a store: scheduling quotas, volumes, controllers of pods."""
FORMS = {
    "application/json",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
}
PACKAGES = {
    "io.k8s.api.": ("api", ""),
    "io.k8s.apimachinery.pkg.": ("apimachinery", "pkg/"),
    "io.k8s.apiextensions-apiserver.pkg.": ("apiextensions-apiserver", "pkg/"),
}
REFERENCE = "#/components/schemas/"

Json = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make sync/api/data anew from a Kubernetes source tree.")
    parser.add_argument("source", type=Path, help="the tree: a checkout, or the Go module in its cache")
    source: Path = parser.parse_args().source
    resources: list[Json] = []
    definitions: dict[str, Json] = {}
    (OUT / "openapi").mkdir(parents=True, exist_ok=True)
    for old in (OUT / "openapi").iterdir():
        old.unlink()
    for version, served in SERVED.items():
        stem = _stem(version)
        document = json.loads((source / "api/openapi-spec/v3" / f"{stem}_openapi.json").read_text())
        listed = json.loads((source / "api/discovery" / f"{stem}.json").read_text())["resources"]
        known: dict[str, Json] = document["components"]["schemas"]
        found = [_resource(version, plural, below, listed, known) for plural, below in served.items()]
        resources += found
        roots = {each["definition"] for each in found} | {
            name for name in known if name.endswith((".v1.DeleteOptions", ".v1.Status", ".v1.Binding"))
        }
        definitions |= {name: known[name] for name in _reachable(known, roots)}
        cut = _cut(document, {each["plural"]: each for each in found})
        (OUT / "openapi" / f"{stem}.json.gz").write_bytes(gzip.compress(_compact(cut), 9, mtime=0))
    types = GoTypes(source)
    schemas = {name: types.marked(name, _without(definition)) for name, definition in sorted(definitions.items())}
    release = _release(source)
    head = {"source": "github.com/kubernetes/kubernetes: api/openapi-spec/v3, api/discovery", "kubernetes": release}
    (OUT / "resources.json").write_text(json.dumps({**head, "resources": resources}, indent=1) + "\n")
    lines = (f"{json.dumps(name)}:{_compact(schema).decode()}" for name, schema in schemas.items())
    (OUT / "schemas.json").write_text("{" + ",\n".join([f'"":{_compact(head).decode()}', *lines]) + "}\n")


def _stem(version: str) -> str:
    return f"apis__{version.replace('/', '__')}" if "/" in version else f"api__{version}"


def _release(source: Path) -> str:
    """The version: of the module's folder, or of the changelog in a checkout."""
    if found := re.search(r"@v([0-9.]+)$", source.name):
        return found[1]
    names = (source / "CHANGELOG").glob("CHANGELOG-*.md")
    newest = max(names, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])
    return re.findall(r"v(\d+\.\d+\.\d+)", newest.read_text())[0]


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _resource(version: str, plural: str, below: tuple[str, ...], listed: list[Json], known: Mapping[str, Json]) -> Json:
    entries = {entry["name"]: entry for entry in listed}
    entry = entries[plural]
    group, _, number = version.rpartition("/")
    wanted = {"group": group, "kind": entry["kind"], "version": number}
    definition = next(name for name, each in known.items() if wanted in each.get("x-kubernetes-group-version-kind", ()))
    return {
        "group": group,
        "version": number,
        "kind": entry["kind"],
        "plural": plural,
        "singular": entry["singularName"],
        "namespaced": entry["namespaced"],
        "verbs": entry["verbs"],
        "definition": definition,
        "short_names": entry.get("shortNames", []),
        "categories": entry.get("categories", []),
        "subresources": [
            {
                "name": name,
                "verbs": (sub := entries[f"{plural}/{name}"])["verbs"],
                "kind": sub["kind"],
                "group": sub.get("group", ""),
                "version": sub.get("version", ""),
            }
            for name in below
        ],
        "storage_hash": entry.get("storageVersionHash", ""),
    }


def _cut(document: Json, served: Mapping[str, Json]) -> Json:
    paths = {}
    for path, item in document["paths"].items():
        parts = [part for part in path.split("/") if part and not part.startswith("{")]
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        if parts[:1] == ["namespaces"] and "{namespace}" in path:
            parts = parts[1:]
        if not parts or (
            parts[0] in served and (not parts[1:] or parts[1] in {s["name"] for s in served[parts[0]]["subresources"]})
        ):
            paths[path] = _json_only(item)
    known = document["components"]["schemas"]
    kept = _reachable(known, {each["definition"] for each in served.values()} | set(_references(paths)))
    schemas = {name: schema for name, schema in known.items() if name in kept}
    return {
        "openapi": document["openapi"],
        "info": document["info"],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _json_only(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_only(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "content" in value and isinstance(value["content"], dict):
        kept = {form: body for form, body in value["content"].items() if form in FORMS or form == "*/*"}
        value = {**value, "content": kept}
    return {key: _json_only(each) for key, each in value.items()}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        if isinstance(target := value.get("$ref"), str):
            yield target.removeprefix(REFERENCE)
        for each in value.values():
            yield from _references(each)


def _reachable(known: Mapping[str, Json], roots: set[str]) -> set[str]:
    found: set[str] = set()
    todo = list(roots)
    while todo:
        if (name := todo.pop()) not in found:
            found.add(name)
            todo += _references(known[name])
    return found


def _without(value: Any) -> Any:
    """Without the descriptions; a property may have the name too."""
    if isinstance(value, list):
        return [_without(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: _without(each) for key, each in value.items() if not (key == "description" and isinstance(each, str))}


class GoTypes:
    """Fields of the structs in the packages that definitions are made from."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._packages: dict[Path, str] = {}

    def marked(self, name: str, schema: Json) -> Json:
        """A definition with "x-zero" and "x-go" at its fields."""
        fields = dict(self._fields(name))
        for field, node in schema.get("properties", {}).items():
            if field in fields and field not in ("kind", "apiVersion"):
                node |= _marks(*fields[field], node)
        return schema

    def _fields(self, definition: str) -> Iterator[tuple[str, tuple[str, frozenset[str]]]]:
        """(JSON name, (Go type, options of the tag)); embedded structs' own fields in their place."""
        package, _, struct = definition.rpartition(".")
        text = self._package(package + ".")
        body = re.search(rf"^type {struct} struct {{\n(.*?)^}}", text, re.S | re.M)
        for line in body[1].splitlines() if body else ():
            code = line.split("//")[0] if line.strip().startswith("//") else line
            found = re.match(r'\s*(?:\w+\s+)?([\w.*\[\]]+)\s+`.*?json:"([^"]*)"', code)
            if not found:
                continue
            json_name, *options = found[2].split(",")
            if "inline" in options and not json_name:
                yield from self._fields(f"{package}.{found[1]}") if "." not in found[1] else ()
            else:
                yield json_name, (found[1], frozenset(options))

    def _package(self, prefix: str) -> str:
        for known, (module, below) in PACKAGES.items():
            if prefix.startswith(known):
                folder = self._module(module) / (below + prefix.removeprefix(known).rstrip(".").replace(".", "/"))
                if folder not in self._packages:
                    files = [path for path in sorted(folder.glob("*.go")) if "zz_" not in path.name]
                    self._packages[folder] = "".join(path.read_text() for path in files)
                return self._packages[folder]
        return ""

    def _module(self, name: str) -> Path:
        staging = self._source / "staging/src/k8s.io" / name
        minor = re.sub(r"^kubernetes@v1\.", "v0.", self._source.name)
        return staging if staging.is_dir() else self._source.parent / f"{name}@{minor}"


def _marks(go: str, options: frozenset[str], node: Json) -> Json:
    found: Json = {}
    struct = "allOf" in node or "$ref" in node
    if not go.startswith("*"):
        omitted = "omitzero" in options or ("omitempty" in options and not struct)
        found["x-zero"] = "omit" if omitted else "write"
    bare = go.lstrip("*")
    if not struct and node.get("type") not in ("array", "object") and bare not in ("string", "int32", "int64", "bool"):
        found["x-go"] = bare if "." in bare else f"v1.{bare}"
    return found


if __name__ == "__main__":
    main()
