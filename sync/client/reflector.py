"""List and watch of one kind, without I/O: what an API answers goes in, changes and the next request come out.

A list gives all objects, in pages, and a revision; a watch from there gives what changes, and after it was cut it
goes on from the last revision seen (bookmarks move that on while nothing changes). A revision that the API has no
longer (410) means a new list: what is not in it is gone. Where a request fails the next waits longer, with jitter; a
kind that the API does not have is looked for again later, and what was known of it stays. `_NEXT` is the state
machine.

An object that can't be used keeps what was known under its name, and is told in `problems`.

Source: kubernetes.io, "Kubernetes API Concepts" (efficient detection of changes, resource versions).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from random import Random
from typing import NamedTuple

from sync.client.manifests import Changes
from sync.client.wire import PAGE, Decoder, Event, Followed, Item, RubbishError
from sync.resources.kinds import Key

WATCH = (300.0, 600.0)
"""Seconds that a watch is asked to last, at random in between, so that not all end at once."""
STALL = 150.0
"""Seconds without an event or a bookmark (there is one a minute) until all is listed anew: a kube-apiserver whose store
was put back to an older copy takes a watch from a revision that is still to come, and says nothing."""
BACKOFF = (1.0, 30.0)
"""Seconds to wait after the first failure, and at most; each time twice as long, less up to half at random."""
PACE = 1.0
"""Seconds between two requests' beginnings, whatever the answers."""
STEADY = 5.0
"""Seconds that a watch must have lasted, or an event, for failures before it to be forgotten."""
ABSENT = 30.0
"""Seconds between looks for a kind that the API does not have."""
PATIENCE = 3
"""Failures of a watch in a row after which all is listed anew: its revision may be what the API can't take."""
PROBLEMS = 1000
"""Objects of which it is known what is wrong with them, at most."""


NOT_YET = "it has not answered yet"


class Phase(Enum):
    """What is asked for next."""

    LIST = auto()
    WATCH = auto()


class Outcome(Enum):
    """How a request went."""

    MORE = auto()  # a page, and there are more
    LISTED = auto()  # the last page
    ENDED = auto()  # the watch came to its end
    STALLED = auto()  # nothing came for too long
    EXPIRED = auto()  # the revision is not there any more
    ABSENT = auto()  # the API does not have the kind
    FAILED = auto()


class Delay(Enum):
    """How long the next request waits."""

    NONE = auto()
    PACE = auto()
    BACKOFF = auto()
    ABSENT = auto()


_NEXT: dict[tuple[Phase, Outcome], tuple[Phase, Delay]] = {
    (Phase.LIST, Outcome.MORE): (Phase.LIST, Delay.NONE),
    (Phase.LIST, Outcome.LISTED): (Phase.WATCH, Delay.NONE),
    (Phase.LIST, Outcome.EXPIRED): (Phase.LIST, Delay.PACE),
    (Phase.LIST, Outcome.ABSENT): (Phase.LIST, Delay.ABSENT),
    (Phase.LIST, Outcome.FAILED): (Phase.LIST, Delay.BACKOFF),
    (Phase.WATCH, Outcome.ENDED): (Phase.WATCH, Delay.PACE),
    (Phase.WATCH, Outcome.STALLED): (Phase.LIST, Delay.PACE),
    (Phase.WATCH, Outcome.EXPIRED): (Phase.LIST, Delay.PACE),
    (Phase.WATCH, Outcome.ABSENT): (Phase.LIST, Delay.ABSENT),
    (Phase.WATCH, Outcome.FAILED): (Phase.WATCH, Delay.BACKOFF),
}


class Request(NamedTuple):
    """What to ask: a page of the list, or a watch, which is given up when nothing came until `Reflector.deadline`."""

    watch: bool
    path: str
    query: dict[str, str]


