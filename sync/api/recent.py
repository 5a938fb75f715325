"""What was made last and may be asked for again, up to a size in bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key, of at most `limit` bytes (or one): all are forgotten when there are more."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._values: dict[Hashable, V] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        return self._values.get(key)

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value of `size` bytes, under a key that has none."""
        self.size += size
        if self.size > self._limit:
            self._values.clear()
            self.size = size
        self._values[key] = value
