"""kubectl where it goes on: `get -w`, `wait` and `proxy`; on both APIs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from bench.peers import find
from tests.sync.api.apis import Api


@contextlib.contextmanager
def kubectl(api: Api, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A kubectl that runs on."""
    peer = find("kubectl")
    if peer is None:
        pytest.skip("kubectl is not there: python -m bench.peers kubectl")
    command = [str(peer.path), f"--kubeconfig={api.kubeconfig}", f"--cache-dir={api.folder}/cache", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_get_w(api: Api) -> None:
    """Rows come as things happen, under one heading."""
    namespace = api.namespace()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.create(path, {"metadata": {"name": "a"}})
    with kubectl(api, "-n", namespace, "get", "configmaps", "-w", "--output-watch-events") as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["EVENT", "NAME", "DATA", "AGE"]
        told = []
        for line in process.stdout:
            event, name, data, _ = line.split()
            told.append((event, name, data))
            if event == "ADDED":
                api.patch(f"{path}/a", {"data": {"k": "v"}})
            elif event == "MODIFIED":
                api.request("DELETE", f"{path}/a")
            elif event == "DELETED":
                break
        assert told == [("ADDED", "a", "0"), ("MODIFIED", "a", "1"), ("DELETED", "a", "1")]


def test_wait_until_it_is_gone(api: Api) -> None:
    namespace = api.namespace()
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.create(path, {"metadata": {"name": "a", "finalizers": ["example.com/wait"]}})
    with kubectl(api, "-n", namespace, "delete", "configmap", "a") as deleting:
        assert deleting.stdout is not None
        assert deleting.stdout.readline() == f'configmap "a" deleted from {namespace} namespace\n'
        with pytest.raises(subprocess.TimeoutExpired):
            deleting.wait(0.3)
        assert api.patch(f"{path}/a", {"metadata": {"finalizers": None}}).code == 200
        assert deleting.wait(10) == 0


def test_proxy(api: Api) -> None:
    """Plain HTTP with the administrator's credentials."""
    with kubectl(api, "proxy", "--port=0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"http://{address}/api/v1/namespaces/default", timeout=10) as answer:
            assert json.load(answer)["metadata"]["name"] == "default"
