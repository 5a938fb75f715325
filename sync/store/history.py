"""The last events: for watches that begin in the past, and for lists of the past. No I/O."""

from collections import deque
from collections.abc import Iterator
from itertools import takewhile

from sync.store.entry import Entry, Event, Key


class History:
    """A window of events, ascending: all those after `compacted`."""

    def __init__(self, keep: int, keep_bytes: int) -> None:
        self.keep = keep
        self.keep_bytes = keep_bytes
        self.compacted = 0
        self.bytes = 0
        """Of the events' data, their previous states included (most of those count twice: it is a bound)."""
        self._events: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> None:
        """The newest event."""
        self._events.append(event)
        self.bytes += _size(event)

    def since(self, revision: int) -> Iterator[Event]:
        """Events after `revision`, the newest first."""
        return takewhile(lambda event: event.revision > revision, reversed(self._events))

    def undo(self, resource: str, revision: int) -> dict[Key, Entry | None]:
        """What the resource's objects that changed since were at `revision`; None: there was none."""
        return {
            event.entry.key: event.previous for event in self.since(revision) if event.entry.key.resource == resource
        }

    def trim(self, to: int = 0) -> list[int]:
        """Forget events up to revision `to`, and what is beyond the caps; gives the log's rows that nobody needs now.

        An event that is forgotten leaves behind the row before it, and its own if it was a deletion.
        """
        rows: list[int] = []
        events = self._events
        while events and (events[0].revision <= to or len(events) > self.keep or self.bytes > self.keep_bytes):
            event = events.popleft()
            self.bytes -= _size(event)
            self.compacted = event.revision
            if event.previous is not None:
                rows.append(event.previous.revision)
            if event.type == "DELETED":
                rows.append(event.revision)
        self.compacted = max(self.compacted, to)
        return rows


def _size(event: Event) -> int:
    return len(event.entry.data) + (len(event.previous.data) if event.previous else 0)
