"""What comes round by the clock: the revoked, nodes' rights, tokens that ended, two machines with one identity."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import trio

from edgemesh import token
from edgemesh.authority import utc
from edgemesh.cloud import rights, setup
from edgemesh.cloud.state import State
from edgemesh.join import objects, record
from edgemesh.join.revocation import revoke
from edgemesh.lease import transitions
from edgemesh.names import SYSTEM_NAMESPACE
from sync.client.connection import Api, ApiStatus, ApiUnreachable, resource_path

REVOKE_EVERY = 1.0
"""Seconds: a deleted node is to be cut off everywhere within five."""
LEASES_EVERY = 5.0
TOKENS_EVERY = 600.0
MEMORY = 300.0
"""Seconds that a change of a lease's holder is remembered."""
CHANGES = 3
"""Changes within `MEMORY` that mean two machines; an agent that starts again is one."""

log = logging.getLogger("edgemesh.cloud")


class Clone(NamedTuple):
    """Two holders of one lease, as far as both were seen."""

    node: str
    holders: tuple[str, str]


class _Seen(NamedTuple):
    """What a lease said last; `other` is who had it before, empty while it was never another."""

    holder: str
    transitions: int
    other: str = ""


class Holders:
    """Who holds each node's lease, as far as it is seen; no I/O, times in seconds."""

    def __init__(self) -> None:
        self._last: dict[str, _Seen] = {}
        self._changes: dict[str, list[tuple[float, str]]] = {}
        self._taken: dict[str, list[float]] = {}

    def see(self, node: str, holder: str, now: float, transitions: int = 0) -> Clone | None:
        """Take in what a lease says; a clone once it has changed hands back and forth.

        Hands that change between two looks, and back, are counted by the agents: `transitions`.
        """
        before = self._last.get(node, _Seen(holder, transitions))
        other = before.other if before.holder == holder else before.holder
        self._last[node] = _Seen(holder, transitions, other)
        taken = [when for when in self._taken.get(node, ()) if now - when < MEMORY]
        taken += [now] * (transitions > before.transitions)
        self._taken[node] = taken
        if len(taken) >= CHANGES:
            return Clone(node, (other or "one not seen yet", holder))
        if before.holder == holder:
            return None
        changes = [each for each in self._changes.get(node, ()) if now - each[0] < MEMORY] + [(now, holder)]
        self._changes[node] = changes
        came_back = sum(1 for _, whose in changes if whose == holder)
        return Clone(node, (before.holder, holder)) if len(changes) >= CHANGES and came_back > 1 else None

    def forget(self, kept: set[str]) -> None:
        """Drop nodes without a lease."""
        for node in self._last.keys() - kept:
            for known in (self._last, self._changes, self._taken):
                known.pop(node, None)


class Housekeeping:
    """Run it as a task. `cut` gets all revoked serials whenever there are others than before."""

    def __init__(self, api: Api, state: State, cut: Callable[[frozenset[int]], None], *, embedded: bool) -> None:
        self._api = api
        self._state = state
        self._cut = cut
        self._embedded = embedded
        self._revoked: frozenset[int] | None = None
        self._with_rights: frozenset[str] | None = None
        self._holders = Holders()
        self._cloned: dict[str, float] = {}  # when last found so
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._every, REVOKE_EVERY, "the list of the revoked", self._revoke)
            nursery.start_soon(self._every, LEASES_EVERY, "holders of leases", self._look_at_leases)
            nursery.start_soon(self._every, TOKENS_EVERY, "tokens", self._drop_tokens)
            if not self._embedded:
                nursery.start_soon(self._every, REVOKE_EVERY, "rights of nodes", self._keep_rights)

    async def _every(self, seconds: float, what: str, do: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await do()
                self._troubles.pop(what, None)
            except (ApiStatus, ApiUnreachable, OSError) as error:
                if str(error) != self._troubles.get(what):
                    log.warning("%s: %s: tried again", what, error)
                self._troubles[what] = str(error)
            await trio.sleep(seconds)

    async def _revoke(self) -> None:
        found = await revoke(self._api, self._state.authority, self._state.revoked, utc(time.time()))
        if found != self._revoked:
            self._revoked = found
            self._cut(found)

    async def _drop_tokens(self) -> None:
        now = utc(time.time())
        for secret in (await self._api.list(objects.SECRETS)).get("items") or ():
            kept = token.kept(secret)
            if kept and now >= kept.expires:
                await objects.remove(self._api, f"{objects.SECRETS}/{secret['metadata']['name']}")
                log.info("the token %s ended", kept.id)

    async def _look_at_leases(self) -> None:
        leases = (await self._api.list(objects.leases(SYSTEM_NAMESPACE))).get("items") or ()
        names = set()
        for lease in leases:
            name = lease["metadata"]["name"]
            names.add(name)
            holder = (lease.get("spec") or {}).get("holderIdentity") or ""
            now = time.time()
            found = self._holders.see(name, holder, now, transitions(lease))
            known = self._cloned.get(name)
            if found:
                self._cloned[name] = now
            elif known is not None and now - known >= MEMORY:
                del self._cloned[name]
                log.info("one machine has the identity of %s again", name)
            if found and known is None:
                text = f"two machines have the identity of {name}: {' and '.join(found.holders)}"
                log.error("%s: on one of them stop the agent, remove its state, and join under another name", text)
                await self._event(name, text)
        self._holders.forget(names)
        for name in self._cloned.keys() - names:
            del self._cloned[name]

    async def _event(self, node: str, text: str) -> None:
        """For `kubectl describe node`."""
        now = token.spell(utc(time.time()))
        event: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{node}.", "namespace": "default"},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
            "reason": "IdentityShared",
            "message": text,
            "type": "Warning",
            "source": {"component": "edgemesh-cloud"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._api.create(resource_path("", "v1", "events", "default"), event)

    async def _keep_rights(self) -> None:
        """Give each node its Roles, and take those of deleted ones away."""
        records = (await self._api.list(objects.CONFIG_MAPS, record.SELECTOR)).get("items") or ()
        found = frozenset(each.name for each in map(record.read, records) if each and not each.deleted)
        if found == self._with_rights:
            return
        if self._with_rights is None:
            for obj in rights.shared():
                await setup.put(self._api, _path(obj), obj)
        for name in sorted(found - (self._with_rights or frozenset())):
            for obj in rights.of_node(name):
                await setup.put(self._api, _path(obj), obj)
        for kind, plural in rights.PLURALS.items():
            namespace = "" if kind.startswith("Cluster") else SYSTEM_NAMESPACE
            listed = await self._api.list(resource_path(rights.RBAC, "v1", plural, namespace), record.SELECTOR)
            for obj in rights.gone(listed.get("items") or (), found):
                await objects.remove(self._api, _path({**obj, "kind": kind}))
        self._with_rights = found


def _path(obj: dict[str, Any]) -> str:
    metadata = obj["metadata"]
    return resource_path(
        rights.RBAC, "v1", rights.PLURALS[obj["kind"]], metadata.get("namespace", ""), metadata["name"]
    )
