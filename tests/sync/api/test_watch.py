"""Watches, on both APIs."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

from tests.sync.api.apis import Api

CORE = "/api/v1/namespaces"


def said(event: Any) -> tuple[str, str]:
    return event["type"], event["object"]["metadata"]["name"]


def maps(api: Api) -> str:
    return f"{CORE}/{api.namespace()}/configmaps"


def settled(api: Api, path: str) -> str:
    """A revision from which on nothing but the test's own happens."""
    if not api.embedded:
        time.sleep(0.3)
    return str(api.get(path).object["metadata"]["resourceVersion"])


def test_from_a_revision_on(api: Api) -> None:
    path = maps(api)
    since = settled(api, path)
    api.create(path, {"metadata": {"name": "a"}})
    with api.watch(f"{path}?watch=true&resourceVersion={since}") as events:
        assert said(next(events)) == ("ADDED", "a")
        api.patch(f"{path}/a", {"data": {"k": "v"}})
        changed = next(events)
        assert (said(changed), changed["object"]["data"]) == (("MODIFIED", "a"), {"k": "v"})
        assert changed["object"]["kind"] == "ConfigMap"
        api.request("DELETE", f"{path}/a")
        gone = next(events)
        assert said(gone) == ("DELETED", "a")
        assert int(gone["object"]["metadata"]["resourceVersion"]) > int(changed["object"]["metadata"]["resourceVersion"])


def test_without_a_revision_all_there_is_comes_first(api: Api) -> None:
    path = maps(api)
    api.create(path, {"metadata": {"name": "a"}})
    with api.watch(f"{path}?watch=1&fieldSelector=metadata.name%3Da") as events:
        assert said(next(events)) == ("ADDED", "a")


def test_a_streaming_list_ends_with_a_bookmark(api: Api) -> None:
    path = maps(api)
    api.create(path, {"metadata": {"name": "a", "labels": {"x": "1"}}})
    api.create(path, {"metadata": {"name": "b"}})
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=x"
    with api.watch(f"{path}?{query}") as events:
        first = next(events)
        if not api.embedded and first["type"] == "ERROR":  # its etcd is too old for it
            assert "RequestWatchProgress is disabled" in first["object"]["message"]
            return
        assert said(first) == ("ADDED", "a")
        mark = next(events)
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(mark["object"]["metadata"]["resourceVersion"]) > 1
        api.create(path, {"metadata": {"name": "c", "labels": {"x": "1"}}})
        assert said(next(events)) == ("ADDED", "c")


def test_what_begins_or_ceases_to_match(api: Api) -> None:
    path = maps(api)
    api.create(path, {"metadata": {"name": "a"}})
    since = settled(api, path)
    with api.watch(f"{path}?watch=1&labelSelector=x%3D1&resourceVersion={since}") as events:
        api.patch(f"{path}/a", {"metadata": {"labels": {"x": "1"}}})
        assert said(next(events)) == ("ADDED", "a")
        api.patch(f"{path}/a", {"data": {"k": "v"}})
        assert said(next(events)) == ("MODIFIED", "a")
        left = api.patch(f"{path}/a", {"metadata": {"labels": {"x": "2"}}}).object
        event = next(events)
        assert said(event) == ("DELETED", "a")
        metadata = event["object"]["metadata"]
        assert (metadata["labels"], metadata["resourceVersion"]) == ({"x": "1"}, left["metadata"]["resourceVersion"])


def test_a_watch_ends_after_its_time(api: Api) -> None:
    path = maps(api)
    since = settled(api, path)
    began = time.monotonic()
    with api.watch(f"{path}?watch=1&timeoutSeconds=1&resourceVersion={since}") as events:
        assert not [event for event in events if event["type"] != "BOOKMARK"]
    assert 0.5 < time.monotonic() - began < 5


def test_the_connection_goes_on_after_a_watch(embedded: Api) -> None:
    connection = embedded.connect()
    with contextlib.closing(connection):
        connection.request("GET", "/api/v1/nodes?watch=1&timeoutSeconds=1")
        assert connection.getresponse().read() == b""
        connection.request("GET", "/readyz")
        assert connection.getresponse().read() == b"ok"


def test_a_revision_that_is_not_there_is_gone(embedded: Api) -> None:
    with embedded.watch(f"/api/v1/nodes?watch=1&resourceVersion=99999999") as events:
        event = next(events)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert not list(events)


def test_metadata_alone(api: Api) -> None:
    path = maps(api)
    api.create(path, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    connection = api.connect()
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    with contextlib.closing(connection):
        connection.request("GET", f"{path}?watch=1&fieldSelector=metadata.name%3Da", headers={"Accept": accept})
        line = connection.getresponse().readline()
    assert b'"kind":"PartialObjectMetadata"' in line
    assert b'"data"' not in line


def test_a_client_that_goes_away_is_forgotten(embedded: Api) -> None:
    """No watch of its is left: a process's open files are those of before."""
    path = maps(embedded)

    def sockets() -> int:
        count = 0
        for name in os.listdir(f"/proc/{embedded.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                count += "socket" in os.readlink(f"/proc/{embedded.pid}/fd/{name}")
        return count

    embedded.get(path)
    before = sockets()
    for _ in range(5):
        with embedded.watch(f"{path}?watch=1&resourceVersion=0"):
            pass
    deadline = time.monotonic() + 5
    while sockets() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_client_that_does_not_read_is_cut_off_and_costs_little(embedded: Api) -> None:
    path = maps(embedded)
    embedded.create(path, {"metadata": {"name": "a"}})
    since = settled(embedded, path)

    def memory() -> int:
        with open(f"/proc/{embedded.pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))

    with contextlib.ExitStack() as stack:
        for _ in range(20):
            connection = embedded.connect()
            stack.callback(connection.close)
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.request("GET", f"{path}?watch=1&resourceVersion={since}")
        for index in range(60):
            embedded.patch(f"{path}/a", {"data": {"k": str(index) * 100_000}})
        before = memory()
        for index in range(60):
            embedded.patch(f"{path}/a", {"data": {"k": f"{index:02}" * 50_000}})
        assert memory() - before < 24 * 1024  # kB: the history's own, and no queue a watcher's
