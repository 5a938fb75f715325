"""The same objects through this API's rules and through Kubernetes' own: same verdict, same words, same object."""

from __future__ import annotations

import copy
import gzip
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench import apiserver
from sync.api import discovery, openapi
from sync.api.registry import Registry, by_group
from sync.api.status import ApiError
from sync.api.tables import table
from tests.sync.api.cases import GROUPS, Case
from tests.sync.api.kinds import (
    config_map,
    created,
    definition,
    endpoint_slice,
    event,
    lease,
    merged,
    namespace,
    new_event,
    node,
    path,
    pod,
    registry,
    secret,
    service,
    service_account,
    shirt,
    signing_request,
    type_of,
    updated,
)

Json = dict[str, Any]
Verdict = tuple[int, str, str, tuple[tuple[str, str, str], ...]]

CASES = [(group, case) for group, make in GROUPS.items() for case in make()]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
AMONG = registry(definition())
TYPED = "kinds of fault agree; upstream shows the value as its internal struct"
DIFFERENT = {
    "metadata: uid changed": "a 409 of the store's precondition, which the server says before it validates",
    "services: same node port twice": "upstream's allocator finds it first; here the allocator is the server's",
    "pods: host name changed": "the difference is shown shorter",
    "pods: node changed": "the difference is shown shorter",
    "pods: toleration added": "upstream's admission has put tolerations in, which this change takes away",
    "config: bad docker configuration": "what the parser says of the text is Go's",
    "definitions: not stored": TYPED,
    "definitions: two stored": TYPED,
    "definitions: two of one name": TYPED,
    "definitions: version name": "upstream says it once more of the deprecated field spec.version",
    "definitions: preserve": "upstream says it once more when the schema has defaults",
    "definitions: root type": "upstream says it once more when there is a status subresource",
    "definitions: bad pattern": "what the parser says of the pattern is Go's",
    "definitions: webhook": "conversion by webhook is not served: refused with another reason",
    "shirts: weight 0": "upstream takes the value for the factor of multipleOf and refuses 0",
}
"""Where the words differ, and why. The verdict is the same unless it is in `OTHERWISE`."""
OTHERWISE = frozenset(("metadata: uid changed", "pods: toleration added"))
"""Where even the code differs."""
ADDED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Taints and tolerations that upstream's admission plugins add; here nobody schedules."""


