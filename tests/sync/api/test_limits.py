"""The server's caps and clocks, with smaller ones in their place; and what is asked of it from inside its process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.api import connections, inflight, server, watch
from sync.api.forms import Form
from sync.api.gate import Caps
from sync.api.lines import CACHED, Lines
from sync.api.options import Deletion, Write
from sync.api.recent import Recent
from sync.api.registry import Registry
from sync.api.status import ApiError
from sync.store import Entry, Key
from tests.sync.api.inside import Inside, running_inside
from tests.sync.api.test_deletion import until

CORE = "/api/v1/namespaces"
MAPS = f"{CORE}/default/configmaps"


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    with running_inside(tmp_path) as found:
        yield found


def test_bookmarks_come_round(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """To who asked for them, with the newest revision, though nothing of the watched kind was written."""
    monkeypatch.setattr(watch, "BOOKMARK_EVERY", 0.2)
    api = inside.api
    since = api.get(MAPS).object["metadata"]["resourceVersion"]
    with (
        api.watch(f"{MAPS}?watch=1&resourceVersion={since}&allowWatchBookmarks=true") as marked,
        api.watch(f"{MAPS}?watch=1&resourceVersion={since}&timeoutSeconds=1") as plain,
    ):
        made = api.create(f"{CORE}/default/secrets", {"metadata": {"name": "s"}})["metadata"]["resourceVersion"]
        for event in marked:
            assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
            assert set(event["object"]["metadata"]) == {"resourceVersion", "creationTimestamp"}
            if event["object"]["metadata"]["resourceVersion"] == made:
                break
        assert list(plain) == []


@pytest.mark.parametrize(("cap", "method"), [("MAX_READS", "GET"), ("MAX_WRITES", "POST")])
def test_more_requests_than_are_answered_at_a_time(
    inside: Inside, monkeypatch: pytest.MonkeyPatch, cap: str, method: str
) -> None:
    monkeypatch.setattr(inflight, cap, 0)
    body = {"metadata": {"name": "a"}} if method == "POST" else None
    reply = inside.api.request(method, MAPS, body)
    assert (reply.code, reply.reason, reply.headers["Retry-After"]) == (429, "TooManyRequests", "1")
    other = inside.api.get(MAPS) if method == "POST" else inside.api.request("POST", MAPS, {"metadata": {"name": "a"}})
    assert other.code in (200, 201)
    monkeypatch.undo()
    assert inside.api.request(method, MAPS, {"metadata": {"name": "b"}} if body else None).code in (200, 201)


def test_a_request_that_failed_counts_no_more(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "MAX_READS", 1)
    for _ in range(3):
        assert inside.api.get(f"{MAPS}/none").code == 404
    assert inside.api.get(MAPS).code == 200


def unread(inside: Inside, path: str, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    """A connection that asked for `path`, and reads nothing."""
    connection = inside.api.connect(context)
    connection.sock = context.wrap_socket(small(urlsplit(inside.api.url).port or 0), server_hostname="127.0.0.1")
    connection.request("GET", path)
    return connection


def small(port: int) -> socket.socket:
    """A socket whose kernel takes little."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(20)
    made.connect(("127.0.0.1", port))
    return made


def fill_maps(inside: Inside) -> None:
    """So that their list has 8 MB: more than kernels keep of it."""
    for number in range(20):
        inside.api.create(MAPS, {"metadata": {"name": f"m{number}"}, "data": {"k": "x" * 400_000}})


