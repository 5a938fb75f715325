"""`kill -9` of the API amid writes, twenty times, by HTTPS: what clients were told stays true.

No acknowledged write is lost, no revision is given twice, and watches that resume miss nothing and get nothing twice.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from bench import apiserver
from tests.sync.api.apis import JSON, Api, running_embedded, start_embedded

ROUNDS = 20
WRITERS, WATCHERS, NAMES = 4, 3, 8
CAUGHT_UP_WITHIN = 20.0
MAPS = "/api/v1/namespaces/default/configmaps"
TROUBLE = (OSError, http.client.HTTPException, ValueError)
"""What a client sees of a server that is killed: resets, half an answer, half a line."""


class Told(NamedTuple):
    """An acknowledged write, or an event; the revision of an acknowledged deletion is not told: 0."""

    revision: int
    type: str
    uid: str
    token: str


def told(type: str, obj: Any) -> Told:
    metadata = obj["metadata"]
    token = obj.get("data", {}).get("token", "")
    return Told(int(metadata["resourceVersion"]), type, metadata["uid"], token)


class Writer(threading.Thread):
    """Creates, changes and deletes config maps of its own."""

    def __init__(self, api: Api, number: int, stopped: threading.Event) -> None:
        super().__init__()
        self._api, self._number, self._stopped = api, number, stopped
        self._random = Random(number)
        self.acknowledged: list[Told] = []

    def run(self) -> None:
        connection, count = self._api.connect(timeout=5), 0
        while not self._stopped.is_set():
            count += 1
            try:
                self._write(connection, f"{self._number}-{count}")
            except TROUBLE:
                connection.close()
                time.sleep(0.02)
        connection.close()

    def _write(self, connection: http.client.HTTPSConnection, token: str) -> None:
        name = f"w{self._number}-{self._random.randrange(NAMES)}"
        body = {"metadata": {"name": name}, "data": {"token": token, "more": "x" * self._random.randrange(3000)}}
        reply = self._api.request("POST", MAPS, body, connection=connection)
        if reply.code == 201:
            self.acknowledged.append(told("ADDED", reply.object))
        elif self._random.random() < 0.6:
            headers = {"Content-Type": "application/merge-patch+json"}
            reply = self._api.request("PATCH", f"{MAPS}/{name}", {"data": {"token": token}}, headers, connection)
            if reply.code == 200:
                self.acknowledged.append(told("MODIFIED", reply.object))
        else:
            reply = self._api.request("DELETE", f"{MAPS}/{name}", connection=connection)
            if reply.code == 200:
                self.acknowledged.append(Told(0, "DELETED", reply.object["details"]["uid"], ""))


class Watcher(threading.Thread):
    """Follows from a revision on, over as many connections as it takes."""

    def __init__(self, api: Api, since: int, stopped: threading.Event) -> None:
        super().__init__()
        self._api, self.since, self._stopped = api, since, stopped
        self.events: list[Told] = []
        self.refused: list[Any] = []

    def run(self) -> None:
        while not self._stopped.is_set():
            connection = self._api.connect(timeout=1)
            try:
                self._follow(connection)
            except TROUBLE:
                time.sleep(0.02)
            finally:
                connection.close()

    def _follow(self, connection: http.client.HTTPSConnection) -> None:
        query = f"watch=1&allowWatchBookmarks=true&resourceVersion={self.since}"
        connection.request("GET", f"{MAPS}?{query}", headers={"Accept": JSON})
        answer = connection.getresponse()
        if answer.status != 200:
            self.refused.append(answer.read())
            return
        while line := answer.readline():
            event = json.loads(line)
            if event["type"] == "ERROR":
                self.refused.append(event)
                return
            self.since = int(event["object"]["metadata"]["resourceVersion"])
            if event["type"] != "BOOKMARK":
                self.events.append(told(event["type"], event["object"]))


@pytest.mark.timeout(150)
def test_kill_9_amid_writes(tmp_path: Path) -> None:
    with running_embedded(tmp_path / "api") as api:
        port = api.url.rpartition(":")[2]
        since = int(api.get(MAPS).object["metadata"]["resourceVersion"])
        writing, watching = threading.Event(), threading.Event()
        writers = [Writer(api, number, writing) for number in range(WRITERS)]
        watchers = [Watcher(api, since, watching) for _ in range(WATCHERS)]
        random, pid = Random(9), api.pid
        processes = []
        try:
            for thread in (*writers, *watchers):
                thread.start()
            for _ in range(ROUNDS):
                before = sum(len(each.acknowledged) for each in writers)
                deadline = time.monotonic() + 10
                while sum(len(each.acknowledged) for each in writers) < before + 20:
                    assert time.monotonic() < deadline, "nothing is written"
                    time.sleep(0.005)
                time.sleep(random.random() * 0.05)
                os.kill(pid, signal.SIGKILL)
                process, _ = start_embedded(api.folder, "--port", port)
                processes.append(process)
                pid = process.pid
            writing.set()
            for writer in writers:
                writer.join()
            api.close()
            last = told("ADDED", api.create(MAPS, {"metadata": {"name": "last"}})).revision
            found = api.get(MAPS).object
            deadline = time.monotonic() + CAUGHT_UP_WITHIN
            while any(each.since < last for each in watchers):
                assert time.monotonic() < deadline, "a watch does not go on"
                time.sleep(0.01)
        finally:
            writing.set()
            watching.set()
            for thread in (*writers, *watchers):
                thread.join()
            for process in processes:
                apiserver.end(process)
    check(writers, watchers, found["items"], last)


def check(writers: list[Writer], watchers: list[Watcher], items: list[Any], last: int) -> None:
    acknowledged = [each for writer in writers for each in writer.acknowledged]
    assert len(acknowledged) > ROUNDS * 20
    revisions = [each.revision for each in acknowledged if each.revision]
    assert len(revisions) == len(set(revisions)), "a revision was given twice"
    histories = [[event for event in watcher.events if event.revision <= last] for watcher in watchers]
    for watcher, events in zip(watchers, histories, strict=True):
        assert watcher.refused == []
        numbers = [event.revision for event in events]
        assert numbers == sorted(set(numbers)), "a watch got something twice, or out of order"
        assert events == histories[0], "a watch missed something"
    seen = set(histories[0])
    gone = {event.uid for event in histories[0] if event.type == "DELETED"}
    for each in acknowledged:
        assert each.uid in gone if each.type == "DELETED" else each in seen, f"an acknowledged write is lost: {each}"
    state = {event.uid: event for event in histories[0]}
    left = {uid: event.revision for uid, event in state.items() if event.type != "DELETED"}
    known = {each["metadata"]["uid"]: int(each["metadata"]["resourceVersion"]) for each in items}
    known = {uid: revision for uid, revision in known.items() if uid in state}
    assert left == known
