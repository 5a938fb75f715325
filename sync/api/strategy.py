"""What of an object may be written by which endpoint: metadata's own rules, status apart from spec, generation."""

from __future__ import annotations

from typing import Any

from sync.api.registry import ResourceType


class Strategy:
    def __init__(self, type: ResourceType) -> None:
        self.type = type

    def prepare_create(self, obj: dict[str, Any]) -> None:
        """In place, after prune_and_default: what a client may not set is taken away (status where it is a subresource,
        metadata that is the server's), generation set. uid, creationTimestamp, name and namespace are the caller's."""
        raise NotImplementedError

    def prepare_update(self, obj: dict[str, Any], old: dict[str, Any], subresource: str = "") -> None:
        """In place: what this endpoint may not write is taken from `old`; generation rises when the spec changes."""
        raise NotImplementedError


def strategy(type: ResourceType) -> Strategy:
    raise NotImplementedError
