"""The benchmarks' client against their servers, on loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import answer, call
from e2e.lab.namespaces import Bed


def free(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def running(*command: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **how) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def word() -> Iterator[int]:
    """The port of a server that answers with a word."""
    stream, port = free(), free()
    with running(*answer.COMMAND, "hello", str(stream), str(port)):
        until = time.monotonic() + 5
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)) as one:
                    assert one.recv(16) == b"hello"
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until
                time.sleep(0.01)
        yield port


def asked(what: str, **how: Any) -> Any:
    done = subprocess.run(
        [*call.COMMAND, what, json.dumps(how)], capture_output=True, text=True, check=True, timeout=30
    )
    return json.loads(done.stdout)


def test_connections(word: int) -> None:
    places = [["127.0.0.1", word], ["127.0.0.1", free()]]
    table = asked("connections", places=places, rounds=2, seconds=0.1, in_flight=4, reset=False)
    assert len(table) == 2
    for (rate, failed), (none, refused) in table:
        assert rate > 0
        assert failed == 0
        assert none == 0
        assert refused > 0


class Http:
    """One connection at a time: `/bytes/N` as the server of `examples/` sends it, with one byte wrong where asked."""

    def __init__(self, wrong: int | None = None, once: bool = False) -> None:
        self.wrong, self.once = wrong, once
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            with one:
                request = one.recv(4096)
                while request:
                    path = request.split()[1]
                    size = int(path.rsplit(b"/", 1)[1] or b"3")
                    body = bytearray(i % 251 for i in range(size)) if size != 3 else bytearray(b"me\n")
                    if self.wrong is not None:
                        body[self.wrong] ^= 1
                    one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(body)))
                    request = b"" if self.once else one.recv(4096)


@contextmanager
def http(wrong: int | None = None, once: bool = False) -> Iterator[int]:
    server = Http(wrong, once)
    try:
        yield server.port
    finally:
        server.listener.close()


def test_http() -> None:
    with http() as port:
        places = [["127.0.0.1", port]]
        [[took]] = asked("download", places=places, rounds=1, path="/bytes/100000", size=100_000)
        assert 0 < took < 5000
        [[took]] = asked("keep_alive", places=places, rounds=1, count=10)
        assert 0 < took < 5e6


@pytest.mark.parametrize(("wrong", "size"), [(None, 100_000), (50_000, 100_000), (None, 100_100)])
def test_watch_counts_what_is_lost(wrong: int | None, size: int) -> None:
    with http(wrong, once=True) as port:
        how = {"place": ["127.0.0.1", port], "path": "/bytes/100000", "size": size}
        with running(*call.COMMAND, "watch", json.dumps(how), stdin=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("go\n")
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
    assert said["gap"] >= 0
    assert bool(said["lost"]) == (wrong is not None or size > 100_000)


@pytest.mark.bed
def test_first_call_asks_until_both_are_there() -> None:
    with Bed() as bed:
        host = bed.host("node")
        host.run("ip address add 198.18.0.80/32 dev lo")
        how = {"name": "www.example.com", "server": "127.0.0.1", "port": 8080}
        client = host.popen([*call.COMMAND, "first", json.dumps(how)], stdin=subprocess.PIPE)
        assert client.stdin
        assert client.stdout
        assert client.stdout.readline() == "ready\n"
        began = time.monotonic()
        client.stdin.write("go\n")
        client.stdin.flush()
        environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
        names = host.popen([sys.executable, "-m", "e2e.lab.world", "127.0.0.1"], env=environment)
        assert names.stdout
        assert names.stdout.readline() == "ready\n"
        host.popen([sys.executable, "-m", "http.server", "-b", "198.18.0.80", "-d", "/usr/share/doc", "8080"])
        said = json.loads(client.stdout.readline())
        assert began < said["named"] < said["answered"] < time.monotonic()
