"""`python dev/protobuf.py MODULES`: make `sync/api/data/messages.json` anew from what Kubernetes publishes.

Takes the folder that holds the Go modules `api@v…` and `apimachinery@v…` of one release.
Reads their `generated.proto` files: what a client's protobuf body means, by message and field number. A field that is
embedded in JSON (`Volume`'s source) is told by the schema, which does not have it: `sync/api/data/schemas.json`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

VERSION = "v0.34.2"
OUT = Path(__file__).parents[1] / "sync" / "api" / "data"
FILES = (
    "api@{}/core/v1",
    "api@{}/discovery/v1",
    "api@{}/coordination/v1",
    "api@{}/certificates/v1",
    "api@{}/events/v1",
    "api@{}/authorization/v1",
    "api@{}/authentication/v1",
    "apimachinery@{}/pkg/apis/meta/v1",
    "apimachinery@{}/pkg/util/intstr",
    "apimachinery@{}/pkg/api/resource",
    "apimachinery@{}/pkg/runtime",
)
SCALARS = {"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double"}
_PACKAGE = re.compile(r"^package ([\w.]+);", re.M)
_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.M | re.S)
_FIELD = re.compile(r"^\s*(?:(optional|repeated) ([\w.]+)|map<string, ([\w.]+)>) (\w+) = (\d+);", re.M)


def messages(modules: Path) -> dict[str, dict[str, list[str]]]:
    """Fields by message and number: [name, how, type]; how is one, many, map or inline."""
    schemas = json.loads((OUT / "schemas.json").read_text())
    found: dict[str, dict[str, list[str]]] = {}
    for file in FILES:
        text = (modules / file.format(VERSION) / "generated.proto").read_text()
        package = _PACKAGE.search(text)
        assert package is not None
        for name, body in _MESSAGE.findall(text):
            known = schemas.get(_schema_name(f"{package[1]}.{name}"), {}).get("properties")
            fields = {}
            for label, single, mapped, field, number in _FIELD.findall(body):
                type = single or mapped
                if type not in SCALARS:
                    type = type.removeprefix(".") if type.startswith(".") else f"{package[1]}.{type}"
                how = "map" if mapped else {"repeated": "many", "optional": "one"}[label]
                if how == "one" and known is not None and field not in known and type not in SCALARS:
                    how = "inline"
                fields[number] = [field, how, type]
            found[f"{package[1]}.{name}"] = fields
    return found


def served(found: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    """Those that a body of a served kind may have; definitions of custom resources have their clients write JSON."""
    kinds = json.loads((OUT / "resources.json").read_text())["resources"]
    names = {_message_name(each["definition"]) for each in kinds if each["group"] != "apiextensions.k8s.io"}
    todo = sorted({*names, "k8s.io.api.core.v1.Binding", "k8s.io.apimachinery.pkg.apis.meta.v1.DeleteOptions"})
    kept: dict[str, dict[str, list[str]]] = {}
    while todo:
        name = todo.pop()
        if name not in kept:
            kept[name] = found[name]
            todo += [type for _, _, type in found[name].values() if type not in SCALARS]
    return dict(sorted(kept.items()))


def _schema_name(message: str) -> str:
    return message.replace("k8s.io.", "io.k8s.", 1)


def _message_name(definition: str) -> str:
    return definition.replace("io.k8s.", "k8s.io.", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    kept = served(messages(given.modules))
    lines = [f"{json.dumps(name)}:{json.dumps(fields, separators=(',', ':'))}" for name, fields in kept.items()]
    source = {"1": [f"github.com/kubernetes: generated.proto of k8s.io/api, k8s.io/apimachinery {VERSION}", "", ""]}
    lines.insert(0, f'"":{json.dumps(source)}')
    (given.out / "messages.json").write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
