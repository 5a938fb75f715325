"""The server's HTTP: limits, forms, health, its end; and what it does with anything at all."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import ssl
import time
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench import apiserver
from tests.sync.api.apis import Api, running_embedded, start_embedded

CORE = "/api/v1/namespaces"


def test_health(embedded: Api) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        reply = embedded.get(path)
        assert (reply.code, reply.body) == (200, b"ok")
    assert embedded.get("/version").object["minor"] == "34"


def test_what_is_no_http_is_a_bad_request(embedded: Api) -> None:
    with contextlib.closing(embedded.connect()) as connection:
        connection.connect()
        connection.sock.sendall(b"GET / nothing\r\n\r\n")
        answer = connection.sock.recv(4096)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b'"kind":"Status"' in answer


def test_plain_tcp_costs_nothing(embedded: Api) -> None:
    host, port = embedded.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        raw.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert not raw.recv(100).startswith(b"HTTP")


def test_old_tls_is_refused(embedded: Api) -> None:
    context = ssl.create_default_context(cafile=str(embedded.ca))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with contextlib.closing(embedded.connect(context)) as connection:
        try:
            connection.connect()
        except (ssl.SSLError, ConnectionError):
            return
    raise AssertionError("TLS 1.1 was taken")


def test_yaml_goes_out_if_it_is_asked_for(embedded: Api) -> None:
    reply = embedded.get(f"{CORE}/default", headers={"Accept": "application/yaml"})
    assert reply.headers["Content-Type"] == "application/yaml"
    assert b"\n  name: default\n" in reply.body


def test_a_table(embedded: Api) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = embedded.get(f"{CORE}/default", headers={"Accept": accept}).object
    assert (table["kind"], table["rows"][0]["cells"][0]) == ("Table", "default")
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    listed = embedded.get(f"{CORE}?includeObject=None", headers={"Accept": accept}).object
    assert listed["metadata"]["resourceVersion"]
    assert {row["cells"][0] for row in listed["rows"]} >= {"default", "kube-system"}


def test_services_have_addresses_of_their_own(embedded: Api) -> None:
    path = f"{CORE}/{embedded.namespace()}/services"
    ports = {"ports": [{"port": 80}]}
    made = [embedded.create(path, {"metadata": {"name": f"s{n}"}, "spec": ports})["spec"] for n in range(20)]
    assert len({spec["clusterIP"] for spec in made}) == 20
    assert all(spec["clusterIPs"] == [spec["clusterIP"]] for spec in made)
    same = {"metadata": {"name": "t"}, "spec": {**ports, "clusterIP": made[0]["clusterIP"]}}
    taken = embedded.request("POST", path, same)
    assert (taken.code, "provided IP is already allocated" in taken.message) == (422, True)
    embedded.request("DELETE", f"{path}/s0")
    again = embedded.create(path, same)
    assert again["spec"]["clusterIP"] == made[0]["clusterIP"]
    outside = embedded.request("POST", path, {"metadata": {"name": "u"}, "spec": {**ports, "clusterIP": "1.2.3.4"}})
    assert (outside.code, "failed to allocate IP 1.2.3.4" in outside.message) == (422, True)
    headless = embedded.create(path, {"metadata": {"name": "h"}, "spec": {**ports, "clusterIP": "None"}})
    assert headless["spec"]["clusterIPs"] == ["None"]
    renamed = embedded.patch(f"{path}/s1", {"spec": {"ports": [{"port": 81, "protocol": "TCP"}]}}).object
    assert renamed["spec"]["clusterIP"] == made[1]["clusterIP"]


def test_node_ports(embedded: Api) -> None:
    path = f"{CORE}/{embedded.namespace()}/services"

    def service(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [*ports]}}

    made = embedded.create(path, service("a", {"port": 80, "name": "x"}, {"port": 81, "name": "y"}))["spec"]["ports"]
    numbers = {port["nodePort"] for port in made}
    assert len(numbers) == 2
    assert all(30000 <= number <= 32767 for number in numbers)
    taken = embedded.request("POST", path, service("b", {"port": 80, "nodePort": made[0]["nodePort"]}))
    assert (taken.code, "provided port is already allocated" in taken.message) == (422, True)
    wrong = embedded.request("POST", path, service("b", {"port": 80, "nodePort": 80}))
    assert (wrong.code, "The range of valid ports is 30000-32767" in wrong.message) == (422, True)
    kept = embedded.patch(f"{path}/a", {"metadata": {"labels": {"x": "y"}}}).object["spec"]["ports"]
    assert kept == made
    inner = embedded.patch(f"{path}/a", {"spec": {"type": "ClusterIP"}}).object["spec"]["ports"]
    assert all("nodePort" not in port for port in inner)


def test_a_pod_is_bound_once(api: Api) -> None:
    path = f"{CORE}/{api.namespace()}/pods"
    api.create(path, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    assert api.request("POST", f"{path}/p/binding", binding).code == 201
    pod = api.get(f"{path}/p").object
    assert pod["spec"]["nodeName"] == "n1"
    assert pod["status"]["conditions"][0]["type"] == "PodScheduled"
    again = api.request("POST", f"{path}/p/binding", binding)
    assert (again.code, again.reason) == (409, "Conflict")
    assert 'pod p is already assigned to node "n1"' in again.message


def test_what_is_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    with running_embedded(tmp_path) as api:
        made = api.create(f"{CORE}/default/configmaps", {"metadata": {"name": "a"}})
        os.kill(api.pid, signal.SIGKILL)
        api.close()
        process, url = start_embedded(tmp_path)
        try:
            api.url, api._connection = url, None
            assert api.get(f"{CORE}/default/configmaps/a").object == made
        finally:
            apiserver.end(process)


def test_a_watch_ends_when_the_server_stops(tmp_path: Path) -> None:
    with running_embedded(tmp_path) as api, api.watch("/api/v1/nodes?watch=1&resourceVersion=0") as events:
        os.kill(api.pid, signal.SIGTERM)
        began = time.monotonic()
        assert not list(events)
        assert time.monotonic() - began < 5
    assert "Traceback" not in (tmp_path / "api.log").read_text()


JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e300,
    "",
    "x",
    "\x00",
    "é" * 70,
    [],
    [None],
    {},
    {"": None},
    {"a": {"b": []}},
    [[[]]],
)
CLUSTER = ("nodes", "namespaces", "certificatesigningrequests", "customresourcedefinitions")
GROUPS = {
    "endpointslices": "discovery.k8s.io",
    "leases": "coordination.k8s.io",
    "certificatesigningrequests": "certificates.k8s.io",
    "customresourcedefinitions": "apiextensions.k8s.io",
}
OTHER_PATHS = (
    "/apis/events.k8s.io/v1/namespaces/default/events",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    "/api/v1/namespaces/default/pods/a/binding",
    "/api/v1/nodes/a/pods",
    "/api/v1/namespaces/default/services/%2e%2e",
    "/apis//v1/x",
    "/openapi/v3/apis/a/b",
)
SUBRESOURCES = ("status", "status", "approval", "finalize", "scale")
QUERIES: tuple[str, ...] = (
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "dryRun",
)
QUERIES += ("fieldManager", "fieldValidation", "force", "gracePeriodSeconds", "propagationPolicy", "timeoutSeconds")
VALUES = (
    "",
    "0",
    "1",
    "-1",
    "x",
    "All",
    "true",
    "a=b",
    "!",
    "in (",
    "metadata.name=a",
    "99999999999999999999",
    "\x00",
    "Exact",
)
FIELDS: tuple[str, ...] = (
    "metadata",
    "spec",
    "status",
    "data",
    "name",
    "labels",
    "ports",
    "selector",
    "endpoints",
    "conditions",
    "kind",
)
FIELDS += ("ownerReferences", "finalizers", "managedFields", "versions", "names", "containers", "type", "clusterIP")
PATCHES = ("merge-patch+json", "strategic-merge-patch+json", "json-patch+json", "apply-patch+yaml", "json")


def junk(chance: random.Random, depth: int = 0) -> Any:
    """Anything, of fields that mean something."""
    if depth > 3 or chance.random() < 0.3:
        return deepcopy(chance.choice(JUNK))
    if chance.random() < 0.2:
        return [junk(chance, depth + 1) for _ in range(chance.choice([0, 0, 0, 1, 2]))]
    return {chance.choice(FIELDS): junk(chance, depth + 1) for _ in range(chance.randrange(4))}


CONTAINER = {"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "web"}], "env": [{"name": "A"}]}
PORT = {"port": 80, "targetPort": "web", "protocol": "TCP", "nodePort": 30999, "name": "p"}
SCHEMA = {
    "openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "items": {"type": "string"}}}}
}
VERSION = {"name": "v1", "served": True, "storage": True, "schema": SCHEMA, "subresources": {"status": {}}}
NAMES = {"plural": "things", "singular": "thing", "kind": "Thing", "shortNames": ["th"]}
ENDPOINT = {"addresses": ["10.244.0.5"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod"}, "zone": "a"}
TEMPLATES: dict[str, dict[str, Any]] = {
    "services": {"spec": {"ports": [PORT], "type": "NodePort", "selector": {"a": "b"}, "clusterIP": "10.96.3.3"}},
    "pods": {"spec": {"containers": [CONTAINER], "nodeName": "n", "volumes": [{"name": "v", "emptyDir": {}}]}},
    "nodes": {"spec": {"podCIDR": "10.244.1.0/24"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
    "configmaps": {"data": {"a": "b"}, "binaryData": {"c": "AA=="}, "immutable": False},
    "secrets": {"data": {"a": "AA=="}, "stringData": {"b": "c"}, "type": "Opaque"},
    "events": {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "series": {"count": 2}},
    "namespaces": {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
    "endpointslices": {"addressType": "IPv4", "endpoints": [ENDPOINT], "ports": [{"port": 80, "name": "p"}]},
    "leases": {"spec": {"holderIdentity": "a", "leaseDurationSeconds": 5, "renewTime": "2026-01-01T00:00:00.000000Z"}},
    "certificatesigningrequests": {"spec": {"request": "AA==", "signerName": "a.b/c", "usages": ["client auth"]}},
    "customresourcedefinitions": {
        "metadata": {"name": "things.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": NAMES, "versions": [VERSION]},
    },
}


def mutated(chance: random.Random, value: Any) -> Any:
    """A value with something else somewhere in it."""
    if chance.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return junk(chance, 2)
    at = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    value[at] = mutated(chance, value[at])
    return value


def body(chance: random.Random, path: str) -> Any:
    """An object that may be one: anything, or one of the path's kind with something else in it."""
    kind = next((name for name in TEMPLATES if f"/{name}" in path), "")
    if not kind or chance.random() < 0.2:
        return junk(chance)
    metadata = {"name": chance.choice(["a", "b"]), "labels": {"x": "y"}, "ownerReferences": [{"uid": "u"}]}
    obj = {"metadata": metadata, **deepcopy(TEMPLATES[kind])}
    return obj if chance.random() < 0.2 else mutated(chance, obj)


