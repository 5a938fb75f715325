"""CustomResourceDefinition, apiextensions.k8s.io/v1: names, versions, structural schemas, columns.

Rules are those of apiextensions-apiserver's `validation` and `schema`. Conversion by webhook is refused: this API
stores one version and serves the others as they are. `subresources.scale` and CEL rules are accepted and have no
effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sync.api.crd import established
from sync.api.schema import Schema
from sync.api.status import Cause
from sync.api.validation.custom import against_schema, compiled
from sync.api.validation.fields import choice, forbidden, immutable, invalid, not_supported, required
from sync.api.validation.metadata import metadata, metadata_update
from sync.api.validation.names import dns_1035_label, dns_subdomain

Json = Mapping[str, Any]

COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
JSON_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_JSON_PATH = re.compile(r"(\.[\w-]+|\.?\[[^\[\]]+\]|\\\.)+")
_FORBIDDEN = ("$ref", "definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties", "xml")
_INSIDE = (
    "additionalProperties",
    "default",
    "description",
    "nullable",
    "title",
    "type",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
)
"""What may not stand inside allOf, anyOf, oneOf and not."""


def definition(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    if old is None:
        found = metadata(obj["metadata"], namespaced=False, name_rule=lambda text: _name(text, obj["spec"]))
    else:
        found = metadata_update(obj["metadata"], old["metadata"])
    if subresource:
        return found
    spec = obj["spec"]
    found += list(_spec(spec))
    if old is not None and established(old):
        found += immutable("spec.scope", spec.get("scope"), old["spec"].get("scope"))
        found += immutable("spec.names.kind", spec["names"].get("kind"), old["spec"]["names"].get("kind"))
        found += immutable("spec.group", spec.get("group"), old["spec"].get("group"))
        found += immutable("spec.names.plural", spec["names"].get("plural"), old["spec"]["names"].get("plural"))
    names = [each.get("name") for each in spec.get("versions") or ()]
    for index, each in enumerate(obj["status"].get("storedVersions") or ()):
        if each not in names:
            detail = (
                f"missing from spec.versions; {each} was previously a storage version, and must remain in "
                "spec.versions until a storage migration ensures no data remains persisted in "
                f"{each} and removes {each} from status.storedVersions"
            )
            found.append(invalid(f"status.storedVersions[{index}]", each, detail))
    return found


def _name(text: str, spec: Json) -> list[str]:
    wanted = f"{spec['names'].get('plural', '')}.{spec.get('group', '')}"
    return dns_subdomain(text) + ([] if text == wanted else ['must be spec.names.plural+"."+spec.group'])


def _spec(spec: Json) -> Iterator[Cause]:
    group = spec.get("group", "")
    if not group:
        yield required("spec.group")
    elif wrong := dns_subdomain(group):
        yield invalid("spec.group", group, ",".join(wrong))
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")
    yield from choice("spec.scope", spec.get("scope"), ("Cluster", "Namespaced"))
    if spec.get("preserveUnknownFields"):
        detail = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        )
        yield invalid("spec.preserveUnknownFields", True, detail)
    versions = spec.get("versions") or []
    for index, each in enumerate(versions):
        if not each.get("schema", {}).get("openAPIV3Schema"):
            yield required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required")
    for index, each in enumerate(versions):
        yield from _version(each, f"spec.versions[{index}]")
    names = [each.get("name") for each in versions]
    if len(names) > len(set(names)):
        yield invalid("spec.versions", versions, "must contain unique version names")
    if sum(bool(each.get("storage")) for each in versions) != 1:
        yield invalid("spec.versions", versions, "must have exactly one version marked as storage version")
    yield from _names(spec["names"])
    strategy = spec.get("conversion", {}).get("strategy", "None")
    if strategy != "None":
        yield not_supported("spec.conversion.strategy", strategy, ("None",))


def _names(names: Json) -> Iterator[Cause]:
    at = "spec.names"
    for field in ("plural", "singular", "kind", "listKind"):
        if not names.get(field):
            yield required(f"{at}.{field}")
    for field in ("plural", "singular"):
        if names.get(field) and (wrong := dns_1035_label(names[field])):
            yield invalid(f"{at}.{field}", names[field], ",".join(wrong))
    for field in ("kind", "listKind"):
        if names.get(field) and (wrong := dns_1035_label(names[field].lower())):
            detail = "may have mixed case, but should otherwise match: " + ",".join(wrong)
            yield invalid(f"{at}.{field}", names[field], detail)
    for field in ("shortNames", "categories"):
        for index, each in enumerate(names.get(field) or ()):
            if wrong := dns_1035_label(each):
                yield invalid(f"{at}.{field}[{index}]", each, ",".join(wrong))
    if names.get("kind") and names["kind"] == names.get("listKind"):
        yield invalid(f"{at}.listKind", names["listKind"], "kind and listKind may not be the same")


def _version(version: Json, at: str) -> Iterator[Cause]:
    name = version.get("name", "")
    if wrong := dns_1035_label(name):
        yield invalid(f"{at}.name", name, ",".join(wrong))
    if version.get("deprecationWarning") is not None and not version.get("deprecated"):
        detail = "can only be set for deprecated versions"
        yield invalid(f"{at}.deprecationWarning", version["deprecationWarning"], detail)
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        yield from _column(column, f"{at}.additionalPrinterColumns[{index}]")
    for index, each in enumerate(version.get("selectableFields") or ()):
        if not _JSON_PATH.fullmatch(each.get("jsonPath", "")):
            detail = "must be a simple json path, such as .spec.color"
            yield invalid(f"{at}.selectableFields[{index}].jsonPath", each.get("jsonPath", ""), detail)
    schema = version.get("schema", {}).get("openAPIV3Schema")
    if schema:
        yield from _schema(schema, f"{at}.schema.openAPIV3Schema")


def _column(column: Json, at: str) -> Iterator[Cause]:
    kind, form, path = column.get("type", ""), column.get("format", ""), column.get("jsonPath", "")
    if not column.get("name"):
        yield required(f"{at}.name")
    types = f"must be one of {','.join(COLUMN_TYPES)}"
    if not kind:
        yield required(f"{at}.type", types)
    elif kind not in COLUMN_TYPES:
        yield invalid(f"{at}.type", kind, types)
    if form and form not in COLUMN_FORMATS:
        yield invalid(f"{at}.format", form, f"must be one of {','.join(COLUMN_FORMATS)}")
    if not path:
        yield required(f"{at}.JSONPath")
    elif not _JSON_PATH.fullmatch(path):
        yield invalid(f"{at}.JSONPath", path, "must be a simple json path with leading .")


def _schema(schema: Json, at: str) -> Iterator[Cause]:
    found = list(_structural(schema, at, "root"))
    if not found:
        try:
            compiled(schema)
        except ValueError as error:
            found.append(invalid(at, "", " ".join(str(error).split())))
    if not found:
        found += _defaults(Schema(schema, custom=True), at)
    yield from found


def _structural(node: Json, at: str, place: str) -> Iterator[Cause]:
    """`place` is root, field or item."""
    for name in _FORBIDDEN:
        if node.get(name):
            yield forbidden(f"{at}.{name}", f"{name} is not supported")
    kind = node.get("type", "")
    free = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
    if kind and kind not in JSON_TYPES:
        yield not_supported(f"{at}.type", kind, JSON_TYPES)
    if not kind and (place == "root" or not free):
        where = {"root": "at the root", "item": "for specified array items", "field": "for specified object fields"}
        yield required(f"{at}.type", f"must not be empty {where[place]}")
    if place == "root" and kind and kind != "object":
        yield invalid(f"{at}.type", kind, "must be object at the root")
    if place == "root" and node.get("additionalProperties"):
        yield forbidden(f"{at}.additionalProperties", "must not be used at the root")
    if node.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            detail = "must be object if x-kubernetes-embedded-resource is true"
            yield invalid(f"{at}.type", kind, detail) if kind else required(f"{at}.type", detail)
        if not node.get("properties") and not node.get("x-kubernetes-preserve-unknown-fields"):
            detail = (
                "must not be empty if x-kubernetes-embedded-resource is true "
                "without x-kubernetes-preserve-unknown-fields"
            )
            yield required(f"{at}.properties", detail)
    if node.get("properties") and node.get("additionalProperties"):
        yield forbidden(f"{at}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if kind == "array" and not node.get("items"):
        yield required(f"{at}.items", "must be specified")
    if node.get("uniqueItems"):
        yield forbidden(
            f"{at}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )
    yield from _list_type(node, at)
    for name, below in (node.get("properties") or {}).items():
        if place == "root" and name == "metadata":
            yield from _metadata(below, f"{at}.properties[metadata]")
        elif place == "root" and name in ("apiVersion", "kind"):
            if below.get("type") != "string":
                yield invalid(f"{at}.properties[{name}].type", below.get("type", ""), "must be string")
        else:
            yield from _structural(below, f"{at}.properties[{name}]", "field")
    if isinstance(below := node.get("additionalProperties"), Mapping):
        yield from _structural(below, f"{at}.additionalProperties", "field")
    if isinstance(below := node.get("items"), Mapping):
        yield from _structural(below, f"{at}.items", "item")
    elif isinstance(below, list):
        yield forbidden(f"{at}.items", "items must be a schema object and not an array")
    for name in ("allOf", "anyOf", "oneOf"):
        for index, each in enumerate(node.get(name) or ()):
            yield from _inside(
                each, f"{at}.{name}[{index}]", int_or_string=bool(node.get("x-kubernetes-int-or-string"))
            )
    if isinstance(below := node.get("not"), Mapping):
        yield from _inside(below, f"{at}.not")


def _inside(node: Json, at: str, *, int_or_string: bool = False) -> Iterator[Cause]:
    for name in _INSIDE:
        if node.get(name) and not (int_or_string and name == "type"):
            yield forbidden(f"{at}.{name}", "must be undefined to be structural")
    for name, below in (node.get("properties") or {}).items():
        yield from _inside(below, f"{at}.properties[{name}]")
    for name in ("allOf", "anyOf", "oneOf"):
        for index, each in enumerate(node.get(name) or ()):
            yield from _inside(each, f"{at}.{name}[{index}]", int_or_string=int_or_string)
    if isinstance(below := node.get("items"), Mapping):
        yield from _inside(below, f"{at}.items")
    if isinstance(below := node.get("not"), Mapping):
        yield from _inside(below, f"{at}.not")


def _metadata(node: Json, at: str) -> Iterator[Cause]:
    if node.get("type") != "object":
        yield invalid(f"{at}.type", node.get("type", ""), "must be object")
    if set(node.get("properties") or ()) - {"name", "generateName"}:
        detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        yield forbidden(at, detail)


def _list_type(node: Json, at: str) -> Iterator[Cause]:
    kind, keys = node.get("x-kubernetes-list-type"), node.get("x-kubernetes-list-map-keys") or ()
    if kind is not None and kind not in ("atomic", "set", "map"):
        yield not_supported(f"{at}.x-kubernetes-list-type", kind, ("atomic", "set", "map"))
    if kind is not None and node.get("type") != "array":
        detail = "must be array if x-kubernetes-list-type is specified"
        yield invalid(f"{at}.type", node.get("type", ""), detail)
    if kind != "map":
        if keys:
            detail = "must be map if x-kubernetes-list-map-keys is non-empty"
            yield invalid(f"{at}.x-kubernetes-list-type", kind or "", detail)
        return
    if not keys:
        yield required(f"{at}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    items = node.get("items")
    if not isinstance(items, Mapping):
        return
    for key in keys:
        if key not in (items.get("properties") or {}):
            detail = "entries must all be names of item properties"
            yield invalid(f"{at}.x-kubernetes-list-map-keys", key, detail)
        elif key not in (items.get("required") or ()) and "default" not in items["properties"][key]:
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            )
            yield required(f"{at}.items.properties[{key}].default", detail)
    kind = node.get("x-kubernetes-map-type")
    if kind is not None and kind not in ("granular", "atomic"):
        yield not_supported(f"{at}.x-kubernetes-map-type", kind, ("atomic", "granular"))


def _defaults(schema: Schema, at: str) -> list[Cause]:
    found: list[Cause] = []
    for name, below in schema.properties.items():
        here = f"{at}.properties[{name}]"
        if below.has_default and not (below.default is None and below.nullable):
            for cause in against_schema(below.default, None, below):
                path = cause.field if cause.field != "<nil>" else ""
                found.append(cause._replace(field=f"{here}.default{'.' if path else ''}{path}"))
        found += _defaults(below, here)
    for name, inner in (("items", schema.items), ("additionalProperties", schema.additional)):
        if inner is not None:
            found += _defaults(inner, f"{at}.{name}")
    return found