class Reflector:
    """One kind. Ask for the `request` when `wake` has come, and say how it went; times are of a monotonic clock.

    `known` are keys known from before: those that are not in the first list are gone.
    """

    def __init__(
        self, followed: Followed, known: Iterable[Key], random: Random, now: float, *, service_range: str = ""
    ) -> None:
        self.followed = followed
        self.wake = now
        self.deadline = float("inf")
        self.phase = Phase.LIST
        self.synced = False
        """Whether there was a whole list."""
        self.answered = False
        """Whether it is known how the first attempt went, well or not."""
        self.reason = NOT_YET
        """Why it is not followed at present; empty while it is."""
        self.absent = False
        self.since = now
        """When `reason` last became empty or ceased to be."""
        self.problems: dict[Key, str] = {}
        self._decoder = Decoder(followed.kind, service_range)
        self._random = random
        self._keys = set(known)
        self._seen: set[Key] = set()
        self._revision = ""
        self._after = ""
        self._failures = 0
        self._in_watch = 0  # failures of watches in a row
        self._began = now
        self._opened: float | None = None
        self._heard = False  # whether this watch gave anything

    # what to ask

    def request(self, now: float) -> Request:
        """The next request, which is made now."""
        self._began, self._opened, self._heard = now, None, False
        self.wake = float("inf")
        selectors = (("fieldSelector", self.followed.selector), ("labelSelector", self.followed.labels))
        query = {name: selector for name, selector in selectors if selector}
        if self.phase is Phase.WATCH:
            query |= {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": self._revision,
                "timeoutSeconds": str(int(self._random.uniform(*WATCH))),
            }
        else:
            if not self._after:
                self._seen = set()
            query |= {"limit": str(PAGE)} | ({"continue": self._after} if self._after else {})
        return Request(self.phase is Phase.WATCH, self.followed.path, query)

    # how it went

    def page(self, body: bytes, now: float) -> Changes:
        """A list's answer."""
        changes = Changes([], [])
        try:
            page = self._decoder.page(body)
        except RubbishError as error:
            self.failed(str(error), now)
            return changes
        for item in page.items:
            self._seen.add(item.key)
            self._put(item, changes)
        self._after = page.after
        if page.after:
            self._step(Outcome.MORE, now)
            return changes
        changes.gone.extend(gone := self._keys - self._seen)
        self._keys -= gone
        self.problems = {key: text for key, text in self.problems.items() if key in self._seen}
        self._seen = set()
        self._revision = page.revision
        self.synced = self.answered = True
        if self.reason == NOT_YET:
            self._tell("", now)
        self._step(Outcome.LISTED, now)
        return changes

    def opened(self, now: float) -> None:
        """The head of a watch's answer came: all is well."""
        self._opened = now
        self.deadline = now + STALL
        self._tell("", now)

    def lines(self, lines: Iterable[bytes], now: float) -> Changes:
        """Lines of a watch. It is at its end when `deadline` is infinite afterwards."""
        changes = Changes([], [])
        for line in lines:
            try:
                event = self._decoder.event(line)
            except RubbishError as error:
                self.failed(str(error), now)
                return changes
            if event.type == "ERROR":
                self.refused(event.code, event.message or "the watch ended with an error", now)
                return changes
            self._event(event, changes)
        self._failures = self._in_watch = 0
        self._heard = True
        self.deadline = now + STALL
        return changes

    def ended(self, now: float) -> None:
        """The watch came to its end, as they all do."""
        if not self._heard and now - self._began < STEADY:
            self.failed("watches end at once", now)
        else:
            self._step(Outcome.ENDED, now)

    def stalled(self, now: float) -> None:
        """Nothing came until the deadline."""
        self._step(Outcome.STALLED, now)

    def refused(self, code: int, message: str, now: float, retry_after: float = 0.0) -> None:
        """The API said no: an HTTP status from 400 on."""
        self.answered = True
        if code == 410:
            self._step(Outcome.EXPIRED, now)
        elif code == 404:
            self.absent = True
            self._tell(f"the API does not have {self.followed.plural}", now)
            self._step(Outcome.ABSENT, now)
        else:
            self.failed(message, now, retry_after)

    def failed(self, why: str, now: float, retry_after: float = 0.0) -> None:
        """There was no answer, or none that is one."""
        self.answered = True
        if self._opened is not None and now - self._opened >= STEADY:
            self._failures = self._in_watch = 0
        self._failures += 1
        if self.phase is Phase.WATCH:
            self._in_watch += 1
        self.absent = False
        self._tell(why, now)
        self._step(Outcome.FAILED, now)
        if self._in_watch >= PATIENCE:
            self.phase, self._in_watch = Phase.LIST, 0
        self.wake = max(self.wake, now + retry_after)

    # inside

    def _step(self, outcome: Outcome, now: float) -> None:
        self.phase, delay = _NEXT[self.phase, outcome]
        self.deadline = float("inf")
        if outcome is not Outcome.MORE:
            self._after = ""
        if delay is Delay.NONE:
            self.wake = now
        elif delay is Delay.PACE:
            self.wake = max(now, self._began + PACE * self._random.uniform(0.5, 1.0))
        elif delay is Delay.ABSENT:
            self.wake = now + ABSENT * self._random.uniform(0.5, 1.0)
        else:
            first, most = BACKOFF
            self.wake = now + min(most, first * 2 ** min(self._failures - 1, 16)) * self._random.uniform(0.5, 1.0)

    def _tell(self, reason: str, now: float) -> None:
        if bool(reason) != bool(self.reason):
            self.since = now
        self.reason = reason
        if not reason:
            self.absent = False

    def _event(self, event: Event, changes: Changes) -> None:
        self._revision = event.revision
        if event.item is None:
            return
        if event.type != "DELETED":
            self._put(event.item, changes)
            return
        key = event.item.key
        self.problems.pop(key, None)
        if key in self._keys:
            self._keys.discard(key)
            _withdraw(key, changes)
            changes.gone.append(key)

    def _put(self, item: Item, changes: Changes) -> None:
        if item.resource is None:
            if item.key in self.problems or len(self.problems) < PROBLEMS:
                self.problems[item.key] = item.problem
            return
        self.problems.pop(item.key, None)
        self._keys.add(item.key)
        changes.changed.append(item.resource)
        if item.key in changes.gone:  # deleted and made again within one batch
            changes.gone.remove(item.key)


def _withdraw(key: Key, changes: Changes) -> None:
    """An object that goes is not changed: the two lists have no key in common."""
    changes.changed[:] = [resource for resource in changes.changed if resource.key != key]
