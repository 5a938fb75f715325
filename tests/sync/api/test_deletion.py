"""Deletion: what goes at once, what waits for whom, and what goes with it; on both APIs where nothing of Kubernetes'
controller manager is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.sync.api.apis import Api

CORE = "/api/v1/namespaces"


def until(said: Callable[[], bool]) -> None:
    """Wait for what a task of the server does."""
    deadline = time.monotonic() + 10
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pod(name: str, node: str = "", **metadata: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
    if node:
        spec["nodeName"] = node
    return {"metadata": {"name": name, **metadata}, "spec": spec}


def owned(name: str, owner: dict[str, Any], *, blocks: bool = False) -> dict[str, Any]:
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": blocks,
    }
    return {"metadata": {"name": name, "ownerReferences": [reference]}}


def test_a_deletion_tells_what_it_deleted(api: Api) -> None:
    ns = f"{CORE}/{api.namespace()}"
    made = api.create(f"{ns}/configmaps", {"metadata": {"name": "a"}})
    told = api.request("DELETE", f"{ns}/configmaps/a").object
    assert told["status"] == "Success"
    assert told["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    service = api.create(f"{ns}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    told = api.request("DELETE", f"{ns}/services/s").object
    assert (told["kind"], told["metadata"]["uid"]) == ("Service", service["metadata"]["uid"])


def test_preconditions(api: Api) -> None:
    path = f"{CORE}/{api.namespace()}/configmaps"
    made = api.create(path, {"metadata": {"name": "a"}})["metadata"]
    for field, value in (("uid", "other"), ("resourceVersion", "1")):
        reply = api.request("DELETE", f"{path}/a", {"preconditions": {field: value}})
        assert (reply.code, reply.reason) == (409, "Conflict")
    right = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    assert api.request("DELETE", f"{path}/a", {"preconditions": right}).code == 200


def test_a_pod_without_a_node_goes_at_once(api: Api) -> None:
    path = f"{CORE}/{api.namespace()}/pods"
    api.create(path, pod("p"))
    assert api.request("DELETE", f"{path}/p").code == 200
    assert api.get(f"{path}/p").code == 404


def test_a_pod_waits_for_its_kubelet(api: Api) -> None:
    path = f"{CORE}/{api.namespace()}/pods"
    api.create(path, pod("p", "n1"))
    marked = api.request("DELETE", f"{path}/p").object["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    assert api.request("DELETE", f"{path}/p?gracePeriodSeconds=60").object["metadata"] == marked  # not longer
    shorter = api.request("DELETE", f"{path}/p?gracePeriodSeconds=5").object["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 5
    assert shorter["deletionTimestamp"] < marked["deletionTimestamp"]
    assert api.request("DELETE", f"{path}/p?gracePeriodSeconds=0").code == 200
    assert api.get(f"{path}/p").code == 404


def test_finalizers_are_waited_for(api: Api) -> None:
    path = f"{CORE}/{api.namespace()}/configmaps"
    api.create(path, {"metadata": {"name": "a", "finalizers": ["example.org/x"]}})
    marked = api.request("DELETE", f"{path}/a").object
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert api.get(f"{path}/a").code == 200
    done = api.patch(f"{path}/a", {"metadata": {"finalizers": None}})
    assert done.code == 200
    assert api.get(f"{path}/a").code == 404


def test_a_collection_is_deleted_by_selector(api: Api) -> None:
    path = f"{CORE}/{api.namespace()}/configmaps"
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "1"}), ("c", {})):
        api.create(path, {"metadata": {"name": name, "labels": labels}})
    assert api.request("DELETE", f"{path}?labelSelector=x").code == 200
    assert [item["metadata"]["name"] for item in api.get(path).object["items"]] == ["c"]


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_dependents_go_with_their_owner(embedded: Api, policy: str) -> None:
    path = f"{CORE}/{embedded.namespace()}/configmaps"
    owner = embedded.create(path, {"metadata": {"name": "owner"}})
    child = embedded.create(path, owned("child", owner, blocks=True))
    embedded.create(path, owned("grandchild", child, blocks=True))
    embedded.create(path, {"metadata": {"name": "other"}})
    reply = embedded.request("DELETE", f"{path}/owner?propagationPolicy={policy}")
    assert reply.code == 200
    until(lambda: [item["metadata"]["name"] for item in embedded.get(path).object["items"]] == ["other"])


def test_in_the_foreground_an_owner_waits_for_its_dependents(embedded: Api) -> None:
    path = f"{CORE}/{embedded.namespace()}/configmaps"
    owner = embedded.create(path, {"metadata": {"name": "owner"}})
    child = owned("child", owner, blocks=True)
    child["metadata"]["finalizers"] = ["example.org/x"]
    embedded.create(path, child)
    marked = embedded.request("DELETE", f"{path}/owner?propagationPolicy=Foreground").object
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    until(lambda: "deletionTimestamp" in embedded.get(f"{path}/child").object["metadata"])
    assert embedded.get(f"{path}/owner").code == 200
    embedded.patch(f"{path}/child", {"metadata": {"finalizers": None}})
    until(lambda: embedded.get(f"{path}/owner").code == 404)


def test_orphans_stay(embedded: Api) -> None:
    path = f"{CORE}/{embedded.namespace()}/configmaps"
    owner = embedded.create(path, {"metadata": {"name": "owner"}})
    embedded.create(path, owned("child", owner))
    embedded.request("DELETE", f"{path}/owner?propagationPolicy=Orphan")
    until(lambda: embedded.get(f"{path}/owner").code == 404)
    assert "ownerReferences" not in embedded.get(f"{path}/child").object["metadata"]


def test_what_has_an_owner_that_is_not_there_goes(embedded: Api) -> None:
    path = f"{CORE}/{embedded.namespace()}/configmaps"
    nobody = {"metadata": {"name": "gone", "uid": "0000"}}
    embedded.create(path, owned("child", nobody))
    until(lambda: embedded.get(f"{path}/child").code == 404)
    of_another_kind = owned("kept", nobody)
    of_another_kind["metadata"]["ownerReferences"][0].update(apiVersion="apps/v1", kind="ReplicaSet")
    embedded.create(path, of_another_kind)
    owner = embedded.create(path, {"metadata": {"name": "owner"}})
    two = owned("two", owner)
    two["metadata"]["ownerReferences"] += owned("", nobody)["metadata"]["ownerReferences"]
    embedded.create(path, two)
    until(lambda: len(embedded.get(f"{path}/two").object["metadata"]["ownerReferences"]) == 1)
    assert embedded.get(f"{path}/kept").code == 200


def test_a_namespace_goes_when_it_is_empty(embedded: Api) -> None:
    name = embedded.namespace()
    path = f"{CORE}/{name}"
    embedded.create(f"{path}/configmaps", {"metadata": {"name": "a"}})
    embedded.create(f"{path}/pods", pod("p", "n1"))
    marked = embedded.request("DELETE", path).object
    assert marked["status"]["phase"] == "Terminating"
    until(lambda: embedded.get(f"{path}/configmaps/a").code == 404)
    until(lambda: "deletionTimestamp" in embedded.get(f"{path}/pods/p").object["metadata"])
    refused = embedded.request("POST", f"{path}/configmaps", {"metadata": {"name": "b"}})
    assert refused.code == 403
    assert refused.message == (
        f'configmaps "b" is forbidden: unable to create new content in namespace {name} because it is being terminated'
    )
    assert refused.object["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    embedded.request("DELETE", f"{path}/pods/p?gracePeriodSeconds=0")
    until(lambda: embedded.get(path).code == 404)


def test_of_a_kind_that_is_ending_nothing_is_made(api: Api) -> None:
    group, path = "ending.example.com", f"/apis/ending.example.com/v1/namespaces/{api.namespace()}/things"
    schema = {"openAPIV3Schema": {"type": "object"}}
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    api.create(definitions, {"metadata": {"name": f"things.{group}"}, "spec": spec})
    first = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "a", "finalizers": ["x.example.com/f"]}}
    until(lambda: api.request("POST", path, first).code == 201)
    assert "deletionTimestamp" in api.request("DELETE", f"{definitions}/things.{group}").object["metadata"]
    refused: list[Any] = []

    def is_refused() -> bool:
        """Kubernetes' own takes a moment to know."""
        refused.append(api.request("POST", path, {**first, "metadata": {"generateName": "b"}}))
        return bool(refused[-1].code == 403)

    until(is_refused)
    assert "create not allowed while custom resource definition is terminating" in refused[-1].message
    assert not api.embedded or len(refused) == 1
    until(lambda: api.patch(f"{path}/a", {"metadata": {"finalizers": None}}).code == 200)
    until(lambda: api.get(f"{definitions}/things.{group}").code == 404)


