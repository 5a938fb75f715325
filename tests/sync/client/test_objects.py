"""All kinds of an API as one stream of changes: on real APIs, and on one that goes wrong in every way."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from sync.client import objects, reflector
from sync.client.connection import MERGE_PATCH, Api
from sync.client.kubeconfig import load
from sync.client.manifests import Changes
from sync.client.objects import ApiObjects
from sync.client.wire import PAGE, Followed
from sync.resources.kinds import EndpointSlice, Key, Node, Resource, Service
from tests.sync.client.apis import api as api  # a fixture
from tests.sync.client.serving import WATCH_HEAD, Asked, chunk, response, serving, status

SERVICES = Followed(Service, "services")
NAMESPACE = "/api/v1/namespaces/default"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


class Follower:
    """What an ApiObjects gave, as a copy."""

    def __init__(self, found: ApiObjects) -> None:
        self.source = found
        self.copy: dict[Key, Resource] = {}

    async def next(self) -> Changes:
        with trio.fail_after(10):
            changes = await anext(self.source)
        for key in changes.gone:
            self.copy.pop(key, None)
        self.copy |= {resource.key: resource for resource in changes.changed}
        return changes

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.next()

    def names(self, kind: type[Resource]) -> set[str]:
        return {key.name for key in self.copy if key.kind == kind.__name__}


@asynccontextmanager
async def following(api: Api, *args: Any, **options: Any) -> AsyncIterator[Follower]:
    async with trio.open_nursery() as nursery:
        found = ApiObjects(api, *args, **options)
        nursery.start_soon(found.run)
        yield Follower(found)
        nursery.cancel_scope.cancel()


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]} | spec}


# on real ones


def test_first_everything_then_what_changes(api: Path) -> None:
    async def main() -> None:
        async with Api(load(api)) as connection:
            for name in ("first-a", "first-b"):
                await connection.create(f"{NAMESPACE}/services", service(name))
            known = [Key("Service", "default", "vanished"), Key("Pod", "default", "p")]
            async with following(connection, known) as follower:
                first = await follower.next()
                assert {"first-a", "first-b"} <= follower.names(Service)
                assert set(first.gone) == set(known)
                await connection.patch(
                    f"{NAMESPACE}/services/first-a", {"spec": {"ports": [{"port": 81}]}}, MERGE_PATCH
                )
                key = Key("Service", "default", "first-a")
                await follower.until(lambda: follower.copy[key].spec.ports[0].port == 81)  # type: ignore[union-attr]
                await connection.delete(f"{NAMESPACE}/services/first-a")
                await follower.until(lambda: key not in follower.copy)
                labels = {"kubernetes.io/service-name": "first-b"}
                empty = {"metadata": {"name": "first-b-1", "labels": labels}, "addressType": "IPv4"}
                await connection.create(SLICES, empty)
                await follower.until(lambda: "first-b-1" in follower.names(EndpointSlice))
                state = follower.source.state()
                assert (state.reachable, state.reason) == (True, "")
                absent = {kind.kind: kind.reason for kind in state.kinds if kind.reason}
                assert set(absent) <= {"meshnodes", "destinationrules"}

    trio.run(main)


def test_several_pages_and_one_object_by_name(api: Path) -> None:
    async def main() -> None:
        async with Api(load(api)) as connection:
            for i in range(PAGE + 3):
                await connection.create(f"{NAMESPACE}/services", service(f"many-{i}", clusterIP="None"))
            async with following(connection, followed=[SERVICES]) as follower:
                first = await follower.next()
                assert sum(each.metadata.name.startswith("many-") for each in first.changed) == PAGE + 3
            one = Followed(Service, "services", "default", "metadata.name=many-7")
            async with following(connection, followed=[one]) as follower:
                first = await follower.next()
                assert [each.metadata.name for each in first.changed] == ["many-7"]
                await connection.delete(f"{NAMESPACE}/services/many-8")
                await connection.delete(f"{NAMESPACE}/services/many-7")
                assert (await follower.next()).gone == [Key("Service", "default", "many-7")]

    trio.run(main)


def test_a_revision_that_is_gone_or_ahead_leads_to_a_new_list(api: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a compaction, and as after a store was put back to an older copy."""
    real = reflector.Reflector.request
    spoiled: dict[str, str] = {}

    def request(self: reflector.Reflector, now: float) -> reflector.Request:
        asked = real(self, now)
        if asked.watch and spoiled:
            asked.query["resourceVersion"] = spoiled.popitem()[1]
        return asked

    monkeypatch.setattr(reflector.Reflector, "request", request)
    monkeypatch.setattr(reflector, "BACKOFF", (0.05, 0.1))
    monkeypatch.setattr(reflector, "PATIENCE", 1)
    monkeypatch.setattr(reflector, "STALL", 0.5)

    async def main(revision: str) -> None:
        spoiled["revision"] = revision
        async with Api(load(api)) as connection, following(connection, followed=[SERVICES]) as follower:
            await follower.next()
            name = f"spoiled-{len(revision)}"
            await connection.create(f"{NAMESPACE}/services", service(name))
            await follower.until(lambda: name in follower.names(Service))
            await eventually(lambda: follower.source.state().reachable)

    for revision in ("9999999999", "rubbish"):
        trio.run(main, revision)


