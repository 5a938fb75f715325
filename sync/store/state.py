"""The objects at one revision, in order. No I/O."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from sync.store.entry import Entry, Event, Key


class State:
    """Objects by key, with a sorted index for each resource, kept as objects come and go."""

    def __init__(self) -> None:
        self.objects: dict[Key, Entry] = {}
        self._keys: dict[str, list[Key]] = {}

    def load(self, objects: dict[Key, Entry]) -> None:
        """Take a whole state."""
        self.objects = objects
        self._keys = {}
        for key in objects:
            self._keys.setdefault(key.resource, []).append(key)
        for keys in self._keys.values():
            keys.sort()

    def apply(self, event: Event) -> None:
        """Go one event on."""
        entry = event.entry
        key = entry.key
        if event.type == "MODIFIED":
            self.objects[key] = entry
        elif event.type == "ADDED":
            self.objects[key] = entry
            insort(self._keys.setdefault(key.resource, []), key)
        else:
            del self.objects[key]
            keys = self._keys[key.resource]
            del keys[bisect_left(keys, key)]

    def of(self, resource: str) -> Iterator[Entry]:
        """The resource's objects, by (namespace, name)."""
        objects = self.objects
        return (objects[key] for key in self._keys.get(resource, ()))

    def page(
        self,
        resource: str,
        namespace: str,
        after: tuple[str, str] | None,
        limit: int,
        undone: Mapping[Key, Entry | None],
    ) -> tuple[list[Entry], int]:
        """At most `limit` (0: all) objects behind `after`, and how many follow; those in `undone` as they are there.

        Work is proportional to the page and to `undone`, not to the number of objects.
        """
        keys = self._keys.get(resource, [])
        first = Key(resource, namespace, "")
        end = Key(resource, namespace + "\0", "") if namespace else Key(resource + "\0", "", "")
        behind = max(first, Key(resource, *after)) if after else None
        low = bisect_right(keys, behind) if behind else bisect_left(keys, first)
        high = bisect_left(keys, end)
        objects = self.objects
        gone: set[Key] = set()
        back: list[Key] = []
        for key, entry in undone.items():
            if not (first <= key < end) or (behind is not None and key <= behind):
                continue
            if entry is None:
                if key in objects:
                    gone.add(key)
            elif key not in objects:
                back.append(key)
        total = max(0, high - low) - len(gone) + len(back)
        limit = limit or total
        picked: Iterable[Key] = islice(keys, low, min(high, low + limit + len(gone)))
        if gone or back:
            picked = sorted([*(key for key in picked if key not in gone), *sorted(back)[:limit]])[:limit]
        entries = [undone.get(key) or objects[key] for key in picked]
        return entries, total - len(entries)