def test_a_request_counts_until_its_answer_is_read(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads nothing has its share and no more; others are served; who reads at last gets the whole list."""
    monkeypatch.setattr(inflight, "MAX_READS", 8)
    fill_maps(inside)
    stranger = inside.api.as_user("slow", "system:masters")
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(contextlib.closing(unread(inside, MAPS, stranger))) for _ in range(2)]
        until(lambda: len(inside.server._inflight) == 2)
        with contextlib.closing(inside.api.connect(stranger)) as more:
            assert inside.api.request("GET", f"{MAPS}/m0", connection=more).code == 429
        assert len(inside.api.get(MAPS).object["items"]) >= 20
        for each in slow:
            answer = each.getresponse()
            assert len(json.loads(answer.read())["items"]) >= 20
        until(lambda: len(inside.server._inflight) == 0)
        assert inside.api.request("GET", f"{MAPS}/m0", connection=slow[0]).code == 200


def test_who_reads_nothing_is_cut_off(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD", 0.3)
    fill_maps(inside)
    with contextlib.closing(unread(inside, MAPS, inside.api.client)) as slow:
        until(lambda: len(inside.server._inflight) == 1)
        until(lambda: len(inside.server._inflight) == 0)
        with pytest.raises((OSError, http.client.HTTPException)):
            slow.getresponse().read()


def test_silent_connections_keep_nobody_out(inside: Inside) -> None:
    """Of the same address: neither with a certificate nor without, and who watches goes on."""
    gate = inside.server._gate
    assert gate is not None
    gate._caps = Caps(all=100, of_address=4)
    stranger = ssl.create_default_context(cafile=str(inside.api.ca))
    with contextlib.ExitStack() as stack, inside.api.watch(f"{MAPS}?watch=1") as events:
        for number in range(10):
            stack.enter_context(contextlib.closing(small(urlsplit(inside.api.url).port or 0)))
            for context, path, code in ((inside.api.client, MAPS, 200), (stranger, "/version", 200)):
                with contextlib.closing(inside.api.connect(context)) as connection:
                    assert inside.api.request("GET", path, connection=connection).code == code
            inside.api.create(MAPS, {"metadata": {"name": f"s{number}"}})
        names = (event["object"]["metadata"]["name"] for event in events)
        assert list(itertools.islice(names, 10)) == [f"s{number}" for number in range(10)]


def test_more_watches_than_there_may_be(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_WATCHES", 1)
    api = inside.api
    with api.watch(f"{MAPS}?watch=1&resourceVersion=0"):
        reply = api.get(f"{MAPS}?watch=1")
        assert (reply.code, reply.reason) == (429, "TooManyRequests")
    until(lambda: api.get(f"{MAPS}?watch=1&timeoutSeconds=1").code == 200)


def test_revoked_certificates_are_cut_off(inside: Inside) -> None:
    """Open watches and idle connections end, a new one is no one's; others go on."""
    api = inside.api
    context = api.as_user("edgemesh:node:a1", "edgemesh:nodes")
    watching, idle = api.connect(context), api.connect(context)
    with contextlib.closing(watching), contextlib.closing(idle), api.watch(f"{MAPS}?watch=1") as others:
        assert api.request("GET", "/api/v1/nodes", connection=idle).code == 200
        watching.request("GET", "/api/v1/nodes?watch=1&resourceVersion=0")
        answer = watching.getresponse()
        assert answer.status == 200
        peers = [each.get_extra_info("peercert") for each in inside.server._connections._connections.values()]  # type: ignore[union-attr]
        serials = {int(each["serialNumber"], 16) for each in peers if "edgemesh:node:a1" in str(each["subject"])}

        async def revoke() -> None:
            inside.server.revoke(frozenset(serials))

        inside.do(revoke())
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert answer.read() == b""
        with pytest.raises((OSError, http.client.HTTPException)):
            api.request("GET", "/api/v1/nodes", connection=idle)
        with contextlib.closing(api.connect(context)) as again:
            assert api.request("GET", "/api/v1/nodes", connection=again).code == 401
        api.create(MAPS, {"metadata": {"name": "still"}})
        assert next(each for each in others if each["object"]["metadata"]["name"] == "still")


def test_a_list_that_goes_on_after_compaction(inside: Inside) -> None:
    """410 with a token that goes on with what there is now."""
    api = inside.api
    for name in "abcd":
        api.create(MAPS, {"metadata": {"name": name}})
    first = api.get(f"{MAPS}?limit=2").object
    token = first["metadata"]["continue"]
    api.request("DELETE", f"{MAPS}/c")
    inside.do(inside.server.store.compact(inside.server.store.revision))
    expired = api.get(f"{MAPS}?limit=2&continue={token}")
    assert (expired.code, expired.reason) == (410, "Expired")
    rest = api.get(f"{MAPS}?limit=2&continue={expired.object['metadata']['continue']}").object
    assert [each["metadata"]["name"] for each in rest["items"]] == ["d"]
    since = first["metadata"]["resourceVersion"]
    with api.watch(f"{MAPS}?watch=1&resourceVersion={since}") as events:
        event = next(events)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_two_services_at_a_time_never_get_the_same(inside: Inside) -> None:
    """Address or node port: the one that comes second is told, though the first is not durable yet."""
    objects = inside.server._objects
    services = objects.registry.find("", "v1", "services")
    assert services is not None

    async def make(name: str, spec: dict[str, Any]) -> str:
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        objects.checked(services, body, (), Write("t", []))
        try:
            await objects.create(services, "default", body, Write("t", []))
        except ApiError as error:
            return error.message
        return ""

    async def race(**spec: Any) -> list[str]:
        ports = [{"port": 80, **spec.pop("port", {})}]
        name = next(iter(spec.values())).lower().replace(".", "-")
        return await asyncio.gather(*(make(f"s{name}{n}", {"ports": ports, **spec}) for n in range(3)))

    for said, why in (
        (inside.do(race(clusterIP="10.96.7.7")), "provided IP is already allocated"),
        (inside.do(race(type="NodePort", port={"nodePort": 30777})), "provided port is already allocated"),
    ):
        assert said[0] == ""
        assert all(why in each for each in said[1:])


def test_a_namespace_that_is_deleted_while_something_is_made_in_it(inside: Inside) -> None:
    """What was let in before the deletion was durable goes with the rest."""
    objects = inside.server._objects
    namespaces, maps = (objects.registry.find("", "v1", plural) for plural in ("namespaces", "configmaps"))
    assert namespaces is not None
    assert maps is not None
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}}

    async def race() -> str:
        deletion = asyncio.ensure_future(objects.delete(namespaces, "", "short", Deletion()))
        for _ in range(2):
            await asyncio.sleep(0)  # its commit has begun: what comes now is of the next one
        made = await objects.create(maps, "short", body, Write("t", []))
        await deletion
        return str(made.obj["metadata"]["name"])

    inside.api.create(CORE, {"metadata": {"name": "short"}})
    assert inside.do(race()) == "late"
    until(lambda: inside.api.get(f"{CORE}/short").code == 404)