# on one that goes wrong


def listed(*names: str, revision: int = 10, kind: str = "services") -> bytes:
    items = [
        {"metadata": {"name": name, "namespace": "shop", "resourceVersion": "1"}, "spec": {"ports": [{"port": 80}]}}
        for name in names
    ]
    return response({"metadata": {"resourceVersion": str(revision)}, "items": items})


def event(kind: str, name: str, revision: int) -> bytes:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": str(revision)}
    obj = {"metadata": metadata, "spec": {"ports": [{"port": 80}]}}
    return chunk(msgspec.json.encode({"type": kind, "object": obj}) + b"\n")


class Faulty:
    """An API of services: a list, and a watch that gives what `events` has; in its place what `wrong` says."""

    def __init__(self) -> None:
        self.names = ["a", "b"]
        self.wrong: bytes | None = None
        self.hang = False
        self.events: trio.MemoryReceiveChannel[bytes]
        self.send, self.events = trio.open_memory_channel[bytes](100)

    async def __call__(self, stream: trio.abc.Stream, asked: Asked) -> object:
        if self.hang:
            await trio.sleep_forever()
        if self.wrong is not None:
            await stream.send_all(self.wrong)
            return "end"
        if "watch" not in asked.query:
            await stream.send_all(listed(*self.names))
            return None
        await stream.send_all(WATCH_HEAD)
        async for data in self.events:
            await stream.send_all(data)
        return "end"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "BACKOFF", (0.01, 0.05))
    monkeypatch.setattr(reflector, "PACE", 0.01)
    monkeypatch.setattr(reflector, "PATIENCE", 1)


