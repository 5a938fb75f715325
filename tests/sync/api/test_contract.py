"""The same objects through this API's rules and through Kubernetes' own: same verdict, same words, same object."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from bench import apiserver
from sync.api.status import ApiError
from tests.sync.api.cases import GROUPS, Case
from tests.sync.api.kinds import (
    created,
    definition,
    merged,
    path,
    registry,
    updated,
)
from tests.sync.api.upstream import Kubernetes

Json = dict[str, Any]
Verdict = tuple[int, str, str, tuple[tuple[str, str, str], ...]]

CASES = [(group, case) for group, make in GROUPS.items() for case in make()]
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


@pytest.fixture(scope="module")
def kubernetes(kube_apiserver: apiserver.ApiServer) -> Iterator[Kubernetes]:
    with closing(Kubernetes(kube_apiserver)) as found:
        yield found


def theirs(kubernetes: Kubernetes, case: Case) -> Json | Verdict:
    where, options = path(case.obj, AMONG), "?fieldValidation=Strict"
    if case.change is None:
        code, found = kubernetes.request("POST", f"{where}{options}&dryRun=All", case.obj)
        return shown(found) if code < 300 else verdict(found)
    code, found = kubernetes.request("POST", where + options, case.obj)
    if code >= 300:
        return verdict(found)
    one = f"{where}/{found['metadata']['name']}"
    end = f"/{case.subresource}" if case.subresource else ""
    code, found = kubernetes.request("PUT", f"{one}{end}{options}&dryRun=All", merged(found, case.change))
    kubernetes.request("DELETE", f"{one}?gracePeriodSeconds=0")
    return shown(found) if code < 300 else verdict(found)


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
    here, there = ours(case), theirs(kubernetes, case)
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