@given(st.lists(st.integers(0, 12), max_size=40), st.integers(1, 20))
def test_what_is_kept_is_bounded_by_its_size(sizes: list[int], limit: int) -> None:
    recent: Recent[int] = Recent(limit)
    for number, size in enumerate(sizes):
        recent.put(number, size, size)
        assert recent.get(number) == size
        kept = [each for index in range(number + 1) if (each := recent.get(index)) is not None]
        assert sum(kept) == recent.size <= max(limit, size)
        assert len(kept) == len(recent)


def test_lines_are_kept_by_size() -> None:
    """Of large objects few, so that a thousand of them are not in memory twice."""
    lines = Lines()
    maps = Registry().find("", "v1", "configmaps")
    assert maps is not None
    data = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"%s"}}' % (b"x" * 100_000)
    for revision in range(1, 41):
        entry = Entry(Key("configmaps", "n", "a"), revision, 1, data)
        line = lines.line("MODIFIED", maps, entry, Form(), False, revision)
        assert lines.line("MODIFIED", maps, entry, Form(), False, revision) is line
    assert 100_000 < lines._lines.size <= CACHED


def test_a_body_that_is_too_large(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before it is sent where its length is said, else as soon as it is too long."""
    monkeypatch.setattr(server, "STOP_WITHIN", 0.2)  # it waits for the rest of the body of what it refused
    with contextlib.closing(inside.api.connect()) as said:
        said.putrequest("POST", MAPS)
        said.putheader("Content-Length", str(server.MAX_REQUEST + 1))
        said.endheaders()
        assert said.getresponse().status == 413
    with contextlib.closing(inside.api.connect()) as chunked:
        chunked.putrequest("POST", MAPS)
        chunked.putheader("Transfer-Encoding", "chunked")
        chunked.endheaders()
        with contextlib.suppress(OSError):  # it need not take all of it
            for _ in range(4):
                chunked.send(b"100000\r\n" + b"x" * (1 << 20) + b"\r\n")
        assert chunked.getresponse().status == 413
