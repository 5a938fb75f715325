"""A directory of manifests as a source of objects, followed as its files change.

Read are the files `*.yaml`, `*.yml` and `*.json` of the directory itself: several documents a file, and lists
(`kind: List`). Only a file that changed is read again; one that is as it was when a snapshot was taken isn't either.

Invariants: nothing is lost by a mistake. A faulty file keeps the objects it had, with those that are good in it now;
a directory that goes away, or a file that is empty, keeps all of them; a file that vanishes has `GRACE` to come back
(editors save by renaming the old one away first). An object in two files is taken from the first by name, and the
other is told so. Each mistake is logged once.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from sync.client import document
from sync.client.inotify import Event, Watch
from sync.client.manifest import Problem, locate, parse
from sync.resources.kinds import Key, Resource

GRACE = 0.2
"""Seconds that a vanished file's objects are kept."""
RETRY = 1.0
"""Seconds between looks at a directory that isn't there or can't be watched."""
BATCH = 64
"""Files read before what they hold is given out: 64 are about 10 ms."""

_SUFFIXES = (".yaml", ".yml", ".json")

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int]
"""Modification and change time (ns), size, inode: as long as they are the same the file is."""
UNREAD: Stamp = (0, 0, 0, 0)
"""Stamp of a file to be read again at the next start, since there is something wrong with it."""


class FileState(msgspec.Struct, frozen=True, gc=False):
    """What a file held when it was last read."""

    stamp: Stamp
    objects: tuple[Resource, ...]


class Changes(NamedTuple):
    """Objects that are new or other than before, and the keys of those that are gone."""

    changed: list[Resource]
    gone: list[Key]


