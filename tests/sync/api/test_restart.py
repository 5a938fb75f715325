"""What was on its way when the server stopped is taken up by the next one."""

from __future__ import annotations

from pathlib import Path

from sync.store import Change, Entry, Key
from tests.sync.api.inside import running_inside
from tests.sync.api.test_deletion import owned, pod, until

CORE = "/api/v1/namespaces"
MAPS = f"{CORE}/default/configmaps"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def test_a_namespace_that_is_not_empty_yet(tmp_path: Path) -> None:
    with running_inside(tmp_path) as inside:
        inside.api.create(CORE, {"metadata": {"name": "shop"}})
        inside.api.create(f"{CORE}/shop/pods", pod("p", "n1"))
        assert inside.api.request("DELETE", f"{CORE}/shop").object["status"]["phase"] == "Terminating"
    with running_inside(tmp_path) as inside:
        until(lambda: "deletionTimestamp" in inside.api.get(f"{CORE}/shop/pods/p").object["metadata"])
        inside.api.request("DELETE", f"{CORE}/shop/pods/p?gracePeriodSeconds=0")
        until(lambda: inside.api.get(f"{CORE}/shop").code == 404)


def test_a_kind_that_is_not_empty_yet(tmp_path: Path) -> None:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    names = {"plural": "boats", "kind": "Boat"}
    spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}
    boats = "/apis/example.com/v1/boats"
    boat = {"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "a", "finalizers": ["example.com/f"]}}
    with running_inside(tmp_path) as inside:
        inside.api.create(DEFINITIONS, {"metadata": {"name": "boats.example.com"}, "spec": spec})
        inside.api.create(boats, boat)
        inside.api.request("DELETE", f"{DEFINITIONS}/boats.example.com")
    with running_inside(tmp_path) as inside:
        until(lambda: "deletionTimestamp" in inside.api.get(f"{boats}/a").object["metadata"])
        assert inside.api.patch(f"{boats}/a", {"metadata": {"finalizers": None}}).code == 200
        until(lambda: inside.api.get(f"{DEFINITIONS}/boats.example.com").code == 404)


def test_a_dependent_whose_owner_is_gone(tmp_path: Path) -> None:
    def deleted(head: Entry | None, _revision: int) -> Change:
        assert head is not None
        return Change(head.data, deleted=True)

    with running_inside(tmp_path) as inside:
        owner = inside.api.create(MAPS, {"metadata": {"name": "owner"}})
        inside.api.create(MAPS, owned("child", owner))
        inside.do(inside.server.store.write(Key("configmaps", "default", "owner"), deleted))  # and nobody saw it
        assert inside.api.get(f"{MAPS}/child").code == 200
    with running_inside(tmp_path) as inside:
        until(lambda: inside.api.get(f"{MAPS}/child").code == 404)
