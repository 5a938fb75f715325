"""Server-side apply and tracking: laws over random sequences of writes; `test_against_kubernetes` has the details."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.api.patch import keep_times, managers, server_side_apply, track
from sync.api.patch.fieldset import FieldSet, path_text
from sync.api.patch.merging import compare
from sync.api.patch.ownership import NEVER_OWNED, without_managers
from sync.api.patch.shape import shape_of
from sync.api.patch.structured import fields
from sync.api.patch.values import copy
from sync.api.status import ApiError
from tests.sync.api.patch.kinds import NOW, kind

LATER = "2026-01-02T03:04:06Z"
# Associative lists are never empty here: nobody owns an empty one, upstream neither, so laws do not hold for it.
texts = st.sampled_from(["", "a", "b"])
items = st.fixed_dictionaries(
    {"name": st.sampled_from("abc")},
    optional={
        "zone": st.sampled_from(["west", "east"]),
        "weight": st.integers(0, 2),
        "tags": st.lists(st.sampled_from("xyz"), min_size=1, max_size=2, unique=True),
    },
)


def _key(item: Any) -> Any:
    return item["name"], item.get("zone", "west")


specs = st.fixed_dictionaries(
    {},
    optional={
        "color": texts,
        "keyed": st.lists(items, min_size=1, max_size=3, unique_by=_key),
        "whole": st.lists(items, max_size=2),
        "names": st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True),
        "free": st.dictionaries(st.sampled_from("abc"), texts, max_size=2),
        "fixed": st.dictionaries(st.sampled_from("abc"), texts, max_size=2),
        "nested": st.dictionaries(st.sampled_from("ab"), items, max_size=2),
        "any": st.dictionaries(st.sampled_from("ab"), texts | st.dictionaries(st.just("c"), texts), max_size=2),
        "port": st.integers(1, 2) | texts,
    },
)
writes = st.lists(st.tuples(st.sampled_from(["apply", "force", "update"]), st.sampled_from("pq"), specs), max_size=6)
ODD_KEYS = (
    *("spec", "metadata", "managedFields", "fieldsV1", "f:spec", "k:{}", "v:1", "i:x", ".", "keyed", "names", "name"),
    *("manager", "operation", "apiVersion", "fieldsType", "time", "annotations", "any"),
)
odd = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.floats() | st.sampled_from(["a", "f:a", "FieldsV1", "Apply"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(ODD_KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=14,
)


def thing(spec: Any = None, **metadata: Any) -> dict[str, Any]:
    made = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "x", **metadata}}
    return made if spec is None else {**made, "spec": spec}


def apply(live: Any, spec: Any, manager: str = "p", *, force: bool = False, now: str = NOW, **metadata: Any) -> Any:
    return server_side_apply(live, thing(spec, **metadata), manager, force, kind("Thing"), now)


def update(live: Any, new: Any, manager: str = "p", *, now: str = NOW) -> Any:
    made = copy(new)
    track(live, made, manager, "Update", "", kind("Thing"), now)
    return made


def after(steps: Any) -> Any:
    """The object after some writes, refused ones left out; None if nobody made it."""
    live = None
    for how, manager, spec in steps:
        try:
            if how == "update":
                live = update(live, {**(without_managers(live) if live else thing()), "spec": spec}, manager)
            else:
                live = apply(live, spec, manager, force=how == "force")
        except ApiError as error:
            assert error.code == 409  # noqa: PT017 - and then nothing is written
    return live


def owned(obj: Any) -> dict[str, FieldSet]:
    return {f"{who.name}/{who.operation}": each.fields for who, each in managers.of(obj).items()}


def paths(obj: Any, manager: str) -> set[str]:
    return {path_text(path) for path in owned(obj)[manager]}


@given(writes, specs, st.booleans())
def test_an_apply_done_twice_changes_nothing_the_second_time(steps: Any, spec: Any, force: bool) -> None:
    live = after(steps)
    before = copy(live)
    try:
        once = apply(live, spec, force=force)
    except ApiError:
        assert not force
        return
    assert live == before
    if not owned(once):
        return  # as upstream: what nobody owns is noted as before-first-apply
    assert apply(once, spec, force=force, now=LATER) == once


@given(writes, specs)
def test_what_is_applied_by_force_is_there_and_the_managers(steps: Any, spec: Any) -> None:
    made = apply(after(steps), spec, force=True)
    wanted = fields(thing(spec), shape_of(kind("Thing"))) - NEVER_OWNED
    assert owned(made).get("p/Apply", FieldSet()) == wanted
    for key in ("color", "whole", "fixed", "port"):
        if key in spec:
            assert made["spec"][key] == spec[key]


@given(writes)
def test_what_is_owned_is_there(steps: Any) -> None:
    live = after(steps)
    if live is None:
        return
    shape = shape_of(kind("Thing"))
    there = fields(live, shape) | compare({}, live, shape).added
    for who, each in owned(live).items():
        assert each, who
        assert not each - there, who
    for entry in live["metadata"].get("managedFields", []):
        assert FieldSet.decode(entry["fieldsV1"]).encode() == entry["fieldsV1"]


@given(specs, specs)
def test_who_applies_nothing_any_more_leaves_what_others_own(mine: Any, theirs: Any) -> None:
    both = apply(apply(None, mine), theirs, "q", force=True)
    left = apply(both, None)
    assert "p/Apply" not in owned(left)
    wanted = fields(thing(theirs), shape_of(kind("Thing"))) - NEVER_OWNED
    assert owned(left).get("q/Apply", FieldSet()) == wanted


@given(odd, odd, st.booleans())
def test_input_raises_nothing_but_a_refusal(live: Any, spec: Any, force: bool) -> None:
    for applied in (thing(spec), {**thing(), "metadata": spec}, {**thing(), "metadata": live}):
        for stored in (None, thing({"any": {"a": 1}}), thing(managedFields=live), {**thing(), "metadata": live}):
            try:
                made = server_side_apply(stored, applied, "p", force, kind("Thing"), NOW)
                assert isinstance(made, dict)
            except ApiError as error:
                assert 400 <= error.code < 500  # noqa: PT017 - any of them is right
            track(stored, copy(applied), "p", "Update", "", kind("Thing"), NOW)


def test_two_managers_share_what_they_agree_on() -> None:
    both = apply(apply(None, {"color": "a", "size": 1}), {"color": "a"}, "q")
    assert paths(both, "p/Apply") == {".spec.color", ".spec.size"}
    assert paths(both, "q/Apply") == {".spec.color"}
    left = apply(both, {"size": 1})
    assert left["spec"] == {"color": "a", "size": 1}


def test_a_conflict_names_each_field_and_who_has_it() -> None:
    live = update(apply(None, {"color": "a", "keyed": [{"name": "n", "weight": 1}]}), thing({"size": 1}), "q")
    live = apply(live, {"color": "a", "keyed": [{"name": "n", "weight": 1}]})
    with pytest.raises(ApiError) as refused:
        apply(live, {"size": 2, "keyed": [{"name": "n", "weight": 2}]}, "r")
    said = refused.value
    assert (said.code, said.reason) == (409, "Conflict")
    assert said.message == (
        'Apply failed with 2 conflicts: conflicts with "p":\n- .spec.keyed[name="n",zone="west"].weight\n'
        'conflicts with "q" using example.org/v1:\n- .spec.size'
    )
    assert said.details["causes"][1] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "q" using example.org/v1',
        "field": ".spec.size",
    }


def test_times_stay_where_nothing_is_written() -> None:
    live = apply(None, {"color": "a"})
    assert apply(live, {"color": "a"}, now=LATER)["metadata"]["managedFields"] == live["metadata"]["managedFields"]
    again = update(live, {**live, "spec": {"color": "a"}}, "q", now=LATER)
    assert again == live
    stamped = copy(live)
    stamped["metadata"]["managedFields"][0]["time"] = LATER
    keep_times(live, stamped)
    assert stamped == live
    changed = {**copy(stamped), "spec": {"color": "b"}}
    changed["metadata"]["managedFields"][0]["time"] = LATER
    keep_times(live, changed)
    assert changed["metadata"]["managedFields"][0]["time"] == LATER


def test_an_update_may_take_managers_away_and_then_nobody_is_noted() -> None:
    live = update(None, thing({"color": "a"}), "q")
    bare = update(live, thing({"color": "a"}, managedFields=[]), "q")
    assert "managedFields" not in bare["metadata"]
    assert "managedFields" not in update(bare, thing({"color": "b"}), "q")["metadata"]
    assert list(owned(apply(bare, {"size": 1}))) == ["p/Apply", "before-first-apply/Update"]


def test_the_oldest_updaters_become_one() -> None:
    live: Any = None
    for index in range(14):
        new = thing({"free": {f"k{each}": "v" for each in range(index + 1)}})
        live = update(live, new, f"m{index:02}", now=f"2026-01-02T03:04:{index:02}Z")
    assert [each["manager"] for each in live["metadata"]["managedFields"]] == [
        "ancient-changes",
        *(f"m{index:02}" for index in range(5, 14)),
    ]
    assert {".spec.free.k0", ".spec.free.k4"} <= paths(live, "ancient-changes/Update")


def test_a_list_that_became_atomic_is_owned_as_a_whole() -> None:
    live = apply(None, {"whole": [{"name": "a"}]})
    entry = live["metadata"]["managedFields"][0]
    entry["fieldsV1"] = {"f:spec": {"f:whole": {'k:{"name":"a"}': {".": {}, "f:name": {}}}}}
    assert paths(apply(live, {"color": "a"}, "q"), "p/Apply") == {".spec.whole"}


def test_an_object_that_nests_deeply_is_refused() -> None:
    deep: Any = 1
    for _ in range(2000):
        deep = {"a": deep}
    with pytest.raises(ApiError, match="nested"):
        apply(None, {"any": deep})
