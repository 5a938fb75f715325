"""The store against a naive model: a list of all events since the beginning, and watches that count along."""

import asyncio
import tempfile
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sync.store import Ahead, Change, Entry, Event, Expired, Key, Store, StoreFault, Watch
from tests.sync.store.stores import empty, fill

T = TypeVar("T")
WATCH_EVENTS = 12

resources = st.sampled_from(["pods", "nodes"])
namespaces = st.sampled_from(["a", "a-b", "b"])
names = st.sampled_from(["p", "q", "r", "s"])
keys = st.builds(Key, resources, namespaces, names)


def rarely(some: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Mostly any, which is the empty text."""
    return st.integers(0, 3).flatmap(lambda number: some if number == 0 else st.just(""))


class Write(NamedTuple):
    key: Key
    action: str
    """put, delete, leave or refuse."""


class Follower(NamedTuple):
    """A watch, and what it was given so far; `seen[0]` is where it began."""

    watch: Watch
    scope: Key
    seen: list[int]


writes = st.lists(
    st.builds(Write, keys, st.sampled_from(["put", "put", "put", "delete", "leave", "refuse"])), min_size=1, max_size=8
)


BIG = Write(Key("big", "", "b"), "put")


class Refused(Exception):
    pass


class Machine(RuleBasedStateMachine):
    """`self.events` is the truth: the store's answers are computed from it by going through all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.store = Store(Path(self.folder.name) / "db")
        self.events: list[Event] = []
        self.given = 1
        """The highest revision that any write was told."""
        self.compacted = 0
        self.followers: list[Follower] = []

    def do(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(what, 30))

    @initialize(keep=st.integers(1, 60))
    def begin(self, keep: int) -> None:
        self.options = {"keep": keep, "watch_events": WATCH_EVENTS}
        self.store = Store(self.store.path, **self.options)
        self.do(self.store.open())

    def teardown(self) -> None:
        if self.store._opened:
            self.drain()
        self.do(self.store.close())
        self.loop.close()
        self.folder.cleanup()

    # what the model says

    @property
    def revision(self) -> int:
        return self.events[-1].revision if self.events else 1

    def state(self, at: int) -> dict[Key, Entry]:
        objects: dict[Key, Entry] = {}
        for event in self.events:
            if event.revision <= at:
                objects.pop(event.entry.key, None)
                if event.type != "DELETED":
                    objects[event.entry.key] = event.entry
        return objects

    # what is done

    def begin_write(self, write: Write, heads: dict[Key, Entry], made: list[Event]) -> Coroutine[Any, Any, Any]:
        def change(head: Entry | None, revision: int) -> Change | None:
            assert head == heads.get(write.key)
            assert revision > self.given
            if write.action == "refuse":
                raise Refused
            if write.action == "leave" or (write.action == "delete" and head is None):
                return None
            self.given = revision
            deleted = write.action == "delete"
            data = b"x" * 200_000 if write is BIG else f"{revision}".encode()
            entry = Entry(write.key, revision, head.created if head else revision, data)
            kind = "DELETED" if deleted else "MODIFIED" if head else "ADDED"
            made.append(Event(revision, kind, entry, head))
            heads.pop(write.key, None)
            if not deleted:
                heads[write.key] = entry
            return Change(entry.data, deleted)

        return self.store.write(write.key, change)

    async def write_all(self, wanted: list[Write], split: int, made: list[Event]) -> list[Any]:
        """Some in one commit, the others while it runs, in the next."""
        heads = self.state(self.revision)
        gate = threading.Event()
        append = self.store._log.append

        def wait(events: Sequence[Event]) -> None:
            assert gate.wait(30)
            append(events)

        self.store._log.append = wait  # type: ignore[method-assign]
        try:
            tasks: list[asyncio.Future[Any]] = []
            for number, write in enumerate(wanted):
                if number == split:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                tasks.append(asyncio.ensure_future(self.begin_write(write, heads, made)))
            await asyncio.sleep(0)
            for resource in ("pods", "nodes", "big"):
                known = {entry.key: entry for entry in self.store.heads(resource)}
                assert known == {key: entry for key, entry in heads.items() if key.resource == resource}
        finally:
            gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self.store._log.append = append  # type: ignore[method-assign]
        return results

    @rule(wanted=writes, split=st.integers(1, 8), drained=st.booleans())
    def write(self, wanted: list[Write], split: int, drained: bool) -> None:
        made: list[Event] = []
        results = self.do(self.write_all(wanted, split, made))
        self.events += made
        by_revision = {event.revision: event.entry for event in self.events}
        for write, result in zip(wanted, results, strict=True):
            if write.action == "refuse":
                assert isinstance(result, Refused)
            elif result is not None:
                assert result == by_revision[result.revision]
                assert result.key == write.key
        if drained:
            self.drain()

    @rule(wanted=writes, split=st.integers(1, 8))
    def fail(self, wanted: list[Write], split: int) -> None:
        """The disk is full for the first of two commits: all fails that was computed upon either."""
        fill(self.store)
        made: list[Event] = []
        wanted = [BIG, *wanted]
        results = self.do(self.write_all(wanted, split, made))
        empty(self.store)
        touched: set[Key] = set()
        for write, result in zip(wanted, results, strict=True):
            touched |= {write.key} if write.action == "put" else set()
            if write.action == "refuse":
                assert isinstance(result, Refused)
            elif write.key in touched:
                assert isinstance(result, StoreFault)
                assert "full" in str(result)
        assert sum(isinstance(result, StoreFault) for result in results) >= len(made)

    @rule()
    def reopen(self) -> None:
        self.do(self.store.close())
        for follower in self.followers:
            follower.watch.close()
        resumed = [follower for follower in self.followers if follower.seen[-1] >= self.store.compacted]
        self.store = Store(self.store.path, **self.options)
        self.do(self.store.open())
        self.compacted = 0  # the file may reach further back than memory did
        self.followers = [
            Follower(self.store.watch(*each.scope, since=each.seen[-1]), each.scope, each.seen) for each in resumed
        ]
        self.given = self.store.revision

    @rule(back=st.integers(0, 20))
    def compact(self, back: int) -> None:
        self.do(self.store.compact(max(0, self.revision - back)))

    @rule(resource=resources, namespace=rarely(namespaces), name=rarely(names), back=st.integers(-1, 30))
    def follow(self, resource: str, namespace: str, name: str, back: int) -> None:
        since = max(0, self.revision - back)
        if since > self.revision:
            with pytest.raises(Ahead):
                self.store.watch(resource, namespace, name, since=since)
        elif since < self.store.compacted:
            with pytest.raises(Expired):
                self.store.watch(resource, namespace, name, since=since)
        elif len(self.followers) < 6:
            watch = self.store.watch(resource, namespace, name, since=since)
            self.followers.append(Follower(watch, watch.scope, [since]))

    @rule()
    def drain(self) -> None:
        """All watches were told all, in order, once; but those that had too much waiting."""
        kept: list[Follower] = []
        for follower in self.followers:
            watch, scope, seen = follower
            wanted = [
                event
                for event in self.events
                if event.revision > seen[-1]
                and event.entry.key.resource == scope.resource
                and scope.namespace in ("", event.entry.key.namespace)
                and scope.name in ("", event.entry.key.name)
            ]
            if not wanted:
                assert watch.progress() == self.revision
            else:
                assert watch.progress() <= wanted[0].revision - 1 or isinstance(watch.ended, Expired)
                try:
                    got = self.do(watch.next())
                except Expired:
                    assert len(wanted) > WATCH_EVENTS
                    continue
                assert got == wanted
                assert watch.progress() == self.revision
            seen.append(self.revision)
            kept.append(follower)
        self.followers = kept

    @rule(
        resource=resources,
        namespace=namespaces | st.just(""),
        back=st.integers(0, 30),
        limit=st.integers(0, 4),
    )
    def list(self, resource: str, namespace: str, back: int, limit: int) -> None:
        at = max(1, self.revision - back)
        if at < self.store.compacted:
            with pytest.raises(Expired):
                self.store.list(resource, namespace, at=at)
            return
        wanted = [
            entry
            for key, entry in sorted(self.state(at).items())
            if key.resource == resource and namespace in ("", key.namespace)
        ]
        page = self.store.list(resource, namespace, at=at, limit=limit)
        found = page.entries
        while page.remaining:
            assert len(page.entries) == limit
            page = self.store.list(resource, namespace, at=at, after=found[-1].key[1:], limit=limit)
            assert page.revision == at
            found = found + page.entries
        assert found == wanted

    @invariant()
    def agrees(self) -> None:
        if not self.store._opened:
            return
        assert self.store.revision == self.revision
        assert self.compacted <= self.store.compacted <= self.revision
        self.compacted = self.store.compacted
        objects = self.state(self.revision)
        assert self.store.status().objects == len(objects)
        for resource in ("pods", "nodes"):
            wanted = [entry for key, entry in sorted(objects.items()) if key.resource == resource]
            assert self.store.list(resource).entries == wanted == [*self.store.heads(resource)]
            assert all(self.store.get(entry.key) == entry for entry in wanted)


Machine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