class Manifests:
    """The directory. Iterate over it for `Changes`: the first are all differences to `known`, perhaps none.

    `known` is what `files` was when a snapshot was taken. `service_range` is where cluster IPs must be (CIDR text).
    """

    def __init__(
        self, directory: str | Path, *, known: Mapping[str, FileState] | None = None, service_range: str = ""
    ) -> None:
        self.directory = str(directory)
        self.files: dict[str, FileState] = dict(known or {})
        self._service_range = service_range
        self._mistakes: dict[str, list[Problem]] = {}
        self._clashes: dict[str, dict[Key, Problem]] = {}
        self._holders: dict[Key, tuple[str, ...]] = {}
        for name, state in sorted(self.files.items()):
            for resource in state.objects:
                self._holders[resource.key] = (*self._holders.get(resource.key, ()), name)
        self._waiting: list[str] = []  # files still to be read, sorted
        self._vanished: dict[str, float] = {}  # files that went, with the time they are taken to be gone for good
        self._watch: Watch | None = None
        self._started = False
        self._trouble = ""

    @property
    def problems(self) -> dict[str, list[Problem]]:
        """What is wrong at present, by file; under "" what is wrong with the directory itself."""
        found: dict[str, list[Problem]] = {}
        if self._trouble:
            found[""] = [Problem(self.directory, 0, "", self._trouble, "what was last read there is still used")]
        for name in sorted({*self._mistakes, *self._clashes}):
            found[name] = [*self._mistakes.get(name, ()), *self._clashes.get(name, {}).values()]
        return found

    def __aiter__(self) -> Manifests:
        return self

    async def __anext__(self) -> Changes:
        """Wait for the next changes. Cancelling it loses nothing."""
        while True:
            changes = Changes([], [])
            if self._started:
                document.prepare()
            else:
                self._started = True
                self._begin(afresh=True)
                self._take(self._waiting, changes)
                self._expire(float("inf"), changes)
                return changes
            if self._waiting:
                await trio.lowlevel.checkpoint()
                self._take(self._waiting[:BATCH], changes)
            else:
                event = await self._wait()
                if self._watch is None or event.lost:
                    self._begin(afresh=True)
                elif event.all:
                    self._begin(afresh=False)
                else:
                    self._note(event.names | {name for name in event.made if self._linked(name)})
                self._expire(trio.current_time(), changes)
            if changes.changed or changes.gone:
                return changes

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    async def _wait(self) -> Event:
        """The next event, or an empty one when it is time to look again."""
        if self._watch is None:
            await trio.sleep(RETRY)
            return Event()
        deadline = min(self._vanished.values(), default=float("inf"))
        with trio.move_on_at(deadline):
            return await self._watch.next()
        return Event()

    def _begin(self, *, afresh: bool) -> None:
        """(Re-)watch the directory, and put down all files that differ from what is known. Watch first, then look.

        `afresh` says that the directory was not followed until now. If it is empty then, that is hardly meant: a
        volume is not mounted yet, or a node came back without its manifests.
        """
        self.close()
        trouble = ""
        try:
            self._watch = Watch(self.directory)
        except OSError as error:
            trouble = f"can't be watched ({error.strerror}), it is looked at every {RETRY:g} s"
        try:
            names = [name for name in os.listdir(self.directory) if _wanted(name)]
        except OSError as error:
            self._vanished.clear()  # its files went with it
            self._tell(f"can't be read: {error.strerror}")
            return
        if afresh and self.files and not names:
            self._vanished.clear()
            self._tell("has no manifests")
            return
        self._tell(trouble)
        self._note({*names, *self.files})

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.error("manifests: %s: %s", self.directory, trouble)
        elif self._trouble and not trouble:
            log.info("manifests: %s is there again", self.directory)
        self._trouble = trouble

    def _note(self, names: Iterable[str]) -> None:
        """Put down which of `names` must be read, and which have vanished."""
        waiting = set(self._waiting)
        for name in names:
            if not _wanted(name):
                continue
            stamp = self._stamp(name)
            if stamp is not None:
                self._vanished.pop(name, None)
                if name not in self.files or stamp != self.files[name].stamp:
                    waiting.add(name)
            elif name in self.files or name in self._mistakes:
                self._vanished.setdefault(name, trio.current_time() + GRACE)
        self._waiting = sorted(waiting)

    def _linked(self, name: str) -> bool:
        """Whether a name is a link, complete as soon as it is made; a file is still to be written."""
        try:
            found = os.lstat(os.path.join(self.directory, name))
        except OSError:
            return False
        return stat.S_ISLNK(found.st_mode) or found.st_nlink > 1

    def _stamp(self, name: str) -> Stamp | None:
        try:
            found = os.stat(os.path.join(self.directory, name))
        except OSError:
            return None
        return _stamp(found) if stat.S_ISREG(found.st_mode) else None

    def _expire(self, now: float, changes: Changes) -> None:
        """Give up the files whose time to come back is over."""
        for name in [name for name, deadline in self._vanished.items() if deadline <= now]:
            del self._vanished[name]
            self._mistakes.pop(name, None)
            self._replace(name, None, changes)

    def _take(self, names: list[str], changes: Changes) -> None:
        """Read files and bring what they hold into effect."""
        for name in names:
            try:
                with open(os.path.join(self.directory, name), "rb") as file:
                    stamp = _stamp(os.fstat(file.fileno()))
                    text = file.read()
            except FileNotFoundError:
                self._note([name])
                continue
            except OSError as error:
                self._report(name, [Problem(name, 1, "", f"can't be read: {error.strerror}", "")])
                continue
            objects, problems = parse(name, text, self._service_range)
            if name in self.files:
                before = {resource.key: resource for resource in self.files[name].objects}
                # What is as it was stays the same object: others have it in their indexes.
                read = {item.key: item if item != (old := before.get(item.key)) else old for item in objects}
                objects = tuple((before | read if problems else read).values())
            self._report(name, problems)
            self._replace(name, FileState(UNREAD if problems else stamp, objects), changes)
        done = set(names)
        self._waiting = [name for name in self._waiting if name not in done]

    def _report(self, name: str, problems: list[Problem]) -> None:
        """Keep a file's problems, and log those that are new."""
        before = self._mistakes.pop(name, [])
        if problems:
            self._mistakes[name] = problems
        for problem in problems:
            if problem not in before:
                log.error("manifests: %s", problem)
        if before and not problems:
            log.info("manifests: %s is in order again", name)

    def _replace(self, name: str, state: FileState | None, changes: Changes) -> None:
        """Put a file's new state in place of its old one; what that changes is added to `changes`."""
        old = {resource.key: resource for resource in self.files[name].objects} if name in self.files else {}
        new = {resource.key: resource for resource in state.objects} if state else {}
        alone = (name,)
        for key in {**old, **new}:
            holders = self._holders.get(key, ())
            effective = old.get(key) if holders[:1] == alone else self._held(holders, key)
            if key in new:
                after = alone if holders in ((), alone) else tuple(sorted({*holders, name}))
                self._holders[key] = after
            elif after := tuple(holder for holder in holders if holder != name):
                self._holders[key] = after
            else:
                del self._holders[key]
            now = new.get(key) if after[:1] == alone else self._held(after, key)
            if now is None:
                changes.gone.append(key)
            elif now != effective:
                changes.changed.append(now)
            if len(after) > 1 or len(holders) > 1:
                self._settle(key, holders, after)
        if state is None:
            self.files.pop(name, None)
        else:
            self.files[name] = state

    def _held(self, holders: tuple[str, ...], key: Key) -> Resource | None:
        if not holders:
            return None
        return next((resource for resource in self.files[holders[0]].objects if resource.key == key), None)

    def _settle(self, key: Key, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        """Tell each file but the first that holds an object of another's."""
        for name in before:
            if self._clashes.get(name, {}).pop(key, None) and not self._clashes[name]:
                del self._clashes[name]
        for name in after[1:]:
            wrong = f"{key} is also in {after[0]}, which comes first by name and has it"
            problem = Problem(name, self._line(name, key), "metadata.name", wrong, "take it out of one of them")
            self._clashes.setdefault(name, {})[key] = problem
            if before != after:
                log.error("manifests: %s", problem)

    def _line(self, name: str, key: Key) -> int:
        """The line of an object's name in a file."""
        try:
            return locate(Path(self.directory, name).read_bytes(), key)
        except OSError:
            return 1


def _wanted(name: str) -> bool:
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
