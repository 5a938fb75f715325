"""An API as a source of objects, with the face of a directory of manifests: many kinds, one stream of changes.

Each kind is followed by a task of its own; what they bring is gathered by key, the latest of each, and given out as
soon as somebody asks: a change waits for nobody. Once `QUEUE` objects wait, nothing more is read from the API until
they are taken.

The first batch is everything of all kinds that answered, with what of the known objects is gone. An API that can't
be reached takes nothing away, and `state` says since when and why; both are logged once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

import trio

from sync.client.connection import Api
from sync.client.manifests import Changes
from sync.client.reflector import NOT_YET, Reflector
from sync.client.watch import follow
from sync.client.wire import Followed
from sync.resources.kinds import DestinationRule, EndpointSlice, Key, MeshNode, Node, Resource, Service

QUEUE = 1000
"""Objects that wait to be taken, after the first batch."""
FIRST = 10.0
"""Seconds until the first batch is given without the kinds that have not answered yet."""

FOLLOWED = (
    Followed(Service, "services"),
    Followed(EndpointSlice, "endpointslices"),
    Followed(Node, "nodes"),
    Followed(MeshNode, "meshnodes"),
    Followed(DestinationRule, "destinationrules"),
)
"""What a node needs of the cluster. Pods are not among it: their addresses are in slices."""

log = logging.getLogger(__name__)


class KindState(NamedTuple):
    """How one kind stands; `reason` is empty where it is followed."""

    kind: str
    reason: str


class SourceState(NamedTuple):
    """How the API stands: whether all kinds that it has are followed, since when (Unix seconds), and why not."""

    reachable: bool
    since: float
    reason: str
    kinds: tuple[KindState, ...] = ()


class ApiObjects:
    """Run it as a task, and iterate over it for `Changes`.

    `known` are the keys of what a snapshot held: those the API has no more, and those of kinds that are not followed,
    are gone with the first batch.
    """

    def __init__(
        self,
        api: Api,
        known: Iterable[Key] = (),
        *,
        followed: Iterable[Followed] = FOLLOWED,
        service_range: str = "",
        random: Random | None = None,
    ) -> None:
        self._api = api
        self.name = api.access.server
        by_kind: dict[str, list[Key]] = {}
        for key in known:
            by_kind.setdefault(key.kind, []).append(key)
        now, random = trio.current_time(), random or Random()
        self._reflectors = [
            Reflector(each, by_kind.pop(each.kind.__name__, ()), random, now, service_range=service_range)
            for each in followed
        ]
        self._pending: dict[Key, Resource | None] = {key: None for keys in by_kind.values() for key in keys}
        self._news = trio.Event()
        self._room = trio.Event()
        self._answered = trio.Event()
        self._first = True
        self._told: dict[str, str] = {}
        self._state = SourceState(False, time.time(), NOT_YET)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with trio.open_nursery() as nursery:
            for reflector in self._reflectors:
                nursery.start_soon(follow, self._api, reflector, self._take)

    def __aiter__(self) -> ApiObjects:
        return self

    async def __anext__(self) -> Changes:
        """Wait for the next changes. Cancelling it loses nothing."""
        if self._first:
            with trio.move_on_after(FIRST):
                await self._answered.wait()
            self._first = False
        else:
            await self._news.wait()
        pending, self._pending = self._pending, {}
        self._news = trio.Event()
        self._room.set()
        changes = Changes([], [])
        for key, resource in pending.items():
            if resource is None:
                changes.gone.append(key)
            else:
                changes.changed.append(resource)
        return changes

    @property
    def problems(self) -> list[str]:
        """Objects that can't be used, and why: what was known of them before goes on being used."""
        return [f"{key}: {text}" for each in self._reflectors for key, text in each.problems.items()]

    def state(self) -> SourceState:
        """How the API stands now."""
        return self._state

    async def _take(self, changes: Changes) -> None:
        """Take in what a kind brought; returns when there is room for more."""
        for key in changes.gone:
            self._pending[key] = None
        for resource in changes.changed:
            self._pending[resource.key] = resource
        if self._pending:
            self._news.set()
        self._look()
        while not self._first and len(self._pending) >= QUEUE:
            self._room = trio.Event()
            await self._room.wait()

    def _look(self) -> None:
        """See how the kinds stand, and tell of what became otherwise."""
        if all(each.answered and (each.synced or each.reason) for each in self._reflectors):
            self._answered.set()
        present = [each for each in self._reflectors if not each.absent]
        failing = [each for each in present if each.reason]
        reasons = list(dict.fromkeys(each.reason for each in failing))
        kinds = tuple(KindState(each.followed.plural, each.reason) for each in self._reflectors)
        if len(reasons) > 1 or (failing and len(failing) < len(present)):
            reasons = [f"{each.followed.plural}: {each.reason}" for each in failing]
        reason = "; ".join(reasons)
        now = time.time()
        before, reachable = self._state, bool(present) and not failing
        since = before.since if before.reachable == reachable else now
        self._state = SourceState(reachable, since, reason or ("" if present else "it has none of our kinds"), kinds)
        if reachable and not before.reachable:
            log.info("%s: all kinds are followed, after %.1f s", self.name, now - before.since)
        # one failure takes the kinds down one by one: it is told once, by what happened
        why = "" if reachable else "; ".join(sorted({each.reason for each in failing if each.answered}))
        if why and why != self._told.get(""):
            log.warning("%s: %s: what is known goes on being used", self.name, why)
        self._told[""] = why
        for each in self._reflectors:
            kind = each.followed.plural
            absent = each.reason if each.absent else ""
            if absent and self._told.get(kind) != absent:
                log.warning("%s: %s: it is looked for again", self.name, absent)
            self._told[kind] = absent
