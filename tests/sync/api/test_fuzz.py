"""Hostile objects: nothing but ApiError comes out of reading, preparing, validating and printing them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.api import quantity
from sync.api.codec import JSON, MAX_DEPTH, YAML, decode
from sync.api.json_path import find
from sync.api.status import ApiError
from sync.api.tables import table
from sync.api.validation.names import (
    address,
    data_key,
    dns_1035_label,
    dns_subdomain,
    label_value,
    port_name,
    qualified_name,
)
from tests.sync.api.cases import GROUPS, Case
from tests.sync.api.kinds import created, definition, merged, read, registry, type_of, updated

T = TypeVar("T")
AMONG = registry(definition())
CASES = [case for make in GROUPS.values() for case in make()]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(("", "-", "None", "10.0.0.1", "fd00::1", "1Gi", "AA==", "2026-01-01T00:00:00Z", "a/b", "a" * 300)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All paths in a value but those of its kind."""
    found = [path] if path and path not in (("kind",), ("apiVersion",)) else []
    if isinstance(value, dict):
        for name, each in value.items():
            found += places(each, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += places(each, (*path, index))
    return found


def put(obj: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path."""
    if not path:
        return value
    obj = copy.copy(obj)
    obj[path[0]] = put(obj[path[0]], path[1:], value)
    return obj


@st.composite
def broken(draw: st.DrawFn) -> Case:
    """A case with other values in up to two places, and perhaps one more field."""
    case = draw(st.sampled_from(CASES))
    obj, change = case.obj, case.change
    for _ in range(draw(st.integers(1, 2))):
        obj = put(obj, draw(st.sampled_from(places(obj))), draw(values))
        if not isinstance(obj.get("metadata"), dict):
            break
    if change:
        change = put(change, draw(st.sampled_from(places(change))), draw(values))
    if draw(st.booleans()):
        obj = {**obj, draw(st.text(max_size=5)): draw(values)}
    return case._replace(obj={**obj, "kind": case.obj["kind"], "apiVersion": case.obj["apiVersion"]}, change=change)


def attempt(call: Callable[[], T]) -> T | ApiError:
    """What a call gives, or how it is refused."""
    try:
        return call()
    except ApiError as error:
        return error


@settings(max_examples=1500, deadline=None)
@given(broken())
def test_objects(case: Case) -> None:
    old = attempt(lambda: created(case.obj, AMONG))
    if isinstance(old, ApiError):
        assert 400 <= old.code < 500
        assert msgspec.json.encode(old.status())
        return
    type = type_of(old, AMONG)
    table(type, [old], now=0.0)
    assert read(copy.deepcopy(old), type) == old, "what is stored reads as itself"
    if case.change is not None:
        changed = merged(old, case.change)
        new = attempt(lambda: updated(changed, old, AMONG, case.subresource))
        if isinstance(new, ApiError):
            assert 400 <= new.code < 500
        else:
            table(type, [new], now=0.0)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60), values.map(msgspec.json.encode)), st.sampled_from((JSON, YAML, "text/plain")))
def test_bodies(body: bytes, media_type: str) -> None:
    found = attempt(lambda: decode(body, media_type))
    if isinstance(found, ApiError):
        assert found.code in (400, 415)
    else:
        assert isinstance(found[0], dict)
        assert isinstance(found[1], list)
        assert msgspec.json.encode(found[0])


@given(st.integers(1, 3000), st.sampled_from((b"[]", b'{"a":}')), st.sampled_from((JSON, YAML)))
def test_depth(levels: int, shape: bytes, media_type: str) -> None:
    body = b'{"x":' + shape[:-1] * levels + b"1" + shape[-1:] * levels + b"}"
    found = attempt(lambda: decode(body, media_type))
    assert found.code == 400 if isinstance(found, ApiError) else levels <= MAX_DEPTH


def test_aliases_that_repeat_themselves() -> None:
    """Some thirty thousand million values."""
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(ApiError, match="more than"):
        decode(f"a0: &a0 x\n{levels}".encode(), YAML)


@given(st.text(alphabet="0123456789.+-eEinumkKMGTP", max_size=14))
def test_quantities(text: str) -> None:
    try:
        found = quantity.parse(text)
    except ValueError:
        return
    again = quantity.parse(str(found))
    assert again.value == found.value
    assert str(again) == str(found)


@given(values, st.text(alphabet=".a[]*?(@=\"'01\\)", max_size=14))
def test_json_paths(value: Any, path: str) -> None:
    assert isinstance(find(value, path), list)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", ["1" * 10**6 + "x", "." * 10**6, "a." * 500_000 + "!", "a-" * 500_000, "[" * 10**6])
def test_long_texts_take_no_time_that_grows_with_their_square(text: str) -> None:
    with pytest.raises(ValueError, match="quantities"):
        quantity.parse(text)
    for rule in (dns_subdomain, dns_1035_label, qualified_name, label_value, data_key, port_name):
        assert rule(text)
    assert find({}, text) == []
    assert address("x", text)
