"""Definitions and their objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.sync.api.cases.case import Case, having
from tests.sync.api.kinds import (
    definition,
    shirt,
)

Json = dict[str, Any]


def definitions() -> Iterator[Case]:
    schema: Json = {"type": "object"}

    def field(**node: Any) -> Json:
        return definition(schema={"type": "object", "properties": {"x": node}})

    yield Case("plain", definition())
    yield Case("name", definition("other.example.com"))
    yield Case("group without a dot", definition("shirts.example", group="example"))
    yield Case("no group", definition(group=""))
    yield Case("scope", definition(scope="Global"))
    yield Case("no versions", definition(versions=[]))
    yield Case("no schema", definition(version={"schema": None}))
    yield Case("not stored", definition(version={"storage": False}))
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    yield Case("two stored", definition(versions=[one, {**one, "name": "v2"}]))
    yield Case("two of one name", definition(versions=[one, {**one, "storage": False}]))
    yield Case("two", definition(versions=[one, {**one, "name": "v2", "storage": False}]))
    yield Case("version name", definition(version={"name": "V1"}))
    yield Case("names", definition(names={"plural": "Shirts", "kind": "shirt!", "shortNames": ["S"]}))
    yield Case("no kind", definition(names={"plural": "shirts"}))
    yield Case("kind and list", definition(names={"plural": "shirts", "kind": "Shirt", "listKind": "Shirt"}))
    yield Case("preserve", definition(preserveUnknownFields=True))
    column = {"name": "Color", "type": "string", "jsonPath": ".spec.color"}
    yield Case("column", definition(version={"additionalPrinterColumns": [column]}))
    yield Case("column type", definition(version={"additionalPrinterColumns": [{**column, "type": "text"}]}))
    yield Case("column path", definition(version={"additionalPrinterColumns": [{**column, "jsonPath": "spec"}]}))
    yield Case("root type", definition(schema={"type": "string"}))
    yield Case("no root type", definition(schema={"properties": {"x": {"type": "string"}}}))
    yield Case("no field type", field(description="x"))
    yield Case("type unknown", field(type="text"))
    yield Case("array without items", field(type="array"))
    yield Case(
        "both kinds of properties",
        field(type="object", properties={"a": {"type": "string"}}, additionalProperties={"type": "string"}),
    )
    yield Case("bad pattern", field(type="string", pattern="("))
    yield Case("unique items", field(type="array", uniqueItems=True, items={"type": "string"}))
    yield Case("list type unknown", field(type="array", items={"type": "string"}, **{"x-kubernetes-list-type": "bag"}))
    yield Case("map without keys", field(type="array", items={"type": "object"}, **{"x-kubernetes-list-type": "map"}))
    yield Case("default", field(type="integer", default=5))
    yield Case("wrong default", field(type="integer", default="five"))
    yield Case("int or string", field(**{"x-kubernetes-int-or-string": True}))
    yield Case("type inside anyOf", field(type="object", anyOf=[{"type": "object"}]))
    yield Case("metadata", definition(schema={"type": "object", "properties": {"metadata": {"type": "string"}}}))
    yield Case("unknown field", field(type="string", colour="red"))
    yield Case("webhook", definition(conversion={"strategy": "Webhook"}))
    yield Case("deprecation warning", definition(version={"deprecationWarning": "x"}))


def shirts() -> Iterator[Case]:
    yield Case("plain", shirt(color="red"))
    yield Case("no spec", {"apiVersion": "example.com/v1", "kind": "Shirt", "metadata": {"name": "s1"}})
    yield Case("no color", shirt())
    yield Case("color", shirt(color="green"))
    yield Case("type", shirt(color="red", size="large"))
    yield Case("small", shirt(color="red", size=0))
    yield Case("large", shirt(color="red", size=61))
    yield Case("long label", shirt(color="red", label="abcdefg"))
    yield Case("short label", shirt(color="red", label="a"))
    yield Case("pattern", shirt(color="red", label="A1"))
    yield Case("weight 0", shirt(color="red", weight=0))
    yield Case("weight 0.3", shirt(color="red", weight=0.3))
    yield Case("null", shirt(color="red", note=None))
    yield Case("null where it may not be", shirt(color=None))
    yield Case("null for a default", shirt(color="red", size=None))
    yield Case("time", shirt(color="red", since="yesterday"))
    yield Case("width", shirt(color="red", width="5%"))
    yield Case("width wrong", shirt(color="red", width=[]))
    yield Case("tags twice", shirt(color="red", tags=["a", "a"]))
    yield Case("tags many", shirt(color="red", tags=["a", "b", "c"]))
    yield Case("parts", shirt(color="red", parts=[{"name": "sleeve"}, {"name": "collar", "count": 2}]))
    yield Case("parts twice", shirt(color="red", parts=[{"name": "sleeve"}, {"name": "sleeve"}]))
    yield Case("part without a name", shirt(color="red", parts=[{"count": 1}]))
    yield Case("free", shirt(color="red", free={"any": {"thing": [1, None]}}))
    yield Case("sizes", shirt(color="red", sizes={"a": 1, "b": "2"}))
    yield Case("sizes many", shirt(color="red", sizes={"a": 1, "b": 2, "c": 3}))
    yield Case("no way", shirt(color="red", way={}))
    yield Case("two ways", shirt(color="red", way={"a": "x", "b": "y"}))
    yield Case("unknown", shirt(color="red", fabric="wool"))
    yield Case("unknown in a list", shirt(color="red", parts=[{"name": "a", "x": 1}]))
    yield Case("name", shirt("S1", color="red"))
    yield Case("status is dropped", having(shirt(color="red"), status={"worn": True}))
    yield Case("status", shirt(color="red"), {"status": {"worn": True}, "spec": {"color": "blue"}}, "status")
    yield Case("bad status", shirt(color="red"), {"status": {"worn": "yes"}}, "status")
    yield Case("changed", shirt(color="red"), {"spec": {"color": "blue"}})
    yield Case("metadata changed", shirt(color="red"), {"metadata": {"labels": {"a": "b"}}})
