"""The small client and the scheduler against Kubernetes' own API server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import apiserver
from e2e.lab.api import MERGE_PATCH, STRATEGIC_PATCH, Api, Refused, Unreachable, load, path_of
from e2e.lab.scheduler import ZONE, schedule
from e2e.lab.topology import ENVIRONMENT

pytestmark = [
    pytest.mark.skipif(bool(apiserver.missing()), reason=apiserver.missing()),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apiserver.ApiServer]:
    with apiserver.running(tmp_path_factory.mktemp("apiserver")) as found:
        yield found


@pytest.fixture
def api(server: apiserver.ApiServer) -> Iterator[Api]:
    found = load(server.kubeconfig)
    yield found
    found.close()


def config_map(name: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "1"}}


def test_requests_and_refusals(api: Api) -> None:
    path = path_of(config_map("one"))
    api.request("POST", path.rpartition("/")[0], config_map("one"))
    assert api.request("PATCH", path, {"data": {"b": "2"}}, MERGE_PATCH)["data"] == {"a": "1", "b": "2"}
    with pytest.raises(Refused, match='configmaps "two" not found') as refused:
        api.request("GET", path_of(config_map("two")))
    assert refused.value.code == 404


def test_a_watch_tells_what_comes_after_a_list(api: Api) -> None:
    path = "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dwatched"
    revision = api.request("GET", path)["metadata"]["resourceVersion"]
    events = api.watch(path, revision)
    threading.Timer(0.2, lambda: api.request("POST", path.partition("?")[0], config_map("watched"))).start()
    event = next(events)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "watched")
    assert isinstance(events, Generator)
    events.close()


def test_an_api_that_is_not_there_is_told(server: apiserver.ApiServer, tmp_path: Path) -> None:
    text = server.kubeconfig.read_text().replace(server.url, "https://127.0.0.1:1")
    (tmp_path / "config").write_text(text)
    with pytest.raises(Unreachable, match=r"https://127\.0\.0\.1:1: .*refused"):
        load(tmp_path / "config").request("GET", "/readyz")


def test_a_pod_is_bound_to_a_ready_node(api: Api) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {ZONE: "site-a"}}}
    api.request("POST", "/api/v1/nodes", node)
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    api.request("PATCH", "/api/v1/nodes/n1/status", status, STRATEGIC_PATCH)
    spec = {"containers": [{"name": "main", "image": "x"}], "automountServiceAccountToken": False}
    meta = {"name": "p", "namespace": "default"}
    made = api.request(
        "POST", "/api/v1/namespaces/default/pods", {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
    )
    assert schedule(api, made)
    assert api.request("GET", "/api/v1/namespaces/default/pods/p")["spec"]["nodeName"] == "n1"


def test_the_client_for_those_outside(server: apiserver.ApiServer) -> None:
    orders = [{"method": "GET", "path": "/readyz"}, {"method": "GET", "path": "/api/v1/namespaces/default"}]
    done = subprocess.run(
        [sys.executable, "-m", "e2e.lab.api", str(server.kubeconfig)],
        input="".join(json.dumps(order) + "\n" for order in orders),
        capture_output=True,
        text=True,
        timeout=30,
        env=ENVIRONMENT,
        check=True,
    )
    ready, *answers = done.stdout.splitlines()
    assert ready == "ready"
    first, second = map(json.loads, answers)
    assert (first["code"], first["body"]) == (200, None)
    assert second["body"]["metadata"]["name"] == "default"
    assert second["at"] > first["at"] > 0