def somewhere(chance: random.Random, method: str) -> str:
    """A path that mostly goes with the method."""
    if chance.random() < 0.1:
        return chance.choice(OTHER_PATHS)
    kind = chance.choice(list(TEMPLATES))
    group = f"/apis/{GROUPS[kind]}/v1" if kind in GROUPS else "/api/v1"
    path = f"{group}/{kind}" if kind in CLUSTER else f"{group}/namespaces/default/{kind}"
    if (method == "POST") != (chance.random() < 0.05):
        return path
    name = "things.example.org" if kind == "customresourcedefinitions" else chance.choice("aab")
    return f"{path}/{name}" + (f"/{chance.choice(SUBRESOURCES)}" if chance.random() < 0.2 else "")


def test_anything_at_all_is_no_fault_of_the_servers(tmp_path: Path) -> None:
    """Bodies, queries and patches by chance: 2xx or 4xx, always an object, and the server is well."""
    with running_embedded(tmp_path) as api:
        seen: set[int] = set()
        for seed in range(3000):
            chance = random.Random(seed)
            method = chance.choice(["GET", "POST", "POST", "PUT", "PATCH", "PATCH", "PATCH", "DELETE"])
            path = somewhere(chance, method)
            pairs = [(chance.choice(QUERIES), chance.choice(VALUES)) for _ in range(chance.choice([0, 0, 0, 1, 2]))]
            query = "&".join(f"{name}={quote(value)}" for name, value in pairs)
            kind = chance.choice(PATCHES) if method == "PATCH" else chance.choice(["json", "json", "yaml"])
            sent: Any = None if method == "GET" else body(chance, path)
            if kind == "json-patch+json":
                operation = {
                    "op": chance.choice(["add", "remove", "replace", "test"]),
                    "path": f"/{chance.choice(FIELDS)}",
                }
                sent = [{**operation, "value": junk(chance)}]
            raw = json.dumps(sent).encode() if sent is not None else None
            if raw and chance.random() < 0.05:
                raw = raw[: chance.randrange(len(raw))] + b"\xff{"
            reply = api.request(method, f"{path}?{query}", raw, {"Content-Type": f"application/{kind}"})
            assert 200 <= reply.code < 500 or (reply.code == 504 and "resourceVersion" in query), (
                seed,
                method,
                path,
                query,
                raw,
                reply,
            )
            assert isinstance(reply.object, dict), (seed, reply)
            seen.add(reply.code)
        assert api.get("/readyz").body == b"ok"
    assert seen >= {200, 201, 400, 404, 405, 409, 415, 422}
    log = (tmp_path / "api.log").read_text()
    assert "Traceback" not in log, log[-3000:]
