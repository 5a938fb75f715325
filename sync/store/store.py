"""The store's face, on an asyncio loop: reads from memory, writes through the log, watches."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from sys import intern
from typing import NamedTuple

from sync.store.commit import Commits
from sync.store.compaction import Compaction
from sync.store.entry import Ahead, Change, Closed, Entry, Event, Expired, Key, Page
from sync.store.history import History
from sync.store.log import Log
from sync.store.state import State
from sync.store.watch import Caps, Watch, Watches


class Status(NamedTuple):
    """For `status`: how large, how far back, how well."""

    revision: int
    compacted: int
    objects: int
    events: int
    event_bytes: int
    watches: int
    watches_expired: int
    file_bytes: int
    """Of the file and its write-ahead log."""
    fault: str
    """Why it can't write, or empty."""


class Store:
    """Objects and their revisions in one file, for one process. All methods on the loop's thread."""

    def __init__(
        self,
        path: Path,
        *,
        keep: int = 10_000,
        keep_bytes: int = 64 << 20,
        keep_seconds: float = 3600,
        watch_events: int = 10_000,
        watch_bytes: int = 16 << 20,
    ) -> None:
        """`keep`, `keep_bytes` and `keep_seconds` bound the history, `watch_…` what waits for one watcher."""
        self.path = path
        self.revision = 1
        """The last durable one."""
        self._given = 1  # the last one that a write got
        self._log = Log(path)
        self._state = State()
        self._history = History(keep, keep_bytes)
        self._compaction = Compaction(self._history, keep_seconds)
        self._watches = Watches(Caps(watch_events, watch_bytes), lambda: self.revision)
        self._pending: dict[Key, Event] = {}
        """The newest write of each key that is not durable yet."""
        self._opened = False
        self._commits: Commits | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Open the file, or make it (mode 0600); read it. Once. Raises StoreFault: then the file is as it was."""
        if self._opened:
            raise RuntimeError("a store is opened once: make another for the same file")
        self._opened = True
        commits = Commits(self._log, self._history, self._compaction, self._landed, self._failed)
        try:
            await commits.call(self._load)
        except BaseException:
            await commits.close()
            raise
        self._commits = commits
        self._compaction.aged(asyncio.get_running_loop().time(), self.revision)  # what is in the file is new from here
        self._later()

    async def close(self) -> None:
        """Finish the writes; watches end with Closed."""
        commits, self._commits = self._commits, None
        if commits is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        await commits.close()
        self._watches.end(Closed(f"the store {self.path} was closed"))

    @property
    def compacted(self) -> int:
        """The oldest revision that can be watched from, or listed at."""
        return self._history.compacted

    def get(self, key: Key) -> Entry | None:
        """The object's durable state."""
        return self._state.objects.get(key)

    def list(
        self,
        resource: str,
        namespace: str = "",
        *,
        at: int = 0,
        after: tuple[str, str] | None = None,
        limit: int = 0,
    ) -> Page:
        """Objects by (namespace, name), as they were `at` a revision (0: now), at most `limit` behind `after`.

        Raises Expired when that is compacted, Ahead when it was not reached.
        """
        revision = at or self.revision
        self._check(revision)
        undone = self._history.undo(resource, revision) if revision < self.revision else {}
        entries, remaining = self._state.page(resource, namespace, after, limit, undone)
        return Page(entries, revision, remaining)

    def heads(self, resource: str) -> Iterable[Entry]:
        """The newest state, with writes that are not durable yet, in no order: for admission."""
        pending = {key: event for key, event in self._pending.items() if key.resource == resource}
        if not pending:
            return self._state.of(resource)
        entries = [entry for entry in self._state.of(resource) if entry.key not in pending]
        return entries + [event.entry for event in pending.values() if event.type != "DELETED"]

    async def write(self, key: Key, change: Callable[[Entry | None, int], Change | None]) -> Entry | None:
        """Put what `change(head, revision)` gives, and return it once it is durable.

        `change` is called at once, with the newest state and the revision that this write will have. It returns None
        to leave all as it is (`head` comes back, once durable), or raises, which is passed on. Raises StoreFault when
        it could not be written. A writer that is cancelled does not take back its write.
        """
        commits = self._commits
        if commits is None:
            raise Closed(f"the store {self.path} is not open")
        before = self._pending.get(key)
        head = self._state.objects.get(key) if before is None else None if before.type == "DELETED" else before.entry
        revision = self._given + 1
        put = change(head, revision)
        if put is None:
            if before is not None:
                await commits.durable(before.revision)
            return head
        if head is None:
            if put.deleted:
                raise ValueError(f"{key} is to be deleted, and there is none: let `change` return None")
            entry = Entry(Key(intern(key.resource), intern(key.namespace), key.name), revision, revision, put.data)
            event = Event(revision, "ADDED", entry, None)
        else:
            entry = Entry(head.key, revision, head.created, put.data)
            event = Event(revision, "DELETED" if put.deleted else "MODIFIED", entry, head)
        self._given = revision
        self._pending[entry.key] = event
        await commits.landing(commits.add(event))
        return entry

    def watch(self, resource: str, namespace: str = "", name: str = "", *, since: int) -> Watch:
        """Events after revision `since`, of a resource, a namespace in it, or of objects of that name.

        Raises Expired when `since` is compacted, Ahead when it was not reached. The caller closes it.
        """
        if self._commits is None:
            raise Closed(f"the store {self.path} is not open")
        self._check(since)
        return self._watches.open(Key(resource, namespace, name), since, self._history.since(since))

    async def compact(self, to: int) -> None:
        """Forget the history up to revision `to`, on disk too. Done without asking as events get many, or old."""
        if self._commits is None:
            raise Closed(f"the store {self.path} is not open")
        if to > self.revision:
            raise Ahead(f"revision {to} was not reached, {self.revision} is the newest")
        self._compaction.forget(to)
        await self._commits.sweep()

    def status(self) -> Status:
        """Figures for the operator."""
        sizes = [file.stat().st_size for file in (self.path, self._log.wal) if file.exists()]
        return Status(
            self.revision,
            self.compacted,
            len(self._state.objects),
            len(self._history),
            self._history.bytes,
            len(self._watches),
            self._watches.expired,
            sum(sizes),
            self._commits.fault if self._commits else "closed",
        )

    def _check(self, revision: int) -> None:
        if revision < self.compacted:
            raise Expired(f"revision {revision} is compacted, the oldest is {self.compacted}")
        if revision > self.revision:
            raise Ahead(f"revision {revision} was not reached, {self.revision} is the newest")

    def _load(self) -> None:
        """In the thread: the state and the history, from the log."""
        log, history = self._log, self._history
        log.open()
        history.compacted = log.compacted
        objects: dict[Key, Entry] = {}
        for row in log.rows():
            key = Key(intern(row.resource), intern(row.namespace), row.name)
            previous = objects.get(key)
            entry = Entry(previous.key if previous else key, row.revision, row.created, row.data)
            if row.deleted:
                objects.pop(key, None)
            else:
                objects[entry.key] = entry
            if row.revision > log.compacted:
                kind = "DELETED" if row.deleted else "MODIFIED" if previous else "ADDED"
                history.append(Event(row.revision, kind, entry, previous))
                self._compaction.rows.extend(history.trim())
            else:
                # left over by a tidying that did not come to its end
                if previous is not None:
                    self._compaction.rows.append(previous.revision)
                if row.deleted:
                    self._compaction.rows.append(row.revision)
        self._state.load(objects)
        self.revision = self._given = max(log.last, 1)

    def _landed(self, events: Sequence[Event]) -> None:
        """A batch is durable: all see it at once."""
        before = self.revision
        for event in events:
            self._state.apply(event)
            self._history.append(event)
            if self._pending[event.entry.key] is event:
                del self._pending[event.entry.key]
        self.revision = events[-1].revision
        self._watches.tell(events)
        self._compaction.grown(asyncio.get_running_loop().time(), before)
        self._later()

    def _failed(self) -> None:
        """A commit failed: what is durable is the newest again, and its revisions are never given again."""
        self._pending.clear()

    def _later(self) -> None:
        """Have `_aged` called when events get too old; an idle store has no timer."""
        deadline = self._compaction.deadline
        if self._timer is None and deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._aged)

    def _aged(self) -> None:
        self._timer = None
        if self._commits is not None:
            self._compaction.aged(asyncio.get_running_loop().time(), self.revision)
            if self._compaction.rows or self._log.compacted != self.compacted:
                self._commits.tidy(to_the_end=True)
            self._later()