class Kubernetes:
    """Kubernetes' own, with the definition of shirts."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        context = ssl.create_default_context(cafile=str(server.ca))
        context.load_cert_chain(server.certificate, server.key)
        place = urlsplit(server.url)
        self._connection = http.client.HTTPSConnection(place.hostname or "", place.port, context=context, timeout=30)
        self._wait(lambda: self.request("GET", "/api/v1/namespaces/default")[0] == 200)
        self.serve(True)

    def serve(self, shirts: bool, crd: Json | None = None) -> None:
        """Have the definition, or not."""
        if shirts:
            self.request("POST", CRDS, crd or definition())
        else:
            self.request("DELETE", f"{CRDS}/shirts.example.com")
        wanted = 200 if shirts else 404
        self._wait(lambda: self.request("GET", "/apis/example.com/v1/shirts")[0] == wanted)
        if not shirts:
            self._wait(lambda: self.request("GET", f"{CRDS}/shirts.example.com")[0] == 404)

    def request(
        self, method: str, where: str, body: Json | None = None, accept: str = "application/json"
    ) -> tuple[int, Json]:
        sent = json.dumps(body).encode() if body is not None else None
        self._connection.request(method, where, sent, {"Content-Type": "application/json", "Accept": accept})
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else {}

    def run(self, case: Case) -> Json | Verdict:
        where, options = path(case.obj, AMONG), "?fieldValidation=Strict"
        if case.change is None:
            code, found = self.request("POST", f"{where}{options}&dryRun=All", case.obj)
            return shown(found) if code < 300 else verdict(found)
        code, found = self.request("POST", where + options, case.obj)
        if code >= 300:
            return verdict(found)
        one = f"{where}/{found['metadata']['name']}"
        end = f"/{case.subresource}" if case.subresource else ""
        code, found = self.request("PUT", f"{one}{end}{options}&dryRun=All", merged(found, case.change))
        self.request("DELETE", f"{one}?gracePeriodSeconds=0")
        return shown(found) if code < 300 else verdict(found)

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def _wait(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    if problem := apiserver.missing():
        pytest.skip(problem)
    with apiserver.running(tmp_path_factory.mktemp("kubernetes")) as server:
        found = Kubernetes(server)
        yield found
        found.close()


def ours(case: Case) -> Json | Verdict:
    try:
        old = created(copy.deepcopy(case.obj), AMONG)
        if case.change is None:
            return shown(old)
        spec = old.get("spec", {})
        if old["kind"] == "Service" and spec["type"] != "ExternalName" and not spec.get("clusterIP"):
            spec |= {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}  # the server's allocator
        return shown(updated(merged(old, case.change), old, AMONG, case.subresource))
    except ApiError as error:
        return verdict(error.status())


def verdict(status: Json) -> Verdict:
    causes = {
        (_path(each["field"]), each["reason"], each["message"]) for each in status.get("details", {}).get("causes", ())
    }
    # Upstream repeats some faults of an update; the message lists them again.
    return status["code"], status["reason"], "" if causes else status["message"], tuple(sorted(causes))


def _path(field: str) -> str:
    """A definition's only version is another field in upstream's internal type."""
    field = field.replace("spec.validation.openAPIV3Schema", "spec.versions[0].schema.openAPIV3Schema")
    if field.startswith("spec.additionalPrinterColumns"):
        return field.replace("spec.", "spec.versions[0].", 1)
    return field


def shown(obj: Json) -> Json:
    """An object without what a server adds, and what upstream's admission plugins do."""
    obj = copy.deepcopy(obj)
    meta, spec = obj["metadata"], obj.get("spec", {})
    for name in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        meta.pop(name, None)
    match obj["kind"]:
        case "Service":
            for name in ("clusterIP", "clusterIPs"):
                if spec.get(name) not in ("None", ["None"]):
                    spec.pop(name, None)
            for port in spec.get("ports", ()):
                port.pop("nodePort", None)
        case "Pod":
            spec["tolerations"] = [each for each in spec.get("tolerations", ()) if each.get("key") not in ADDED]
            spec.pop("priority", None)
            spec.pop("preemptionPolicy", None)
        case "Node":
            spec["taints"] = [each for each in spec.get("taints", ()) if each.get("key") not in ADDED]
        case "CertificateSigningRequest":
            for name in ("username", "groups", "uid", "extra"):
                spec.pop(name, None)
        case "CustomResourceDefinition":
            del obj["status"]
            meta.pop("finalizers", None)
    return obj


@pytest.mark.parametrize(("group", "case"), CASES, ids=[f"{group}: {case.name}" for group, case in CASES])
def test_same_as_kubernetes(kubernetes: Kubernetes, group: str, case: Case) -> None:
    if group == "definitions" and case is next(each for name, each in CASES if name == group):
        kubernetes.serve(False)
    elif group == "shirts" and case is next(each for name, each in CASES if name == group):
        kubernetes.serve(True)
    here, there = ours(case), kubernetes.run(case)
    name = f"{group}: {case.name}"
    if name in DIFFERENT:
        assert here != there, "no longer different: take it off the list"
        if name not in OTHERWISE:
            assert here[0] == there[0] if isinstance(here, tuple) and isinstance(there, tuple) else here == there
    else:
        assert here == there


def test_lists_are_true() -> None:
    names = {f"{group}: {case.name}" for group, case in CASES}
    assert len(names) == len(CASES), "two cases of one name"
    assert names >= DIFFERENT.keys() >= OTHERWISE


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
