"""Ten times the size, clients that stop reading, and clients that are slow: the others are served as before."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sync.api import connections, server, watch
from sync.store import Change, Key, Store
from tests.sync.api.apis import Api, make_credentials, running_embedded
from tests.sync.api.test_client_go import define_boats

CORE = "/api/v1/namespaces"
SERVICES, BOATS, PAGE = 10_000, 1_000, 500
STALLED = 100
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def memory(pid: int) -> int:
    """Proportional set size, kB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def put(api: Api, path: str, objects: list[Any]) -> None:
    """Create them all, on eight connections."""

    def some(first: int) -> None:
        connection = api.connect()
        for each in objects[first::8]:
            reply = api.request("POST", path, each, connection=connection)
            assert reply.code == 201, reply
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, range(8)))


def pages(api: Api, path: str) -> Iterator[tuple[Any, list[Any]]]:
    """(list metadata, items), page by page."""
    token = ""
    while True:
        found = api.get(f"{path}?limit={PAGE}&continue={token}").object
        yield found["metadata"], found["items"]
        token = found["metadata"].get("continue", "")
        if not token:
            return


async def fill(path: Path, model: dict[str, Any], count: int) -> None:
    """Write services into the file of an API that does not run."""
    store = Store(path)
    await store.open()

    async def one(number: int) -> None:
        def change(_head: object, revision: int) -> Change:
            name, address = f"s{number:05}", f"10.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
            metadata = {**model["metadata"], "name": name, "uid": f"u{number}", "resourceVersion": str(revision)}
            spec = {**model["spec"], "clusterIP": address, "clusterIPs": [address]}
            return Change(json.dumps({**model, "metadata": metadata, "spec": spec}).encode())

        await store.write(Key("services", "default", f"s{number:05}"), change)

    await asyncio.gather(*(one(number) for number in range(count)))
    await store.close()


def test_ten_thousand_services(tmp_path: Path) -> None:
    """The API starts on them, lists them in pages of one snapshot while they change, and goes on giving addresses."""
    path = f"{CORE}/default/services"
    with running_embedded(tmp_path) as api:
        model = api.create(path, {"metadata": {"name": "model"}, "spec": {"ports": [{"port": 80}]}})
        assert api.request("DELETE", f"{path}/model").code == 200
    asyncio.run(fill(tmp_path / "api.db", model, SERVICES))
    with running_embedded(tmp_path) as api:
        names, revisions = [], set()
        for number, (metadata, items) in enumerate(pages(api, path)):
            assert len(items) == PAGE or "continue" not in metadata
            if number == 0:
                assert metadata["remainingItemCount"] == SERVICES + 1 - PAGE
            names += [each["metadata"]["name"] for each in items]
            revisions.add(metadata["resourceVersion"])
            assert api.request("DELETE", f"{path}/s{SERVICES - 1 - number:05}").code == 200
            api.create(path, {"metadata": {"name": f"z{number}"}, "spec": {"ports": [{"port": 80}]}})
        assert names == ["kubernetes", *(f"s{number:05}" for number in range(SERVICES))]
        assert len(revisions) == 1
        found = api.get(path).object["items"]
        addresses = [each["spec"]["clusterIP"] for each in found]
        assert len(found) == SERVICES + 1
        assert len(set(addresses)) == len(addresses)


def test_a_thousand_custom_resources(embedded: Api) -> None:
    define_boats(embedded)
    path = f"/apis/harbour.example.com/v1/namespaces/{embedded.namespace()}/boats"
    about = {"apiVersion": "harbour.example.com/v1", "kind": "Boat"}
    put(
        embedded, path, [{**about, "metadata": {"name": f"b{n:04}"}, "spec": {"crew": 1 + n % 9}} for n in range(BOATS)]
    )
    items = [each for _, some in pages(embedded, path) for each in some]
    assert [each["metadata"]["name"] for each in items] == [f"b{number:04}" for number in range(BOATS)]
    assert {each["spec"]["flag"] for each in items} == {"dk"}
    assert embedded.request("DELETE", path).code == 200
    assert embedded.get(path).object["items"] == []


def test_the_largest_object(api: Api) -> None:
    """A megabyte is stored by both; above 1.5 MB it is refused, and what was there stays."""
    path = f"{CORE}/{api.namespace()}/secrets"
    made = api.create(path, {"metadata": {"name": "large"}, "data": {"k": "eHh4" * 260_000}})
    assert len(made["data"]["k"]) == 1_040_000
    reply = api.patch(f"{path}/large", {"metadata": {"annotations": {"more": "x" * 300_000}}})
    assert (reply.code, reply.reason) == (422, "Invalid")
    reply = api.request("POST", path, {"metadata": {"name": "larger"}, "data": {"k": "eHh4" * 900_000}})
    assert reply.code in (413, 422)
    assert api.get(f"{path}/large").object == made