def test_a_pod_that_ended_goes_at_once(api: Api) -> None:
    path = f"{CORE}/{api.namespace()}/pods"
    for phase in ("Succeeded", "Failed"):
        api.create(path, pod("p", "n1"))
        assert api.patch(f"{path}/p/status", {"status": {"phase": phase}}).code == 200
        api.request("DELETE", f"{path}/p")
        assert api.get(f"{path}/p").code == 404


def test_an_owner_is_of_the_same_namespace(embedded: Api) -> None:
    here, there = (f"{CORE}/{embedded.namespace()}/configmaps" for _ in range(2))
    owner = embedded.create(there, {"metadata": {"name": "owner"}})
    embedded.create(here, owned("a", owner))
    until(lambda: embedded.get(f"{here}/a").code == 404)
    assert embedded.get(f"{there}/owner").code == 200


def test_in_the_foreground_an_owner_waits_for_those_that_block_alone(embedded: Api) -> None:
    path = f"{CORE}/{embedded.namespace()}/configmaps"
    owner = embedded.create(path, {"metadata": {"name": "owner"}})
    stays = owned("stays", owner)
    stays["metadata"]["finalizers"] = ["example.com/f"]
    embedded.create(path, stays)
    embedded.request("DELETE", f"{path}/owner", {"propagationPolicy": "Foreground"})
    until(lambda: embedded.get(f"{path}/owner").code == 404)
    until(lambda: "deletionTimestamp" in embedded.get(f"{path}/stays").object["metadata"])
    embedded.patch(f"{path}/stays", {"metadata": {"finalizers": None}})
    until(lambda: embedded.get(f"{path}/stays").code == 404)
