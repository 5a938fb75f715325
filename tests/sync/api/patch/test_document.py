"""JSON patch and merge patch: RFC 6902 and 7386's examples, bounds, and that nothing but ApiError comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.api.patch import json_patch, merge_patch
from sync.api.patch.document import MOST_OPERATIONS
from sync.api.patch.values import copy
from sync.api.status import ApiError

scalars = st.none() | st.booleans() | st.integers(-3, 300) | st.sampled_from(["", "a", "b", "c"])
keys = st.sampled_from(["a", "b", "c", "~", "a/b"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
objects = st.dictionaries(keys, values, max_size=4)
pointers = st.lists(st.sampled_from(["a", "b", "~0", "a~1b", "0", "1", "-", "", "~"]), max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "spoil"]), "path": pointers},
    optional={"from": pointers, "value": values},
)


def body(patch: Any) -> bytes:
    return json.dumps(patch).encode()


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


@pytest.mark.parametrize(
    ("obj", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_examples_of_rfc_7386(obj: Any, patch: Any, result: Any) -> None:
    assert merge_patch(obj, body(patch)) == result


@given(objects, objects)
def test_a_merge_patch_done_twice_is_done_once(obj: Any, patch: Any) -> None:
    before = copy(obj)
    once = merge_patch(obj, body(patch))
    assert merge_patch(once, body(patch)) == once
    assert obj == before


@given(objects, objects)
def test_what_a_merge_patch_says_is_there_after_it(obj: Any, patch: Any) -> None:
    made = merge_patch(obj, body(patch))
    assert {key for key in patch if key in made} == {key for key, said in patch.items() if said is not None}
    assert merge_patch({}, body(patch)) == without_nulls(patch)
    assert merge_patch(obj, b"{}") == obj


@given(objects, st.lists(operations, max_size=5))
def test_a_json_patch_is_done_or_refused_and_leaves_its_object_alone(obj: Any, patch: Any) -> None:
    before = copy(obj)
    try:
        made = json_patch(obj, body(patch))
    except ApiError as error:
        assert error.code in (400, 422)  # noqa: PT017 - either is right
    else:
        assert isinstance(made, dict)
    assert obj == before


@given(st.binary(max_size=30) | values.map(body))
def test_bytes_that_are_no_patch_are_refused(text: bytes) -> None:
    for patch in (json_patch, merge_patch):
        try:
            patch({"a": 1}, text)
        except ApiError as error:
            assert error.code in (400, 422)  # noqa: PT017 - either is right


def test_json_patch_does_its_operations_in_turn() -> None:
    patch = [
        {"op": "test", "path": "/a", "value": {"b": [1, 2]}},
        {"op": "add", "path": "/a/b/1", "value": 9},
        {"op": "add", "path": "/a/b/-", "value": 7},
        {"op": "copy", "from": "/a/b", "path": "/c~1d"},
        {"op": "move", "from": "/a", "path": "/e"},
        {"op": "remove", "path": "/e/b/0"},
        {"op": "replace", "path": "/e/b/0", "value": None},
    ]
    assert json_patch({"a": {"b": [1, 2]}}, body(patch)) == {"c/d": [1, 9, 2, 7], "e": {"b": [None, 2, 7]}}


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"op": "add"}, 400),
        ([{"op": "add"}], 400),
        ([{"op": "add", "path": "/a"}], 422),
        ([{"op": "spoil", "path": "/a"}], 400),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "remove", "path": "/b"}], 422),
        ([{"op": "replace", "path": "", "value": 1}], 422),
        ([{"op": "add", "path": "/b/c", "value": 1}], 422),
        ([{"op": "test", "path": "/a", "value": 1}] * (MOST_OPERATIONS + 1), 413),
    ],
)
def test_a_json_patch_that_can_not_be_done(patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, body(patch))
    assert refused.value.code == code


def test_the_cause_says_which_operation_failed() -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"a": 1}, body([{"op": "remove", "path": "/a"}, {"op": "remove", "path": "/q"}]))
    (cause,) = refused.value.status()["details"]["causes"]
    assert cause["field"] == "[1]"
    assert "remove operation at /q" in cause["message"]


def test_copies_can_not_grow_an_object_without_end() -> None:
    patch = [{"op": "copy", "from": "", "path": f"/{index}"} for index in range(40)]
    with pytest.raises(ApiError, match="our request"):
        json_patch({"a": "x" * 1000}, body(patch))


def test_an_object_that_nests_too_deeply_is_refused() -> None:
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    with pytest.raises(ApiError) as refused:
        merge_patch({}, deep)
    assert refused.value.code == 400