def test_a_hundred_watchers_that_stop_reading(tmp_path: Path) -> None:
    """A watcher that reads gets everything, writers don't wait, memory stays."""
    path = f"{CORE}/default/configmaps"
    with running_embedded(tmp_path) as api, contextlib.ExitStack() as stack:
        made = api.create(path, {"metadata": {"name": "a"}})
        since = made["metadata"]["resourceVersion"]
        stalled = []
        for _ in range(STALLED):
            connection = api.connect()
            stack.callback(connection.close)
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.request("GET", f"{path}?watch=1&resourceVersion={since}")
            stalled.append(connection)
        told: list[str] = []
        last = threading.Event()

        def read() -> None:
            with api.watch(f"{path}?watch=1&resourceVersion={since}", timeout=60) as events:
                for event in events:
                    told.append(event["object"]["metadata"]["resourceVersion"])
                    if event["object"]["data"]["last"] == "yes":
                        last.set()
                        return

        reader = threading.Thread(target=read)
        reader.start()
        revisions, slowest = [], 0.0
        before = memory(api.pid)
        for number in range(1, 201):
            body = {"data": {"k": f"{number:04}" * 12_500, "last": "yes" if number == 200 else "no"}}
            began = time.monotonic()
            revisions.append(api.patch(f"{path}/a", body).object["metadata"]["resourceVersion"])
            slowest = max(slowest, time.monotonic() - began)
        assert last.wait(60)
        reader.join()
        assert told == revisions
        # the history's own 200 states, and no queue for each of those that do not read
        assert memory(api.pid) - before < 64 * 1024
        assert slowest < 10
        assert api.get(f"{path}/a").object["metadata"]["resourceVersion"] == revisions[-1]


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Callable[[], Awaitable[Streams]]]:
    """A server of this process; gives what opens a connection."""
    _, client = make_credentials(folder)
    pair, ca = folder / "server.pem", folder / "ca.crt"
    options = server.Options(port=0, certificate=pair, key=pair, client_ca=ca, database=folder / "api.db")
    running = server.Server(options)
    port = await running.start()
    opened: list[Streams] = []

    async def connect() -> Streams:
        opened.append(await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="127.0.0.1"))
        return opened[-1]

    try:
        yield connect
    finally:
        for _, writer in opened:
            writer.transport.abort()
        await running.stop()


def head(method: str, path: str, length: int = 0) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {length}"]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def test_slow_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not come ends the connection; a body that does not is told so."""
    defaults = connections.Connections.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "head_within", 0.5)
    monkeypatch.setattr(connections, "SWEEP_EVERY", 0.1)
    monkeypatch.setattr(server, "BODY_WITHIN", 0.5)
    monkeypatch.setattr(server, "STOP_WITHIN", 0.2)  # it waits for the rest of the body of what it refused

    async def run() -> None:
        async with serving(tmp_path) as connect, asyncio.timeout(10):
            silent, slow = await connect(), await connect()
            silent[1].write(head("GET", "/version")[:30])
            slow[1].write(head("POST", f"{CORE}/default/configmaps", 100) + b'{"metadata"')
            assert (await slow[0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 504 ")
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert await silent[0].read() == b""

    asyncio.run(run())


def test_a_watcher_that_stops_reading_is_told_410(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STALLED", 0.5)
    path = f"{CORE}/default/configmaps"

    async def run() -> None:
        async with serving(tmp_path) as connect, asyncio.timeout(30):
            stalled, writing = await connect(), await connect()
            stalled[1].write(head("GET", f"{path}?watch=1&resourceVersion=0"))
            await stalled[0].readuntil(b"\r\n\r\n")
            stalled[1].transport.pause_reading()  # type: ignore[attr-defined]
            for number in range(40):
                body = json.dumps({"metadata": {"name": f"c{number}"}, "data": {"k": "x" * 400_000}}).encode()
                writing[1].write(head("POST", path, len(body)) + body)
                assert (await writing[0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 201 ")
                length = int(
                    (await writing[0].readuntil(b"\r\n\r\n")).lower().partition(b"content-length: ")[2].split()[0]
                )
                await writing[0].readexactly(length)
            await asyncio.sleep(1.0)  # past STALLED: the server has nobody to tell that it gave up
            stalled[1].transport.resume_reading()  # type: ignore[attr-defined]
            rest = await stalled[0].read()
            assert b'"code":410' in rest[-2000:]

    asyncio.run(run())
