"""client-go's informers and typed apply, by a small program in Go (`informer/`); on both APIs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import apiserver
from bench.peers import find
from tests.sync.api.apis import Api, running_embedded, start_embedded

WITHIN = 30.0
CRD = Path(__file__).parent / "kubectl" / "objects" / "crd.yaml"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["lists", "streamed lists"])


def informer() -> str:
    peer = find("informer")
    if peer is None:
        pytest.skip("the informer is not built: python -m bench.peers informer")
    return str(peer.path)


class Informer:
    """The program, and what it has told so far: `known` is each key's revision, by kind."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[dict[str, str]] = []
        self.changed = threading.Condition()
        self._process = process
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self.changed:
                self.lines.append(json.loads(line))
                self.changed.notify_all()

    def wait(self, condition: Callable[[list[dict[str, str]]], bool], what: str) -> None:
        """Until what was told fulfils it."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.lines), WITHIN), f"{what}: {self.lines[-20:]}"

    def wait_for(self, event: str, kind: str, key: str, revision: str) -> None:
        wanted = {"event": event, "kind": kind, "key": key, "revision": revision}
        self.wait(lambda lines: any(wanted.items() <= line.items() for line in lines), f"no {wanted}")

    def known(self, kind: str) -> dict[str, str]:
        """What it holds: key to revision; each addition, change and removal has to follow from what was before."""
        held: dict[str, str] = {}
        for line in list(self.lines):
            if line.get("kind") != kind:
                continue
            key, revision = line["key"], line["revision"]
            if line["event"] == "add":
                assert key not in held, line
            elif line["event"] == "update":
                assert int(held[key]) < int(revision), line
            elif line["event"] == "resync":
                assert held[key] == revision, line
            else:
                del held[key]
                continue
            held[key] = revision
        return held

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def following(api: Api, namespace: str, streamed: bool, *arguments: str) -> Iterator[Informer]:
    """The program, synced."""
    command = [informer(), "-kubeconfig", str(api.kubeconfig), "-namespace", namespace, *arguments]
    environment = {**os.environ, "KUBE_FEATURE_WatchListClient": str(streamed).lower()}
    with (api.folder / "informer.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    found = Informer(process)
    try:
        found.wait(lambda lines: {"event": "synced"} in lines, "not synced")
        yield found
    finally:
        found.stop()


def service(name: str, **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations}, "spec": {"ports": [{"port": 80}]}}


def define_boats(api: Api) -> None:
    """The custom resource, if need be."""
    definition = yaml.safe_load(CRD.read_text())
    assert api.request("POST", CRDS, definition).code in (201, 409)
    deadline = time.monotonic() + WITHIN
    while api.get("/apis/harbour.example.com/v1/boats").code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@STREAMED
def test_an_informer_knows_what_there_is(api: Api, streamed: bool) -> None:
    define_boats(api)
    namespace = api.namespace()
    services = f"/api/v1/namespaces/{namespace}/services"
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    boats = f"/apis/harbour.example.com/v1/namespaces/{namespace}/boats"
    before = revision(api.create(services, service("before", value="1")))
    with following(api, namespace, streamed, "-custom", "boats.v1.harbour.example.com", "-resync", "1s") as told:
        told.wait_for("add", "services", f"{namespace}/before", before)
        slice_ = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.1.1"]}]}
        made = revision(api.create(slices, slice_))
        told.wait_for("add", "endpointslices", f"{namespace}/s", made)
        boat = {"apiVersion": "harbour.example.com/v1", "kind": "Boat", "metadata": {"name": "b"}, "spec": {"crew": 3}}
        told.wait_for("add", "boats", f"{namespace}/b", revision(api.create(boats, boat)))
        changed = revision(api.patch(f"{services}/before", {"metadata": {"annotations": {"value": "2"}}}).object)
        told.wait_for("update", "services", f"{namespace}/before", changed)
        told.wait_for("resync", "services", f"{namespace}/before", changed)
        assert api.request("DELETE", f"{boats}/b").code == 200
        told.wait(lambda lines: any(x["event"] == "delete" and x["kind"] == "boats" for x in lines), "no deletion")
        assert told.known("services") == {f"{namespace}/before": changed}
        assert told.known("endpointslices") == {f"{namespace}/s": made}
        assert told.known("boats") == {}


@STREAMED
def test_an_informer_survives_a_killed_api(tmp_path: Path, streamed: bool) -> None:
    """`kill -9`, and back on the same file and port: nothing is missed, nothing told twice."""
    with running_embedded(tmp_path / "api") as api, contextlib.ExitStack() as stack:
        port = api.url.rpartition(":")[2]
        services = "/api/v1/namespaces/default/services"
        held = {f"default/s{n}": revision(api.create(services, service(f"s{n}"))) for n in range(4)}
        told = stack.enter_context(following(api, "default", streamed))
        pid = api.pid
        for number in range(2):
            os.kill(pid, signal.SIGKILL)
            process, _ = start_embedded(api.folder, "--port", port)
            stack.callback(apiserver.end, process)
            pid = process.pid
            api.close()
            patch = {"metadata": {"annotations": {"value": str(number)}}}
            held[f"default/s{number}"] = revision(api.patch(f"{services}/s{number}", patch).object)
            assert api.request("DELETE", f"{services}/s{number + 2}").code == 200
            del held[f"default/s{number + 2}"]
            held[f"default/n{number}"] = revision(api.create(services, service(f"n{number}")))
            for event, name in (("update", f"s{number}"), ("add", f"n{number}")):
                told.wait_for(event, "services", f"default/{name}", held[f"default/{name}"])
        known = told.known("services")
        del known["default/kubernetes"]
        assert known == held
        events = Counter(x["event"] for x in told.lines if x.get("key") not in (None, "default/kubernetes"))
        del events["resync"]  # client-go lists again after a watch of less than a second
        assert events == {"add": 6, "update": 2, "delete": 2}


def revision(obj: Any) -> str:
    return str(obj["metadata"]["resourceVersion"])


def run(api: Api, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [informer(), "-kubeconfig", str(api.kubeconfig), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WITHIN)


def test_typed_apply(api: Api) -> None:
    """By two managers: what is extracted is what each applied; a field of another's is a conflict, unless forced."""
    namespace = api.namespace()
    done = run(api, "-namespace", namespace, "-apply", "orders")
    assert done.returncode == 0, done.stderr
    own = json.loads(done.stdout)
    assert own["spec"] == {
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        "selector": {"app": "orders"},
    }
    assert own["metadata"]["labels"] == {"app": "orders"}
    refused = run(api, "-namespace", namespace, "-apply", "orders", "-manager", "other", "-port", "9090")
    assert refused.returncode == 1
    assert 'Apply failed with 1 conflict: conflict with "informer"' in refused.stderr
    assert '.spec.ports[port=80,protocol="TCP"].targetPort' in refused.stderr
    forced = run(api, "-namespace", namespace, "-apply", "orders", "-manager", "other", "-port", "9090", "-force")
    assert forced.returncode == 0, forced.stderr
    found = api.get(f"/api/v1/namespaces/{namespace}/services/orders").object
    assert found["spec"]["ports"][0]["targetPort"] == 9090
    assert {(each["manager"], each["operation"]) for each in found["metadata"]["managedFields"]} == {
        ("informer", "Apply"),
        ("other", "Apply"),
    }
