"""Bodies, types, unknown fields and defaults."""

from __future__ import annotations

from typing import Any

import pytest

from sync.api.codec import JSON, YAML, decode
from sync.api.events import to_core, to_new
from sync.api.prune import prune_and_default, strict_error, warnings
from sync.api.quantity import parse
from sync.api.status import ApiError
from tests.sync.api.kinds import config_map, created, definition, event, new_event, registry, service, shirt, type_of

AMONG = registry(definition())
FREE = {"x-kubernetes-preserve-unknown-fields": True}


def test_duplicate_fields_are_told_and_the_last_counts() -> None:
    body = b'{"a": 1, "b": {"c": [{"x": 1, "x": 2}], "c": [{"x": 3}]}, "a": 2}'
    assert decode(body, JSON) == ({"a": 2, "b": {"c": [{"x": 3}]}}, ["b.c[0].x", "b.c", "a"])


def test_yaml() -> None:
    body = b"a: &x {on: yes, when: 2026-01-01, n: 012}\nb: *x\n"
    found, _ = decode(body, YAML)
    assert found == {"a": {"on": True, "when": "2026-01-01", "n": 10}, "b": {"on": True, "when": "2026-01-01", "n": 10}}
    assert found["a"] is not found["b"]


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b'{"a":NaN}', b'{"a":"\\ud800"}', b'{"a":"\xff"}'])
def test_unreadable(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        decode(body, JSON)
    assert caught.value.code == 400


def test_other_media_types() -> None:
    with pytest.raises(ApiError) as caught:
        decode(b"{}", "application/vnd.kubernetes.protobuf")
    assert caught.value.code == 415


def test_unknown_fields() -> None:
    obj: dict[str, Any] = service(ports=[{"port": 80, "colour": 1}], size=2)
    obj["metadata"]["shape"] = "round"
    found: list[str] = []
    type = type_of(obj, AMONG)
    prune_and_default(obj, type, found=found)
    assert found == ["metadata.shape", "spec.ports[0].colour", "spec.size"]
    assert "size" not in obj["spec"]
    error = strict_error(type, found[:1], ["spec.type"])
    assert error.code == 400
    assert error.message == (
        'Service in version "v1" cannot be handled as a Service: '
        'strict decoding error: duplicate field "spec.type", unknown field "metadata.shape"'
    )
    assert warnings(["a"], ["b"]) == ['duplicate field "b"', 'unknown field "a"']


def test_defaults_are_not_shared() -> None:
    nested = {"type": "object", "properties": {"x": {"type": "object", "default": {"a": []}, **FREE}}}
    among = registry(definition(schema=nested))
    bare = {name: value for name, value in shirt().items() if name != "spec"}
    one = created({**bare, "x": None}, among)
    assert one["x"] == {"a": []}
    one["x"]["a"].append(1)
    assert created(bare, among)["x"] == {"a": []}


def test_embedded_objects_keep_what_all_objects_have() -> None:
    schema = {
        "type": "object",
        "properties": {
            "inner": {
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}},
            }
        },
    }
    among = registry(definition(schema=schema))
    inner = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "y"}, "spec": {"a": "b", "c": "d"}}
    obj = {**shirt(), "inner": inner}
    del obj["spec"]
    found: list[str] = []
    prune_and_default(obj, type_of(obj, among), found=found)
    assert found == ["inner.spec.c"]
    assert obj["inner"] == {**inner, "spec": {"a": "b"}}


def test_zero_values_go_and_pointers_stay() -> None:
    obj = created({**config_map(data={}), "immutable": False}, AMONG)
    assert "data" not in obj
    assert obj["immutable"] is False


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Ki", "1Mi"),
        ("1e3", "1e3"),
        ("500", "500"),
        ("3000k", "3M"),
        ("0.1n", "1n"),
        ("-1", "-1"),
        ("0", "0"),
        ("99999999999999999999", "9223372036854775807"),
    ],
)
def test_quantity(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


def test_events_of_both_groups_are_one() -> None:
    old, new = event(count=2), new_event()
    assert to_core(to_new(old)) == old
    assert to_new(to_core(new)) == new
    assert to_core(new)["message"] == new["note"]
