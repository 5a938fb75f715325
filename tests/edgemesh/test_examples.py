"""The examples are plain Kubernetes YAML, without a fault, and their servers do what they say."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from edgemesh.config import Config
from sync.client.manifest import parse
from sync.client.manifests import Manifests
from sync.resources.kinds import Pod, Service

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))


def pods() -> dict[str, dict[str, Any]]:
    documents = (found for path in FILES for found in yaml.safe_load_all(path.read_text()))
    return {found["metadata"]["name"]: found for found in documents if found["kind"] == "Pod"}


def test_no_faults_and_no_fixed_address() -> None:
    manifests = Manifests(EXAMPLES, service_range=Config(node_name="x").service_range)

    async def first() -> list[object]:
        return list((await anext(manifests)).changed)

    objects = trio.run(first)
    manifests.close()
    assert manifests.problems == {}
    services = {found.metadata.name: found for found in objects if isinstance(found, Service)}
    assert sorted(services) == ["catalog", "echo", "echo-udp", "orders", "stock"]
    assert {name: found.spec.cluster_ip for name, found in services.items() if found.spec.cluster_ip} == {
        "stock": "None"
    }
    members = {
        name: sum(
            isinstance(pod, Pod) and service.spec.selector.items() <= pod.metadata.labels.items() for pod in objects
        )
        for name, service in services.items()
    }
    assert members == {"catalog": 3, "echo": 1, "echo-udp": 1, "orders": 1, "stock": 2}


def test_pods_are_as_simple_as_the_readme_says() -> None:
    for name, pod in pods().items():
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "python:3.11-slim", name
        assert set(container) <= {"name", "image", "command", "args", "ports", "env"}
        assert set(pod["spec"]) <= {"containers", "nodeSelector", "hostname", "subdomain"}
        assert pod["spec"]["nodeSelector"]["topology.kubernetes.io/zone"] in ("site-a", "site-b")


def test_readme_names_every_service() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for path in FILES:
        for found in parse(path.name, path.read_bytes())[0]:
            if isinstance(found, Service):
                assert f"`{found.metadata.name}.shop" in text


@contextlib.contextmanager
def running(name: str) -> Iterator[int]:
    """Run a pod's container here, on a free port of the loopback, and give that port."""
    (container,) = pods()[name]["spec"]["containers"]
    (declared,) = container["ports"]
    kind = socket.SOCK_DGRAM if declared.get("protocol") == "UDP" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (script,) = container["args"]
    assert "0.0.0.0" in script
    script = re.sub(rf"\b{declared['containerPort']}\b", str(port), script).replace("0.0.0.0", "127.0.0.1")
    with subprocess.Popen(
        [sys.executable, *container["command"][1:], script], env={**os.environ, "POD_NAME": name}
    ) as process:
        try:
            yield port
        finally:
            process.kill()


def connect(port: int) -> socket.socket:
    """Connect as soon as the server listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def body(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def test_orders() -> None:
    with running("orders") as port:
        connect(port).close()
        url = f"http://127.0.0.1:{port}"
        for path, expected in (("/", b"orders\n"), ("/bytes/4194304", body(4194304)), ("/slow/50000", body(50000))):
            with urllib.request.urlopen(url + path, timeout=10) as answer:
                assert answer.read() == expected
        with connect(port) as client:  # kept alive, several requests at once, the last one closes
            client.sendall(
                b"GET /bytes/300000 HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n"
                b"GET /x HTTP/1.1\r\n\r\nGET /bytes/0 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n"
            )
            received = b""
            while data := client.recv(65536):
                received += data
        assert received.count(b"HTTP/1.1 200 OK") == 4
        assert received.count(b"HTTP/1.1 404 Not Found") == 1
        assert body(300000) in received
        assert received.endswith(b"\r\n\r\norders\n")


@pytest.mark.parametrize("name", ["catalog-a1", "catalog-b1"])
def test_catalog(name: str) -> None:
    with running(name) as port:
        connect(port).close()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.read() == f"{name}\n".encode()


def test_echo_and_half_close() -> None:
    with running("echo") as port, connect(port) as client:
        client.sendall(b"x" * 1000)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(65536):
            received += data
        assert received == b"x" * 1000


def test_echo_udp() -> None:
    with running("echo-udp") as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        client.connect(("127.0.0.1", port))
        deadline = time.monotonic() + 10
        while True:
            try:
                client.send(bytes(5000))
                assert client.recv(65535) == bytes(5000)
                break
            except (TimeoutError, ConnectionRefusedError):  # it is not there yet
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_stock() -> None:
    with running("stock-1") as port, connect(port) as client:
        assert client.recv(100) == b"stock-1\n"
