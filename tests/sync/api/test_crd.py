"""Definitions: which kinds they serve, and when."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sync.api.crd import accept, resource_types
from sync.api.registry import Registry
from sync.api.status import ApiError
from tests.sync.api.kinds import NOW, SHIRT, created, definition, merged, registry, updated

LATER = "2026-01-02T00:00:00Z"


def crd(**spec: Any) -> dict[str, Any]:
    return created(definition(**spec), Registry())


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found["status"]["conditions"]}


def test_accepted() -> None:
    found = crd()
    assert resource_types(found) == ()
    accept(found, (), NOW)
    assert conditions(found) == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert found["status"]["acceptedNames"]["singular"] == "shirt"
    assert found["status"]["storedVersions"] == ["v1"]
    before = copy.deepcopy(found)
    accept(found, [found], LATER)
    assert found == before, "what is so already keeps its time"


def test_a_name_that_another_has() -> None:
    first, second = crd(), crd()
    second["metadata"]["name"] = "tops.example.com"
    second["spec"]["names"] |= {"plural": "tops", "singular": "top"}
    accept(first, (), NOW)
    accept(second, [first], NOW)
    assert conditions(second) == {"NamesAccepted": ("False", "KindConflict"), "Established": ("False", "NotAccepted")}
    assert resource_types(second) == ()
    accept(second, (), LATER)
    assert conditions(second)["Established"] == ("True", "InitialNamesAccepted")
    assert {each["lastTransitionTime"] for each in second["status"]["conditions"]} == {LATER}


def test_versions() -> None:
    names = ("v1alpha1", "v2", "v1", "v2beta1", "other", "v10")
    versions = [
        {"name": name, "served": name != "v1", "storage": name == "v1", "schema": {"openAPIV3Schema": SHIRT}}
        for name in names
    ]
    found = registry(definition(versions=versions))
    custom = [each for each in found.all() if each.custom]
    assert [each.version for each in custom] == ["v10", "v2", "v2beta1", "v1alpha1", "other"]
    assert {each.storage_version for each in custom} == {"v1"}
    assert {each.storage for each in custom} == {"shirts.example.com"}


def test_registry_forgets_what_is_gone() -> None:
    found = registry(definition())
    assert found.by_kind("example.com/v1", "Shirt") is found.find("example.com", "v1", "shirts")
    before = found.generation
    found.set_crds(())
    assert found.find("example.com", "v1", "shirts") is None
    assert found.generation > before


def test_a_version_that_was_stored_stays() -> None:
    found = crd()
    accept(found, (), NOW)
    renamed = copy.deepcopy(found)
    renamed["spec"]["versions"][0]["name"] = "v2"
    found["metadata"]["resourceVersion"] = "1"
    with pytest.raises(ApiError) as caught:
        updated(merged(found, {"spec": renamed["spec"]}), found, Registry())
    assert [each["field"] for each in caught.value.details["causes"]] == ["status.storedVersions[0]"]
