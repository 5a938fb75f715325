"""List and watch against a model of an API, on virtual time with seeds."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.client.manifests import Changes
from sync.client.reflector import (
    _NEXT,
    ABSENT,
    BACKOFF,
    PACE,
    PATIENCE,
    STALL,
    STEADY,
    Outcome,
    Phase,
    Reflector,
)
from sync.client.wire import Decoder, Event, Followed, RubbishError
from sync.resources.kinds import EndpointSlice, Key, Service

SERVICES = Followed(Service, "services")


def service(name: str, port: int = 80, revision: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": str(revision), "managedFields": [{"a": 1}]},
        "spec": {"ports": [{"port": port}], "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"]},
        "status": {"loadBalancer": {}},
    }


def page(*items: dict[str, Any], revision: int = 10, after: str = "") -> bytes:
    metadata = {"resourceVersion": str(revision)} | ({"continue": after} if after else {})
    return msgspec.json.encode({"kind": "ServiceList", "metadata": metadata, "items": list(items)})


def line(kind: str, obj: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": kind, "object": {"kind": "Service", "apiVersion": "v1", **obj}})


def error(code: int, message: str = "as the test says") -> bytes:
    return line("ERROR", {"kind": "Status", "code": code, "message": message})


def bookmark(revision: int) -> bytes:
    return line("BOOKMARK", {"metadata": {"resourceVersion": str(revision)}})


def key(name: str) -> Key:
    return Key("Service", "shop", name)


def names(changes: Changes) -> list[str]:
    return [resource.metadata.name for resource in changes.changed]


def reflector(*known: str) -> Reflector:
    return Reflector(SERVICES, map(key, known), Random(1), 0.0)


def watching(*items: str) -> Reflector:
    """One that has listed and begun to watch at time 0."""
    found = reflector()
    found.request(0)
    found.page(page(*map(service, items)), 0)
    assert found.request(0).watch
    found.opened(0)
    return found


def test_lists_in_pages_then_watches_from_there() -> None:
    it = reflector("gone", "b")
    first = it.request(0)
    assert (first.watch, first.path, first.query) == (False, "/api/v1/services", {"limit": "500"})
    changes = it.page(page(service("a"), after="more"), 0)
    assert (names(changes), changes.gone, it.synced, it.wake) == (["a"], [], False, 0)
    assert it.request(0).query == {"limit": "500", "continue": "more"}
    changes = it.page(page(service("b"), revision=12), 0)
    assert (names(changes), changes.gone, it.synced) == (["b"], [key("gone")], True)
    watch = it.request(1)
    assert watch.watch
    assert watch.query["resourceVersion"] == "12"
    assert watch.query["allowWatchBookmarks"] == "true"
    assert 300 <= int(watch.query["timeoutSeconds"]) <= 600
    it.opened(1)
    changes = it.lines([line("MODIFIED", service("a", 81, 13)), line("DELETED", service("b", 80, 14))], 2)
    assert (names(changes), changes.gone) == (["a"], [key("b")])
    it.lines([bookmark(20)], 3)
    it.ended(400)
    assert (it.wake, it.reason) == (400, "")
    assert it.request(400).query["resourceVersion"] == "20"


def test_a_fieldselector_and_a_namespace() -> None:
    it = Reflector(Followed(Service, "services", "shop", "metadata.name=a"), (), Random(1), 0)
    assert it.request(0).path == "/api/v1/namespaces/shop/services"
    it = Reflector(Followed(Service, "services", "", "metadata.name=a"), (), Random(1), 0)
    assert it.request(0).query["fieldSelector"] == "metadata.name=a"


def test_expired_means_a_new_list_at_once() -> None:
    it = watching("a", "b")
    it.lines([error(410)], 100)
    assert (it.phase, it.wake, it.reason) == (Phase.LIST, 100, "")
    it.request(100)
    changes = it.page(page(service("b")), 100)
    assert changes.gone == [key("a")]
    # expired pages begin the list anew, and not in a hurry
    it = reflector()
    it.request(0)
    it.page(page(service("a"), after="x"), 0)
    it.request(0.1)
    it.refused(410, "expired", 0.2)
    assert 0.2 < it.wake <= 0.1 + PACE
    assert "continue" not in it.request(1).query
    assert it.page(page(service("b")), 1).gone == [key("a")]


def test_failures_wait_longer_and_are_forgotten() -> None:
    it, now = watching("a"), 100.0
    waits = []
    for _ in range(2):
        it.failed("connection refused", now)
        assert (it.phase, it.reason, it.since) == (Phase.WATCH, "connection refused", 100.0)
        waits.append(it.wake - now)
        now = it.wake
        it.request(now)
    assert BACKOFF[0] / 2 <= waits[0] <= BACKOFF[0] <= waits[1] <= 2 * BACKOFF[0]
    it.opened(now)
    assert (it.reason, it.since) == ("", now)
    it.failed("cut", now + STEADY)
    assert it.wake - now - STEADY <= BACKOFF[0]


def test_the_wait_has_a_limit_and_a_server_may_ask_for_more() -> None:
    it, now = reflector(), 0.0
    for _ in range(50):
        it.request(now)
        it.failed("no", now)
        assert it.wake - now <= BACKOFF[1]
        now = it.wake
    assert it.reason == "no"
    it.request(now)
    it.refused(429, "too many", now, retry_after=60)
    assert it.wake == now + 60


def test_a_revision_that_the_api_cannot_take_leads_to_a_list() -> None:
    it, now = watching("a"), 0.0
    for _ in range(PATIENCE):
        assert it.phase is Phase.WATCH
        it.refused(504, "Too large resource version", now)
        now = it.wake
        it.request(now)
    assert it.phase is Phase.LIST


def test_a_kind_that_is_not_there_keeps_what_was_known() -> None:
    it = reflector("a")
    it.request(0)
    it.refused(404, "page not found", 0)
    assert it.absent
    assert it.answered
    assert "does not have services" in it.reason
    assert ABSENT / 2 <= it.wake <= ABSENT
    it.request(it.wake)
    assert it.page(page(service("b")), 40).gone == [key("a")]
    it.request(40)
    it.opened(40)
    assert not it.absent


def test_a_watch_that_says_nothing_leads_to_a_list_and_is_no_failure() -> None:
    it = watching("a")
    assert it.deadline == STALL
    it.lines([bookmark(11)], 100)
    assert it.deadline == 100 + STALL
    it.stalled(it.deadline)
    assert (it.phase, it.reason, it.wake) == (Phase.LIST, "", 100 + STALL)


def test_watches_that_end_at_once_are_a_failure() -> None:
    it = watching("a")
    it.ended(0.1)
    assert it.reason == "watches end at once"
    assert it.wake > 0.1
    it = watching("a")
    it.lines([bookmark(11)], 0.1)
    it.ended(0.2)
    assert it.reason == ""
    assert it.wake > 0.2


def test_a_bad_object_keeps_what_was_known_and_is_told() -> None:
    it = reflector("a", "b")
    it.request(0)
    bad = service("a") | {"spec": {"ports": [{"port": "http"}]}}
    changes = it.page(page(bad, service("b")), 0)
    assert (names(changes), changes.gone) == (["b"], [])
    assert it.problems == {key("a"): "spec.ports[0].port: 'http' is text; a whole number"}
    it.request(0)
    it.opened(0)
    assert names(it.lines([line("MODIFIED", service("a", 81, 11))], 1)) == ["a"]
    assert it.problems == {}
    it.lines([line("MODIFIED", bad)], 2)
    assert it.lines([line("DELETED", bad)], 3).gone == [key("a")]
    assert it.problems == {}


def test_nulls_are_absent_fields() -> None:
    decoder = Decoder(EndpointSlice)
    labels = {"kubernetes.io/service-name": "a"}
    obj = {"metadata": {"name": "a-1", "namespace": "shop", "labels": labels}, "addressType": "IPv4"}
    (item,) = decoder.page(page(obj | {"endpoints": None, "ports": None})).items
    assert isinstance(item.resource, EndpointSlice)
    assert item.resource.endpoints == ()


def test_made_and_deleted_within_one_batch() -> None:
    it = watching()
    changes = it.lines([line("ADDED", service("a")), line("DELETED", service("a"))], 1)
    assert (names(changes), changes.gone) == ([], [key("a")])
    it.lines([line("ADDED", service("a"))], 1)
    changes = it.lines([line("DELETED", service("a")), line("ADDED", service("a", 81))], 1)
    assert (names(changes), changes.gone) == (["a"], [])


RUBBISH = [b"", b"{", b"null", b"[]", b"<html>", b'{"type":1}', b'{"type":"ADDED"}', b'{"type":"MADE","object":{}}']


@pytest.mark.parametrize("body", [*RUBBISH, b'{"metadata":{}}', b'{"metadata":{"resourceVersion":"1"},"items":{}}'])
def test_rubbish_is_a_failure_and_takes_nothing_away(body: bytes) -> None:
    it = reflector("a")
    it.request(0)
    assert it.page(body, 0) == Changes([], [])
    assert it.reason.startswith("the answer is no list")
    assert it.phase is Phase.LIST
    it = watching("a")
    assert it.lines([body], 1) == Changes([], [])
    assert it.reason
    assert it.phase is Phase.WATCH
    assert it.wake > 1


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "object", "metadata", "items", "name", "resourceVersion", "continue", "spec", "ports"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(msgspec.json.encode)
)
def test_whatever_comes_is_an_event_or_rubbish(data: bytes) -> None:
    decoder = Decoder(Service)
    for read in (decoder.page, decoder.event):
        with contextlib.suppress(RubbishError):
            read(data)


def test_the_table_has_every_outcome_that_can_be() -> None:
    assert {outcome for _, outcome in _NEXT} == set(Outcome)
    for outcome in (Outcome.EXPIRED, Outcome.ABSENT, Outcome.FAILED):
        assert (Phase.LIST, outcome) in _NEXT
        assert (Phase.WATCH, outcome) in _NEXT


class World:
    """An API with a history, part of which it forgets; and a copy kept by what a reflector gives."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.objects: dict[str, tuple[int, int]] = {}  # port, revision
        self.history: list[tuple[int, str, str, int]] = []  # revision, event, name, port
        self.revision = 100
        self.compacted = 0
        self.copy: dict[Key, int] = {}
        self.snapshot: tuple[dict[str, tuple[int, int]], int] = {}, 0

    def change(self) -> None:
        self.revision += 1
        name = self.random.choice("abcdef")
        if name in self.objects and self.random.random() < 0.4:
            port, _ = self.objects.pop(name)
            event = "DELETED"
        else:
            event = "MODIFIED" if name in self.objects else "ADDED"
            port = self.random.randrange(1, 65536)
            self.objects[name] = port, self.revision
        self.history.append((self.revision, event, name, port))

    def take(self, changes: Changes) -> None:
        assert not {each.key for each in changes.changed} & set(changes.gone)
        for gone in changes.gone:
            self.copy.pop(gone, None)
        for each in changes.changed:
            assert isinstance(each, Service)
            self.copy[each.key] = each.spec.ports[0].port

    def list(self, query: dict[str, str]) -> bytes:
        """Pages of two of one snapshot, whatever changes meanwhile."""
        if "continue" not in query:
            self.snapshot = dict(self.objects), self.revision
        objects, revision = self.snapshot
        rest = sorted(name for name in objects if name > query.get("continue", ""))
        shown = [service(name, *objects[name]) for name in rest[:2]]
        return page(*shown, revision=revision, after=rest[1] if len(rest) > 2 else "")

    def fail(self, it: Reflector, watch: bool, now: float) -> None:
        """A request that goes wrong in one of the ways there are."""
        match self.random.randrange(4):
            case 0:
                it.failed("away", now)
            case 1:
                it.refused(500, "internal", now)
            case 2:
                it.refused(410, "expired", now)
            case _ if watch:
                it.failed("half a line", now)
            case _:
                it.page(b"rubbish", now)


