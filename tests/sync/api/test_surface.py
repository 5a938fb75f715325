"""Tables, discovery and OpenAPI as Kubernetes' own API gives them."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest

from bench import apiserver
from sync.api import discovery, openapi
from sync.api.registry import Registry, by_group
from sync.api.tables import table
from tests.sync.api.kinds import (
    config_map,
    definition,
    endpoint_slice,
    event,
    lease,
    namespace,
    new_event,
    node,
    path,
    pod,
    secret,
    service,
    service_account,
    shirt,
    signing_request,
    type_of,
)
from tests.sync.api.upstream import CRDS, Kubernetes

Json = dict[str, Any]


@pytest.fixture(scope="module")
def kubernetes(kube_apiserver: apiserver.ApiServer) -> Iterator[Kubernetes]:
    with closing(Kubernetes(kube_apiserver)) as found:
        yield found


TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
COLUMNS = [
    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
    {"name": "Tags", "type": "string", "jsonPath": ".spec.tags"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Worn", "type": "boolean", "jsonPath": ".status.worn"},
    {"name": "Sleeves", "type": "string", "jsonPath": '.spec.parts[?(@.name=="sleeve")].count'},
    {"name": "Parts", "type": "string", "jsonPath": ".spec.parts[*].name"},
]
PRINTED = [
    service("one", type="NodePort"),
    service("two", type="ExternalName", externalName="a.example.com"),
    service(
        "three", type="LoadBalancer", ports=[{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}]
    ),
    service("four", clusterIP="None", ports=[]),
    pod("one", readinessGates=[{"conditionType": "example.com/ready"}]),
    node("one"),
    namespace("one"),
    config_map("one", data={"a": "1"}),
    secret("one", data={"a": "AA=="}),
    service_account("one"),
    endpoint_slice("one"),
    endpoint_slice("none", endpoints=[], ports=[]),
    endpoint_slice("many", endpoints=[{"addresses": [f"10.0.0.{n}"]} for n in range(1, 6)], ports=[{"name": "x"}]),
    lease("one", holderIdentity="n1"),
    event("one", source={"component": "kubelet", "host": "n1"}, firstTimestamp="2025-01-01T00:00:00Z", count=3),
    new_event("two"),
    signing_request("one", expirationSeconds=3600),
    shirt("one", color="red", tags=["a", "b"], parts=[{"name": "collar"}, {"name": "sleeve", "count": 2}]),
    shirt("two", color="blue"),
]


@pytest.fixture(scope="module")
def printed(kubernetes: Kubernetes) -> tuple[Kubernetes, Registry]:
    """Kubernetes with a definition that has columns, and the kinds that we make of the same definition."""
    kubernetes.serve(False)
    kubernetes.serve(True, definition(version={"additionalPrinterColumns": COLUMNS}))
    found = Registry()
    crd = kubernetes.request("GET", f"{CRDS}/shirts.example.com")[1]
    found.set_crds([crd])
    return kubernetes, found


@pytest.mark.parametrize("obj", PRINTED, ids=[f"{each['kind']} {each['metadata']['name']}" for each in PRINTED])
def test_table(printed: tuple[Kubernetes, Registry], obj: Json) -> None:
    kubernetes, among = printed
    where = path(obj, among)
    code, _ = kubernetes.request("POST", where, obj)
    assert code == 201
    one = f"{where}/{obj['metadata']['name']}"
    there = kubernetes.request("GET", one, accept=TABLE)[1]
    full = kubernetes.request("GET", one)[1]
    made = datetime.fromisoformat(full["metadata"]["creationTimestamp"]).timestamp()
    type = type_of(full, among)
    # The age is a matter of when each of the two looked: one of the seconds since must give the same.
    tables = [table(type, [full], now=made + passed) for passed in range(30)]
    for each in [there, *tables]:
        each["metadata"] = {}
        for column in each["columnDefinitions"]:
            del column["description"]
    assert there in tables


@pytest.mark.parametrize("aggregate", [False, True])
def test_discovery(printed: tuple[Kubernetes, Registry], aggregate: bool) -> None:
    kubernetes, among = printed
    for group, versions in by_group(among.all()).items():
        for version in versions:
            root = f"/apis/{group}/{version}" if group else f"/api/{version}"
            there = kubernetes.request("GET", root)[1]
            here = discovery.resources(among, group, version)
            assert here is not None
            names = {each["name"] for each in here["resources"]}
            there["resources"] = [each for each in there["resources"] if each["name"] in names]
            assert here == there
    assert discovery.group(among, "example.com") == kubernetes.request("GET", "/apis/example.com")[1]
    if not aggregate:
        return
    for core in (True, False):
        ours = discovery.aggregated(among, core)
        theirs = kubernetes.request("GET", "/api" if core else "/apis", accept=AGGREGATED)[1]
        assert {**ours, "items": []} == {**theirs, "items": []}
        known = {each["metadata"].get("name"): each for each in theirs["items"]}
        for each in ours["items"]:
            assert each == _served(known[each["metadata"].get("name")], each)


def _served(theirs: Json, ours: Json) -> Json:
    """What upstream says, without what is not served here."""
    versions = []
    for mine in ours["versions"]:
        version = next(each for each in theirs["versions"] if each["version"] == mine["version"])
        kept = {each["resource"]: each for each in version["resources"]}
        resources = [kept[each["resource"]] for each in mine["resources"]]
        for each, own in zip(resources, mine["resources"], strict=True):
            names = [sub["subresource"] for sub in own.get("subresources", ())]
            if subs := [sub for sub in each.pop("subresources", ()) if sub["subresource"] in names]:
                each["subresources"] = subs
        versions.append({**version, "resources": resources})
    return {**theirs, "versions": versions}


def test_openapi_of_custom_kinds(printed: tuple[Kubernetes, Registry]) -> None:
    kubernetes, among = printed
    there: Json = {}
    deadline = time.monotonic() + 20
    while "components" not in there:  # it is published a little later
        assert time.monotonic() < deadline
        time.sleep(0.05)
        there = kubernetes.request("GET", "/openapi/v3/apis/example.com/v1")[1]
    made = openapi.document(among, "example.com", "v1")
    assert made is not None
    here = json.loads(gzip.decompress(made[0]))
    assert here["paths"].keys() == there["paths"].keys()
    for where, item in there["paths"].items():
        assert item.keys() == here["paths"][where].keys()
        for method in item.keys() - {"parameters"}:
            for name in ("operationId", "tags", "x-kubernetes-action", "x-kubernetes-group-version-kind"):
                assert here["paths"][where][method].get(name) == item[method].get(name), (where, method, name)
    kind = "com.example.v1.Shirt"
    mine, theirs = here["components"]["schemas"][kind], there["components"]["schemas"][kind]
    for each in (mine, theirs):
        del each["properties"]["metadata"]  # described in other words
    assert mine == theirs