async def eventually(condition: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110  # what it looks at has no event
            await trio.sleep(0.005)


WAYS = {
    "rubbish": (response(b"<html>"), "the answer is no list"),
    "nothing": (b"", "closed without an answer"),
    "half": (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "closed"),
    "429": (status(429, "TooManyRequests", "too many requests"), "too many requests"),
    "500": (status(500, "InternalError", "etcd is away"), "etcd is away"),
    "502": (response(b"Bad Gateway", 502), "answers 502 with no Kubernetes Status"),
    "403": (status(403, "Forbidden", "services is forbidden"), "services is forbidden"),
    "302": (response(b"", 302, Location="http://127.0.0.1:1/"), "a redirect, which is not followed"),
    "other": (b"SSH-2.0-OpenSSH\r\n\r\n", "HTTP: illegal"),
    "hang": (None, r"does not answer within"),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", WAYS)
def test_an_api_that_goes_wrong_takes_nothing_away(way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    faulty = Faulty()
    wrong, why = WAYS[way]

    async def main() -> None:
        async with (
            serving(faulty) as server,
            Api(server.access, request_timeout=0.1) as api,
            following(api, [Key("Service", "shop", "gone")], followed=[SERVICES]) as follower,
        ):
            source = follower.source
            assert (await follower.next()).gone == [Key("Service", "shop", "gone")]
            await eventually(lambda: source.state().reachable)
            assert follower.names(Service) == {"a", "b"}
            before = time.time()
            faulty.wrong, faulty.hang = wrong, way == "hang"
            server.cut()
            await eventually(lambda: not source.state().reachable and why in source.state().reason)
            assert before <= source.state().since <= time.time()
            faulty.names.append("c")
            faulty.wrong, faulty.hang = None, False
            await follower.until(lambda: "c" in follower.names(Service))
            assert follower.names(Service) == {"a", "b", "c"}
            await eventually(lambda: source.state().reachable)

    trio.run(main)
    said = [record.getMessage() for record in caplog.records]
    assert sum("what is known goes on being used" in text for text in said) >= 1
    assert "all kinds are followed" in said[-1]


@pytest.mark.usefixtures("quick")
@trio.testing.trio_test
async def test_an_api_that_is_away_from_the_start_gives_an_empty_first_batch() -> None:
    faulty = Faulty()
    faulty.wrong = b""
    async with (
        serving(faulty) as server,
        Api(server.access) as api,
        following(api, [Key("Service", "shop", "a")], followed=[SERVICES]) as follower,
    ):
        assert await follower.next() == Changes([], [])
        assert not follower.source.state().reachable
        faulty.wrong = None
        await follower.until(lambda: follower.names(Service) == {"a", "b"})


@pytest.mark.usefixtures("quick")
@trio.testing.trio_test
async def test_a_watch_that_is_cut_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "PATIENCE", 3)
    faulty = Faulty()
    async with serving(faulty) as server, Api(server.access) as api, following(api, followed=[SERVICES]) as follower:
        await follower.next()
        await faulty.send.send(event("ADDED", "c", 77))
        await follower.next()
        server.cut()
        await faulty.send.send(event("DELETED", "c", 78))
        assert (await follower.next()).gone == [Key("Service", "shop", "c")]
        watches = [each.query for each in server.asked if "watch" in each.query]
        assert ["resourceVersion=10" in watches[0], "resourceVersion=77" in watches[-1]] == [True, True]


@trio.testing.trio_test
async def test_an_agent_that_does_not_listen_is_not_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "QUEUE", 10)
    faulty = Faulty()
    async with serving(faulty) as server, Api(server.access) as api, following(api, followed=[SERVICES]) as follower:
        await follower.next()
        for i in range(60):
            await faulty.send.send(event("ADDED", f"s{i}", 100 + i))
            await trio.testing.wait_all_tasks_blocked(0.001)
        pending = len(follower.source._pending)
        assert 10 <= pending < 60
        await follower.until(lambda: len(follower.copy) == 62)


@trio.testing.trio_test
async def test_bad_objects_are_told_and_skipped() -> None:
    faulty = Faulty()
    bad = msgspec.json.encode(
        {"type": "ADDED", "object": {"metadata": {"name": "x", "namespace": "shop", "resourceVersion": "9"}, "spec": 1}}
    )
    async with (
        serving(faulty) as server,
        Api(server.access) as api,
        following(api, followed=[SERVICES, Followed(Node, "nodes")], random=Random(1)) as follower,
    ):
        await follower.next()
        for data in (chunk(bad + b"\n"), event("ADDED", "c", 10)):
            await faulty.send.send(data)
            await faulty.send.send(data)
        await follower.until(lambda: "c" in {key.name for key in follower.copy})
        assert any("shop/x: spec: 1 is a number; a mapping" in text for text in follower.source.problems)
