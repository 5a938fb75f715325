"""A client of an API that costs little, so that what is measured is the server: raw TLS connections and epoll.

`python -m bench.api_load KUBECONFIG WHAT JSON` prints one JSON document; the object has what the function WHAT takes.

    fill      {namespace, services, endpoints, nodes}   so many Services with an EndpointSlice each, and Nodes: seconds
    lists     {path, count}                    ms of each list, from the request to its last byte, on one connection
    writes    {seconds, connections}           ConfigMaps created and acknowledged a second
    watchers  {count, rate, seconds}           so many watches, while ConfigMaps are changed: for each change the ms
                                               from sending it to the first, and to the last, watch that has it
"""

from __future__ import annotations

import json
import re
import secrets
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import objects
from e2e.lab.api import JSON, MERGE_PATCH, access, path_of

NAMESPACE = "default"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
AT_ONCE = 16
WRITERS = 4
"""Connections that changes are sent on in turn, so that none waits for another's answer."""
PATIENCE = 10.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHANGE = re.compile(rb'"n":"(\d+)"')


class Connection:
    """One TLS connection, one request at a time; reads never wait."""

    def __init__(self, place: tuple[str, int], tls: ssl.SSLContext) -> None:
        raw = socket.create_connection(place, PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = tls.wrap_socket(raw, server_hostname=place[0])
        self.received = bytearray()
        self._host = f"{place[0]}:{place[1]}"

    def send(self, method: str, path: str, body: object = None, type: str = JSON) -> None:
        """Send a request, waiting until it is out."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {JSON}\r\nContent-Type: {type}\r\n"
        self.received.clear()
        self.socket.settimeout(PATIENCE)
        self.socket.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        self.socket.setblocking(False)

    def read(self) -> bytes:
        """All that has come; raises EOFError at the end."""
        found = b""
        while True:
            try:
                part = self.socket.recv(1 << 16)
            except (ssl.SSLWantReadError, BlockingIOError):
                return found
            if not part:
                raise EOFError("the API ended the connection")
            found += part

    def answered(self) -> bool:
        """Read; whether the whole answer is there now. Raises EOFError if it is no success."""
        self.received += self.read()
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            raise EOFError(bytes(self.received[:500]).decode(errors="replace"))
        length = _LENGTH.search(head + b"\r\n")
        return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")

    def ask(self, method: str, path: str, body: object = None, type: str = JSON) -> bytes:
        """A whole answer; waits for it."""
        self.send(method, path, body, type)
        until = time.monotonic() + PATIENCE
        while not self.answered():
            if not select.select([self.socket], [], [], until - time.monotonic())[0]:
                raise EOFError(f"{method} {path}: no answer")
        return bytes(self.received)


class Client:
    """Makes connections to the API of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        server, self._tls = access(kubeconfig)
        parts = urlsplit(server)
        self._place = (parts.hostname or "", parts.port or 443)

    def connect(self) -> Connection:
        return Connection(self._place, self._tls)


def fill(client: Client, namespace: str, services: int, endpoints: int, nodes: int) -> float:
    began = time.monotonic()
    waiting = [*objects.many(namespace, services, endpoints), *objects.nodes(nodes)]
    poll = select.epoll()
    flying = {each.socket.fileno(): each for each in (client.connect() for _ in range(AT_ONCE))}
    idle = list(flying)
    for each in flying.values():
        poll.register(each.socket, select.EPOLLIN)
    while waiting or len(idle) < len(flying):
        while waiting and idle:
            item = waiting.pop()
            flying[idle.pop()].send("POST", path_of(item).rpartition("/")[0], item)
        for number, _ in poll.poll(1):
            if flying[number].answered():
                idle.append(number)
    return time.monotonic() - began


def lists(client: Client, path: str, count: int) -> list[float]:
    one = client.connect()
    one.ask("GET", path)
    times = []
    for _ in range(count):
        began = time.monotonic()
        one.ask("GET", path)
        times.append((time.monotonic() - began) * 1e3)
    return times


def writes(client: Client, seconds: float, connections: int) -> float:
    poll = select.epoll()
    mark, made = secrets.token_hex(4), 0
    flying = {each.socket.fileno(): each for each in (client.connect() for _ in range(connections))}
    for number, each in enumerate(flying.values()):
        poll.register(each.socket, select.EPOLLIN)
        each.send("POST", MAPS, _map(f"w-{mark}-{number}", 0))
    sent = len(flying)
    began = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        for number, _ in poll.poll(1):
            if flying[number].answered():
                made += 1
                flying[number].send("POST", MAPS, _map(f"w-{mark}-{sent}", 0))
                sent += 1
    return made / (now - began)


def watchers(client: Client, count: int, rate: float, seconds: float) -> dict[str, list[float]]:
    writers = [client.connect() for _ in range(WRITERS)]
    mark = secrets.token_hex(4)
    paths = [f"{MAPS}/c-{mark}-{number}" for number in range(WRITERS)]
    for number, each in enumerate(writers):
        each.ask("POST", MAPS, _map(f"c-{mark}-{number}", 0, mark))
    query = f"?labelSelector=mark%3D{mark}"
    found = writers[0].ask("GET", MAPS + query)
    revision = re.search(rb'"resourceVersion":"(\d+)"', found)
    assert revision
    poll = select.epoll()
    watching = {}
    for _ in range(count):
        one = client.connect()
        one.send("GET", f"{MAPS}{query}&watch=true&resourceVersion={revision[1].decode()}")
        watching[one.socket.fileno()] = one
        poll.register(one.socket, select.EPOLLIN)
    time.sleep(0.3)
    busy: set[int] = set()
    numbers = {each.socket.fileno(): index for index, each in enumerate(writers)}
    for each in writers:
        poll.register(each.socket, select.EPOLLIN)
    total = int(rate * seconds)
    sent: list[float] = []
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    seen = dict.fromkeys(range(1, total + 1), 0)
    began = time.monotonic()
    until = began + seconds + PATIENCE
    while min(seen.values()) < count and time.monotonic() < until:
        due = began + len(sent) / rate
        writer = len(sent) % WRITERS
        if len(sent) < total and time.monotonic() >= due and writer not in busy:
            sent.append(time.monotonic())
            busy.add(writer)
            writers[writer].send("PATCH", paths[writer], {"data": {"n": str(len(sent))}}, MERGE_PATCH)
            continue
        wait = max(0.0, due - time.monotonic()) if len(sent) < total and writer not in busy else 0.1
        for number, _ in poll.poll(wait):
            if number in numbers:
                if writers[numbers[number]].answered():
                    busy.discard(numbers[number])
                continue
            data = watching[number].read()
            now = time.monotonic()
            for change in map(int, _CHANGE.findall(data)):
                if change:
                    first.setdefault(change, now)
                    last[change] = now
                    seen[change] += 1
    missed = sum(1 for times in seen.values() if times < count)
    if missed:
        raise EOFError(f"{missed} of {total} changes did not reach all {count} watchers")
    return {
        "first": [(first[index + 1] - at) * 1e3 for index, at in enumerate(sent)],
        "last": [(last[index + 1] - at) * 1e3 for index, at in enumerate(sent)],
        "rate": [len(sent) / (sent[-1] - sent[0])],
    }


def _map(name: str, value: int, mark: str = "none") -> dict[str, Any]:
    meta = {"name": name, "labels": {"mark": mark}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"n": str(value)}}


def main(kubeconfig: str, what: str, how: str) -> None:
    measures: dict[str, Callable[..., object]] = {"fill": fill, "lists": lists, "writes": writes, "watchers": watchers}
    print(json.dumps(measures[what](Client(Path(kubeconfig)), **json.loads(how))))


if __name__ == "__main__":
    main(*sys.argv[1:])
