"""The data that is made from Kubernetes' source."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sync.api import openapi
from sync.api.registry import Registry
from sync.api.schema import DATA, Schema, builtin

ROOT = Path(__file__).parents[3]


def test_made_again_it_is_the_same(tmp_path: Path) -> None:
    modules = Path(os.environ.get("GOMODCACHE") or Path.home() / "go" / "pkg" / "mod") / "k8s.io"
    source = modules / f"kubernetes@v{openapi.KUBERNETES}"
    if not source.is_dir():
        pytest.skip(f"Kubernetes' source is not in Go's module cache: {source.name}")
    subprocess.run([sys.executable, ROOT / "dev" / "openapi.py", source, "--out", tmp_path], check=True, timeout=60)
    subprocess.run([sys.executable, ROOT / "dev" / "protobuf.py", modules, "--out", tmp_path], check=True, timeout=60)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    kept = {path.relative_to(DATA): path.read_bytes() for path in DATA.rglob("*.*")}
    assert made.keys() == kept.keys()
    assert [path for path in made if made[path] != kept[path]] == []


def test_source_and_version_are_named() -> None:
    for name in ("resources.json", "schemas.json"):
        head = json.loads((DATA / name).read_text())
        head = head.get("", head)
        assert head["kubernetes"] == openapi.KUBERNETES
        assert "github.com/kubernetes/kubernetes" in head["source"]


def test_every_kind_has_its_schema_and_document() -> None:
    registry = Registry()
    for each in registry.all():
        assert each.schema.properties["metadata"].name.endswith("ObjectMeta"), each.kind
        made = openapi.document(registry, each.group, each.version)
        assert made is not None
        document = json.loads(gzip.decompress(made[0]))
        kinds = [
            kind
            for schema in document["components"]["schemas"].values()
            for kind in schema.get("x-kubernetes-group-version-kind", ())
        ]
        assert {"group": each.group, "kind": each.kind, "version": each.version} in kinds
    assert openapi.document(registry, "apps", "v1") is None
    assert set(openapi.index(registry)["paths"]) == {
        f"apis/{each.group}/{each.version}" if each.group else "api/v1" for each in registry.all()
    }


def test_documents_refer_to_nothing_that_is_not_there() -> None:
    for path in (DATA / "openapi").iterdir():
        text = gzip.decompress(path.read_bytes()).decode()
        document = json.loads(text)
        known = set(document["components"]["schemas"])
        used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
        assert used <= known
        assert "protobuf" not in text


def test_schema() -> None:
    service = Schema.of(builtin(), "io.k8s.api.core.v1.Service")
    ports = service.properties["spec"].properties["ports"]
    assert (ports.list_type, ports.list_map_keys) == ("map", ("port", "protocol"))
    assert (ports.patch_strategy, ports.patch_merge_key) == (frozenset(("merge",)), "port")
    assert ports.items is not None
    assert ports.items.properties["protocol"].default == "TCP"
    assert ports.items.properties["targetPort"].int_or_string
    assert service.properties["spec"].properties["selector"].map_type == "atomic"
    assert service.field("nothing") is None
    volumes = Schema.of(builtin(), "io.k8s.api.core.v1.PodSpec").properties["volumes"]
    assert volumes.patch_strategy == frozenset(("merge", "retainKeys"))
    fields = Schema.of(builtin(), "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry").properties["fieldsV1"]
    assert fields.preserve_unknown
