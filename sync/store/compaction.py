"""When events are forgotten: by count and size as new ones come, by age as time goes. No I/O.

Ages are told by marks, "at this time the revision was that", sixteen in the time that events are kept; the file knows
no time, so that after a start all events are new again.
"""

from collections import deque
from typing import NamedTuple

from sync.store.history import History


class Mark(NamedTuple):
    """At `time` (s) the store was at `revision`."""

    time: float
    revision: int


class Compaction:
    """The history's end, and the log's rows that are to be deleted, superseded ones before those that supersede.

    In that order they may be deleted in portions: a deletion's row goes after the object's, which else came back.
    """

    def __init__(self, history: History, seconds: float) -> None:
        self.rows: deque[int] = deque()
        self._history = history
        self._seconds = seconds
        self._marks: deque[Mark] = deque()

    def grown(self, now: float, before: int) -> None:
        """The history has new events, all after revision `before`."""
        self.rows.extend(self._history.trim())
        self._mark(now, before)

    def aged(self, now: float, revision: int) -> None:
        """Forget what is too old. The store is at `revision`."""
        to = 0
        while self._marks and self._marks[0].time + self._seconds <= now:
            to = self._marks.popleft().revision
        self.forget(to)
        self._mark(now, revision)

    def forget(self, to: int) -> None:
        """Forget events up to revision `to`."""
        self.rows.extend(self._history.trim(to))

    @property
    def deadline(self) -> float | None:
        """When to call `aged`; None while there is nothing that could be forgotten."""
        return self._marks[0].time + self._seconds if self._marks and len(self._history) else None

    def _mark(self, now: float, revision: int) -> None:
        if not self._marks or (
            now >= self._marks[-1].time + self._seconds / 16 and revision > self._marks[-1].revision
        ):
            self._marks.append(Mark(now, revision))
