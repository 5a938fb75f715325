"""Sequences of writes by several managers at a real kube-apiserver: after each, the object and its managedFields are
what this package makes of the same write to the same object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from bench import apiserver
from sync.api.patch import MERGE
from tests.sync.api.patch.kinds import CRD, kind
from tests.sync.api.patch.real import Real, Step, collection, run
from tests.sync.api.selector_table import FIELDS, LABELS


@pytest.fixture(scope="module")
def real(kube_apiserver: apiserver.ApiServer) -> Iterator[Real]:
    with closing(Real(kube_apiserver)) as api:
        api.define(CRD)
        yield api


def thing(name: str, spec: Any = None, **more: Any) -> dict[str, Any]:
    made = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": name}, **more}
    return made if spec is None else {**made, "spec": spec}


def config(name: str, data: Any = None, **metadata: Any) -> dict[str, Any]:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}
    return made if data is None else {**made, "data": data}


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def port(number: int, protocol: str = "TCP", **more: Any) -> dict[str, Any]:
    return {"name": f"p{number}{protocol.lower()}", "port": number, "protocol": protocol, "targetPort": number, **more}


def pod(name: str, *containers: Any, **spec: Any) -> dict[str, Any]:
    made = [{"name": "c", "image": "i:1"}, *containers]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": made, **spec}}


def node(name: str, **status: Any) -> dict[str, Any]:
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    return {**made, "status": status} if status else made


def condition(kind: str, status: str = "True", **more: str) -> dict[str, Any]:
    return {"type": kind, "status": status, **more}


def slices(name: str, *endpoints: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [each]} for each in endpoints],
        "ports": [port(80)] and [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


UP = {"type": "Up", "status": "True", "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
LAST_CONFIG = '{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1"}}\n'
LAST = "kubectl.kubernetes.io/last-applied-configuration"

DIFFERENT = {
    ("custom-emptied", 3): "upstream leaves null where another owns the map as empty, and then refuses its own null",
}
"""Steps that are meant to end otherwise."""

SEQUENCES: dict[str, tuple[str, Sequence[Step]]] = {
    "config-apply-by-two": (
        "ConfigMap",
        [
            Step("apply", config("x", {"a": "1", "b": "2"}), "one"),
            Step("apply", config("x", {"a": "1", "b": "2"}), "one"),
            Step("apply", config("x", {"a": "1"}), "two"),
            Step("apply", config("x", {"a": "2"}), "two"),
            Step("apply", config("x", {"a": "2", "b": "3"}), "two"),
            Step("apply", config("x", {"a": "2"}), "two", force=True),
            Step("apply", config("x", {"b": "2"}), "one"),
            Step("apply", config("x", {}), "one"),
            Step("apply", config("x"), "two"),
            Step("apply", config("x", labels={"l": "1"}), "two"),
            Step("apply", config("x", labels={"m": "1"}), "three"),
            Step("apply", config("x"), "two"),
            Step("apply", config("x"), "three"),
        ],
    ),
    "config-created-then-applied": (
        "ConfigMap",
        [
            Step("create", config("x", {"a": "1", "b": "2"}, labels={"l": "1"}), "maker"),
            Step("merge", {"data": {"b": "3", "c": "4"}}, "patcher"),
            Step("apply", config("x", {"a": "1", "c": "5"}), "one"),
            Step("apply", config("x", {"a": "1", "c": "5"}), "one", force=True),
            Step("merge", {"data": {"c": None}}, "patcher"),
            Step("update", {"data": {"z": "1"}}, "maker"),
            Step("json", [{"op": "add", "path": "/metadata/labels/m", "value": "2"}], "patcher"),
            Step("json", [{"op": "remove", "path": "/data"}], "patcher"),
            Step("strategic", {"binaryData": {"x": "AAAA"}}, "patcher"),
            Step("merge", {"metadata": {"finalizers": ["a.b/c"]}}, "patcher"),
            Step("strategic", {"metadata": {"finalizers": ["a.b/d"]}}, "other"),
            Step("strategic", {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/d", "a.b/c"]}}, "other"),
        ],
    ),
    "config-managers-taken-away": (
        "ConfigMap",
        [
            Step("create", config("x", {"a": "1"}), "maker"),
            Step("merge", {"metadata": {"managedFields": [{}]}}, "patcher"),
            Step("merge", {"data": {"b": "2"}}, "patcher"),
            Step("apply", config("x", {"b": "3"}), "one"),
            Step("apply", config("x", {"c": "3"}), "one"),
        ],
    ),
    "config-many-updaters": (
        "ConfigMap",
        [
            Step("create", config("x", {"a": "1"}), "maker"),
            *(Step("merge", {"data": {f"k{index}": "1"}}, f"m{index:02}") for index in range(13)),
        ],
    ),
    "config-after-client-side-apply": (
        "ConfigMap",
        [
            Step(
                "create",
                config("x", {"a": "1"}, annotations={LAST: LAST_CONFIG}),
                "kubectl-client-side-apply",
            ),
            Step("apply", config("x", {"a": "2", "b": "3"}), "kubectl"),
            Step("merge", {"data": {"a": "4"}}, "other"),
            Step("apply", config("x", {"a": "5", "b": "3"}), "kubectl"),
        ],
    ),
    "config-refused": (
        "ConfigMap",
        [
            Step("create", config("x", {"a": "1"}), "maker"),
            Step("apply", {**config("x"), "kind": "Secret"}, "one"),
            Step("apply", config("x", managedFields=[]), "one"),
            Step("json", [{"op": "remove", "path": "/data/q"}]),
            Step("json", [{"op": "test", "path": "/data/a", "value": "9"}]),
            Step("strategic", {"metadata": {"$retainKeys": ["name"], "labels": {"a": "b"}}}),
            Step("strategic", {"metadata": {"$setElementOrder/finalizers": {}}}),
        ],
    ),
    "service-ports": (
        "Service",
        [
            Step("apply", service("x", ports=[port(80), port(53, "UDP")], selector={"app": "x"}), "one"),
            Step("apply", service("x", ports=[{"name": "other", "port": 81, "targetPort": 1}]), "two"),
            Step("apply", service("x", ports=[{"name": "dns", "port": 53}]), "two"),
            Step("apply", service("x", ports=[port(80)], selector={"app": "y"}), "one"),
            Step("strategic", {"spec": {"ports": [port(443)]}}, "patcher"),
            Step("strategic", {"spec": {"ports": [{"port": 443, "name": "tls"}]}}, "patcher"),
            Step("strategic", {"spec": {"ports": [{"port": 443, "$patch": "delete"}]}}, "patcher"),
            Step("strategic", {"spec": {"selector": {"tier": "front"}}}, "patcher"),
            Step("strategic", {"spec": {"selector": {"$patch": "replace", "app": "z"}}}, "patcher"),
            Step("apply", service("x", ports=[port(80)], selector={"app": "z"}), "two"),
            Step("apply", service("x", ports=[port(80)], selector={"app": "q"}), "two"),
            Step("apply", service("x", ports=[port(80)], selector={"app": "q"}), "two", force=True),
            Step("strategic", {"spec": {"ports": [{"$patch": "replace"}, port(8080)]}}, "patcher"),
            Step(
                "strategic",
                {
                    "spec": {
                        "$setElementOrder/ports": [{"port": 1}, {"port": 8080}, {"port": 2}],
                        "ports": [port(1), port(2)],
                    }
                },
                "patcher",
            ),
            Step(
                "strategic",
                {"spec": {"$setElementOrder/ports": [{"port": 2}, {"port": 1}]}},
                "patcher",
            ),
        ],
    ),
    "service-created": (
        "Service",
        [
            Step("create", service("x", ports=[port(80)], selector={"app": "x"}), "maker"),
            Step("merge", {"spec": {"ports": [port(81), port(82)]}}, "patcher"),
            Step("json", [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": "http"}], "patcher"),
            Step("json", [{"op": "move", "from": "/spec/ports/0", "path": "/spec/ports/1"}], "patcher"),
            Step("json", [{"op": "copy", "from": "/spec/selector/app", "path": "/spec/selector/b"}], "patcher"),
            Step("apply", service("x", sessionAffinity="ClientIP"), "one"),
            Step("apply", service("x", sessionAffinity="ClientIP"), "one", force=True),
            Step("strategic", {"status": {"conditions": [UP]}}, "lb", "status"),
        ],
    ),
    "pod": (
        "Pod",
        [
            Step("create", pod("x", {"name": "d", "image": "i:2", "ports": [{"containerPort": 80}]}), "maker"),
            Step("strategic", {"spec": {"containers": [{"name": "d", "image": "i:3"}]}}, "patcher"),
            Step("strategic", {"metadata": {"labels": {"a": "b"}}}, "patcher"),
            Step(
                "strategic",
                {"status": {"conditions": [condition("Ready"), condition("Odd", "False")], "phase": "Running"}},
                "kubelet",
                "status",
            ),
            Step("strategic", {"status": {"conditions": [condition("Ready", "False")]}}, "kubelet", "status"),
            Step(
                "strategic",
                {"status": {"$setElementOrder/conditions": [{"type": "Odd"}, {"type": "Ready"}]}},
                "kubelet",
                "status",
            ),
            Step("apply", pod("x", {"name": "d", "image": "i:9"}), "one"),
            Step("apply", pod("x", {"name": "d", "image": "i:9"}), "one", force=True),
            Step("apply", {**pod("x"), "metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {}}, "two"),
        ],
    ),
    "pod-applied": (
        "Pod",
        [
            Step(
                "apply",
                pod("x", {"name": "d", "image": "i:2", "ports": [{"containerPort": 80}], "env": [{"name": "A"}]}),
                "one",
            ),
            Step("apply", {**pod("x"), "spec": {"containers": [{"name": "d", "image": "i:4"}]}}, "two", force=True),
        ],
    ),
    "node-conditions": (
        "Node",
        [
            Step("create", node("x"), "maker"),
            Step("strategic", {"status": {"conditions": [condition("Ready"), condition("Disk")]}}, "kubelet", "status"),
            Step("apply", node("x", conditions=[condition("Mesh", reason="Up")]), "mesh", "status"),
            Step("apply", node("x", conditions=[condition("Ready", "False")]), "mesh", "status"),
            Step("apply", node("x", conditions=[condition("Ready", "False")]), "mesh", "status", force=True),
            Step("apply", node("x", conditions=[condition("Ready", "Unknown")]), "main"),
            Step("strategic", {"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]}}, "ranges"),
            Step("strategic", {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, "taints"),
            Step("strategic", {"spec": {"taints": None}}, "taints"),
            Step("strategic", {"status": {"addresses": [{"type": "InternalIP", "address": "1.1.1.1"}]}}, "k", "status"),
            Step(
                "strategic",
                {
                    "status": {
                        "addresses": [
                            {"type": "InternalIP", "address": "1.1.1.2"},
                            {"type": "Hostname", "address": "x"},
                            {"$patch": "replace"},
                        ]
                    }
                },
                "k",
                "status",
            ),
        ],
    ),
    "slices": (
        "EndpointSlice",
        [
            Step("apply", slices("x", "1.1.1.1", "1.1.1.2"), "one"),
            Step("apply", slices("x", "1.1.1.1"), "two"),
            Step("apply", slices("x", "1.1.1.1"), "two", force=True),
            Step("merge", {"endpoints": [{"addresses": ["1.1.1.9"], "conditions": {"ready": True}}]}, "patcher"),
            Step("strategic", {"ports": [{"name": "http", "port": 81, "protocol": "TCP"}]}, "patcher"),
        ],
    ),
    "custom": (
        "Thing",
        [
            Step(
                "apply",
                thing(
                    "x",
                    {
                        "color": "red",
                        "keyed": [{"name": "a", "weight": 1}, {"name": "b", "zone": "east", "tags": ["q", "r"]}],
                        "whole": [{"name": "a"}],
                        "plain": ["x", "y"],
                        "names": ["n", "<m>"],
                        "ports": [1, 20, 3],
                        "free": {"a": "1", "b": "2"},
                        "fixed": {"a": "1"},
                        "nested": {"k": {"name": "a", "weight": 2}},
                        "any": {"deep": {"a": 1, "l": [1, {"x": 2}]}, "s": "t"},
                        "port": "http",
                    },
                ),
                "one",
            ),
            Step(
                "apply",
                thing(
                    "x",
                    {
                        "keyed": [{"name": "c"}, {"name": "a", "weight": 2}],
                        "names": ["o"],
                        "ports": [4, 20],
                        "free": {"c": "3"},
                        "nested": {"k": {"weight": 2}, "l": {"name": "b"}},
                        "any": {"deep": {"b": 2}},
                    },
                ),
                "two",
            ),
            Step(
                "apply",
                thing(
                    "x",
                    {
                        "keyed": [{"name": "c"}, {"name": "a", "weight": 2}],
                        "names": ["o", "n"],
                        "free": {"c": "3"},
                        "fixed": {"b": "1"},
                        "plain": ["z"],
                        "nested": {"k": {"name": "a", "weight": 2}, "l": {"name": "b"}},
                        "any": {"deep": {"b": 2, "l": [2]}},
                        "port": 80,
                    },
                ),
                "two",
                force=True,
            ),
            Step("apply", thing("x", {"color": "red"}), "one"),
            Step("merge", {"spec": {"keyed": [{"name": "z", "zone": "west", "weight": 1}], "size": 1.5}}, "patcher"),
            Step("json", [{"op": "add", "path": "/spec/names", "value": ["u", "v"]}], "patcher"),
            Step("merge", {"spec": {"free": None, "any": {"deep": None, "n": {}}}}, "patcher"),
            Step("apply", thing("x", {"keyed": [{"name": "y"}, {"name": "z", "weight": 1}, {"name": "x"}]}), "two"),
            Step("apply", thing("x", {"keyed": [{"name": "x"}, {"name": "y"}]}), "two"),
            Step("apply", thing("x", {"free": {}}), "three"),
            Step("apply", thing("x", {"maybe": None}), "three"),
            Step("apply", thing("x"), "one"),
            Step("apply", thing("x"), "two"),
            Step("strategic", {"spec": {"color": "blue"}}, "patcher"),
        ],
    ),
    "custom-emptied": (
        "Thing",
        [
            Step("apply", thing("x", {"free": {}, "keyed": [], "color": "red"}), "one"),
            Step("apply", thing("x", {"free": {"a": "b"}, "keyed": [{"name": "a"}]}), "two"),
            Step("apply", thing("x", {"free": {"c": "d"}}), "two"),
            Step("apply", thing("x"), "two"),
        ],
    ),
    "custom-status": (
        "Thing",
        [
            Step("create", thing("x", {"color": "red", "free": {"a": "b"}}, status={"phase": "Lost"}), "maker"),
            Step("merge", {"status": {"phase": "Up"}, "spec": {"color": "blue"}}, "controller", "status"),
            Step("apply", thing("x", status={"seen": 1}), "controller", "status"),
            Step("apply", thing("x", {"color": "red"}, status={"phase": "Down"}), "one"),
            Step("apply", thing("x", status={"phase": "Down"}), "other", "status"),
            Step("apply", thing("x", status={"phase": "Down"}), "other", "status", force=True),
            Step("update", {"spec": {"size": 1}}, "maker"),
        ],
    ),
    "custom-refused": (
        "Thing",
        [
            Step("create", thing("x", {"color": "red"}), "maker"),
            Step("apply", {**thing("x"), "apiVersion": "example.org/v2"}, "one"),
            Step("apply", thing("x", {"names": ["a", "a"]}), "one"),
            Step("apply", thing("x", {"names": [{}]}), "one"),
            Step("apply", thing("x", {"names": [None]}), "one"),
            Step("apply", thing("x", {"keyed": [{"weight": 1}, {"weight": 2}]}), "one"),
            Step("apply", thing("x", {"keyed": [None]}), "one"),
            Step("apply", thing("x", {"keyed": ["a"]}), "one"),
            Step("apply", thing("x", {"keyed": {}}), "one"),
            Step("apply", thing("x", {"keyed": [{"name": "a"}, {"name": "a", "zone": "west"}]}), "one"),
            Step("apply", thing("x", {"color": 1}), "one"),
            Step("apply", thing("x", {"color": True}), "one"),
            Step("apply", thing("x", {"color": ["a"]}), "one"),
            Step("apply", thing("x", {"size": "1"}), "one"),
            Step("apply", thing("x", {"size": {}}), "one"),
            Step("apply", thing("x", {"unheard": 1}), "one"),
            Step("apply", thing("x", {"free": "a"}), "one"),
            Step("apply", thing("x", {"free": {"a": 1, "b": 2}}), "one"),
        ],
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_of_writes(real: Real, name: str) -> None:
    what, steps = SEQUENCES[name]
    try:
        for index, step in enumerate(steps):
            theirs, ours = run(real, "x", what, step)
            assert (ours == theirs) is ((name, index) not in DIFFERENT), f"step {index}: {step}: {ours} {theirs}"
    finally:
        path = f"{collection(kind(what))}/x"
        real.request("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
        real.request("DELETE", path, gracePeriodSeconds="0")


@pytest.mark.parametrize("text", LABELS)
def test_label_selectors(real: Real, text: str) -> None:
    answer = real.request("GET", collection(kind("ConfigMap")), labelSelector=text)
    assert (answer.body["message"] if answer.code == 400 else "") == LABELS[text]


@pytest.mark.parametrize(("name", "text"), FIELDS)
def test_field_selectors(real: Real, name: str, text: str) -> None:
    answer = real.request("GET", collection(kind(name)), fieldSelector=text)
    assert (answer.body["message"] if answer.code == 400 else "") == FIELDS[name, text]
