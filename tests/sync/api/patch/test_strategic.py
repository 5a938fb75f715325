"""Strategic merge patch; that it is as upstream's, `test_against_kubernetes` says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.api.patch import strategic_merge
from sync.api.patch.values import copy
from sync.api.status import ApiError
from tests.sync.api.patch.kinds import kind

ports = st.fixed_dictionaries(
    {"port": st.integers(1, 4)}, optional={"name": st.sampled_from(["a", "b"]), "targetPort": st.integers(1, 3)}
)
lists = st.lists(ports, max_size=4, unique_by=lambda port: port["port"])
meta = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3),
        "finalizers": st.lists(st.sampled_from("pqr"), max_size=3, unique=True),
    },
)
services = st.builds(lambda meta, ports: {"metadata": meta, "spec": {"ports": ports}}, meta, lists)
ODD_KEYS = (
    *("$patch", "$retainKeys", "$setElementOrder/ports", "$deleteFromPrimitiveList/finalizers", "$setElementOrder"),
    *("spec", "metadata", "ports", "port", "finalizers", "labels"),
)
odd = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["merge", "delete", "replace", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(ODD_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def merged(obj: Any, patch: Any, what: str = "Service") -> Any:
    return strategic_merge(obj, json.dumps(patch).encode(), kind(what).schema)


def service(*numbers: int) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": number, "name": f"p{number}"} for number in numbers]}}


def numbers(obj: Any) -> list[int]:
    return [port["port"] for port in obj["spec"]["ports"]]


@given(services, services)
def test_done_twice_is_done_once(obj: Any, patch: Any) -> None:
    before = copy(obj)
    once = merged(obj, patch)
    assert merged(once, patch) == once
    assert obj == before
    assert set(numbers(once)) == {*numbers(obj), *numbers(patch)}


@given(services, services)
def test_what_the_patch_says_of_a_port_is_so_after_it(obj: Any, patch: Any) -> None:
    made = {port["port"]: port for port in merged(obj, patch)["spec"]["ports"]}
    for port in patch["spec"]["ports"]:
        assert made[port["port"]].items() >= port.items()


@given(services, odd)
def test_a_patch_is_done_or_refused(obj: Any, patch: Any) -> None:
    try:
        merged(obj, patch)
    except ApiError as error:
        assert error.code in (400, 422)  # noqa: PT017 - either is right


@pytest.mark.parametrize(
    ("patch", "left"),
    [
        ({"ports": [{"port": 2, "$patch": "delete"}]}, [1, 3]),
        ({"ports": [{"port": 4}]}, [4, 1, 2, 3]),
        ({"ports": [{"$patch": "replace"}, {"port": 9}]}, [9]),
        ({"ports": None}, None),
        ({"$patch": "replace", "type": "ClusterIP"}, None),
        ({"$retainKeys": ["ports"], "ports": [{"port": 3}]}, [1, 2, 3]),
        ({"$setElementOrder/ports": [{"port": 3}, {"port": 1}, {"port": 2}]}, [3, 1, 2]),
        ({"$setElementOrder/ports": [{"port": 4}, {"port": 3}], "ports": [{"port": 4}]}, [4, 1, 2, 3]),
    ],
)
def test_directives(patch: Any, left: list[int] | None) -> None:
    spec = merged(service(1, 2, 3), {"spec": patch})["spec"]
    assert spec.get("ports") is None if left is None else [port["port"] for port in spec["ports"]] == left


def test_values_of_a_list_of_texts() -> None:
    obj = {"metadata": {"finalizers": ["a", "b"]}}
    assert merged(obj, {"metadata": {"finalizers": ["c", "a"]}})["metadata"]["finalizers"] == ["c", "a", "b"]
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert merged(obj, gone)["metadata"]["finalizers"] == ["b"]


@pytest.mark.parametrize(
    "patch",
    [
        {"ports": [{"name": "a"}]},
        {"ports": [{"port": 1, "$patch": "mend"}]},
        {"ports": ["a"]},
        {"ports": [[]]},
        {"$patch": "merge"},
        {"$retainKeys": "ports"},
        {"$retainKeys": [], "ports": []},
        {"$setElementOrder/ports": [{"port": 2}, {"port": 1}], "ports": [{"port": 1}, {"port": 2}]},
        {"$deleteFromPrimitiveList": ["a"]},
    ],
)
def test_a_patch_that_can_not_be_done(patch: Any) -> None:
    with pytest.raises(ApiError):
        merged(service(1, 2), {"spec": patch})


def test_a_long_list_takes_no_longer_than_its_length() -> None:
    many = service(*range(20_000))
    assert numbers(merged(many, service(*range(19_999, -1, -1))))[0] == 19_999