@given(st.integers(0, 2**32))
def test_the_copy_is_the_apis_state_in_the_end(seed: int) -> None:
    random = Random(seed)
    world, now = World(random), 0.0
    it = Reflector(SERVICES, (), random, now)
    watches: list[float] = []
    for step in range(120):
        calm = step > 80  # then the API is well, and nothing changes
        assert it.wake - now <= BACKOFF[1]
        now = max(now, it.wake)
        request = it.request(now)
        watches += [now] if request.watch else []
        now += random.random() * 0.01
        if not calm and random.random() < 0.3:
            world.fail(it, request.watch, now)
        elif not request.watch:
            world.take(it.page(world.list(request.query), now))
            if it.phase is Phase.LIST and not calm and random.random() < 0.1:
                world.change()
        else:
            since = int(request.query["resourceVersion"])
            it.opened(now)
            if since < world.compacted:
                world.take(it.lines([error(410)], now))
                continue
            if not calm:
                for _ in range(random.randrange(4)):
                    world.change()
            events = [
                line(event, service(name, port, revision))
                for revision, event, name, port in world.history
                if revision > since
            ]
            if not calm and events and random.random() < 0.3:
                events[random.randrange(len(events))] = b'{"type":"ADD'
            now += random.random() * 10
            world.take(it.lines([*events, bookmark(world.revision)], now))
            if it.deadline < float("inf"):
                it.ended(now)
            if not calm and random.random() < 0.2:
                world.compacted = world.revision
    assert it.synced
    assert it.reason == ""
    assert world.copy == {key(name): port for name, (port, _) in world.objects.items()}
    assert all(later - earlier >= PACE / 2 for earlier, later in pairwise(watches))


def test_error_events_have_their_words() -> None:
    assert Decoder(Service).event(error(500, "it broke")) == Event("ERROR", code=500, message="it broke")
    it = watching("a")
    it.lines([error(500, "it broke")], 10)
    assert it.reason == "it broke"
