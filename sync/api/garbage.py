"""Garbage collection: what is left when an owner is gone.

An index of owners by uid is kept as objects are written, so a deletion costs as much as it has dependents. Source of
the rules: Kubernetes' "Garbage collection" and kube-controller-manager's garbagecollector. A kind that is not served
here can't be looked up, so an owner of such a kind counts as there.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from sync.api.chores import Chores
from sync.api.deletion import FOREGROUND, ORPHAN
from sync.api.objects import Landed, Objects
from sync.api.options import Deletion, Write
from sync.api.registry import ResourceType
from sync.api.status import ApiError
from sync.store import Entry, Key

logger = logging.getLogger(__name__)

MANAGER = "garbage-collector"


class Owner(msgspec.Struct, rename="camel"):
    """An owner reference."""

    uid: str = ""
    api_version: str = ""
    kind: str = ""
    name: str = ""
    block_owner_deletion: bool | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    uid: str = ""
    owner_references: list[Owner] | None = None
    finalizers: list[str] | None = None
    deletion_timestamp: str | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata


class Garbage:
    """A follower of `objects`, and a task (`run`)."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._keys: dict[str, Key] = {}
        """Of all objects, by uid."""
        self._owners: dict[Key, tuple[Owner, ...]] = {}
        self._dependents: dict[str, set[Key]] = {}
        """By the owner's uid."""
        self._types: dict[str, ResourceType] = {}
        self._chores = Chores(self._handle, self._refused)
        self._decoder = msgspec.json.Decoder(_Object)

    def load(self) -> None:
        """Take up what is there at the start."""
        for type in self._objects.registry.all():
            if "list" in type.verbs and type.storage not in self._types:
                self._types[type.storage] = type
                for entry in self._objects.store.list(type.storage).entries:
                    self._known(entry.key, self._decoder.decode(entry.data).metadata)

    def landed(self, write: Landed) -> None:
        """An object was written."""
        self._types[write.key.resource] = write.type
        known = msgspec.convert({"metadata": (write.obj or write.old or {})["metadata"]}, _Object).metadata
        if write.obj is not None:
            self._known(write.key, known)
            return
        if self._keys.get(known.uid) == write.key:
            del self._keys[known.uid]
        for owner in self._owners.pop(write.key, ()):
            self._forget(owner, write.key)
            if key := self._keys.get(owner.uid):
                self._chores.add(key)  # it may wait for this one
        for key in self._dependents.get(known.uid, ()):
            self._chores.add(key)

    async def run(self) -> None:
        """Until cancelled."""
        await self._chores.run()

    @staticmethod
    def _refused(key: Key, error: ApiError) -> None:
        logger.warning("garbage collection of %s: %s; trying again", "/".join(key), error)

    def _known(self, key: Key, metadata: _Metadata) -> None:
        self._keys[metadata.uid] = key
        owners = tuple(metadata.owner_references or ())
        for owner in self._owners.get(key, ()):
            self._forget(owner, key)
        if owners:
            self._owners[key] = owners
            for owner in owners:
                self._dependents.setdefault(owner.uid, set()).add(key)
        else:
            self._owners.pop(key, None)
        waiting = metadata.deletion_timestamp and {ORPHAN, FOREGROUND}.intersection(metadata.finalizers or ())
        if waiting or any(not self._there(key, owner) for owner in owners):
            self._chores.add(key)

    def _forget(self, owner: Owner, key: Key) -> None:
        dependents = self._dependents.get(owner.uid)
        if dependents is not None:
            dependents.discard(key)
            if not dependents:
                del self._dependents[owner.uid]

    def _there(self, key: Key, owner: Owner) -> bool:
        found = self._keys.get(owner.uid)
        if found is not None:
            return found.namespace in ("", key.namespace)
        return self._objects.registry.by_kind(owner.api_version, owner.kind) is None

    async def _handle(self, key: Key) -> None:
        entry = self._objects.store.get(key)
        type = self._types.get(key.resource)
        if entry is None or type is None:
            return
        metadata = self._decoder.decode(entry.data).metadata
        if metadata.deletion_timestamp and ORPHAN in (metadata.finalizers or ()):
            for dependent in tuple(self._dependents.get(metadata.uid, ())):
                await self._disown(dependent, {metadata.uid})
            await self._finish(type, key, ORPHAN)
        elif metadata.deletion_timestamp and FOREGROUND in (metadata.finalizers or ()):
            await self._foreground(type, key, metadata.uid)
        elif metadata.owner_references:
            await self._dependent(type, key, entry, metadata)

    async def _dependent(self, type: ResourceType, key: Key, entry: Entry, metadata: _Metadata) -> None:
        owners = metadata.owner_references or []
        gone = {owner.uid for owner in owners if not self._there(key, owner)}
        if len(gone) < len({owner.uid for owner in owners}):
            if gone:
                await self._disown(key, gone)
            return
        if not metadata.deletion_timestamp:
            revision = str(entry.revision)
            await self._delete(type, key, Deletion(uid=metadata.uid, resource_version=revision, policy="Background"))

    async def _foreground(self, type: ResourceType, key: Key, uid: str) -> None:
        blocked = False
        for dependent in tuple(self._dependents.get(uid, ())):
            its_type = self._types[dependent.resource]
            entry = self._objects.store.get(dependent)
            if entry is None:
                continue
            metadata = self._decoder.decode(entry.data).metadata
            if not metadata.deletion_timestamp:
                policy = "Foreground" if metadata.uid in self._dependents else "Background"
                await self._delete(its_type, dependent, Deletion(uid=metadata.uid, policy=policy))
            blocks = any(owner.uid == uid and owner.block_owner_deletion for owner in metadata.owner_references or ())
            blocked = blocked or (blocks and self._objects.store.get(dependent) is not None)
        if not blocked:
            await self._finish(type, key, FOREGROUND)

    async def _delete(self, type: ResourceType, key: Key, options: Deletion) -> None:
        try:
            await self._objects.delete(type, key.namespace, key.name, options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            if error.code == 409:  # it was changed just now: the change is looked at
                self._chores.add(key)

    async def _disown(self, key: Key, owners: set[str]) -> None:
        """Take these owners out of a dependent."""

        def compute(obj: dict[str, Any] | None) -> dict[str, Any]:
            assert obj is not None
            left = [each for each in obj["metadata"].get("ownerReferences", ()) if each.get("uid") not in owners]
            obj["metadata"]["ownerReferences"] = left
            if not left:
                del obj["metadata"]["ownerReferences"]
            return obj

        await self._update(self._types[key.resource], key, compute)

    async def _finish(self, type: ResourceType, key: Key, finalizer: str) -> None:
        """Take the collector's finalizer out of an owner."""
        await self._update(type, key, lambda obj: without_finalizer(obj, finalizer))

    async def _update(self, type: ResourceType, key: Key, compute: Any) -> None:
        try:
            await self._objects.update(type, key.namespace, key.name, compute, Write(MANAGER, []))
        except ApiError as error:
            if error.code != 404:
                raise


def without_finalizer(obj: dict[str, Any] | None, finalizer: str) -> dict[str, Any]:
    """An object whose finalizer has done its work."""
    assert obj is not None
    finalizers = [each for each in obj["metadata"].get("finalizers", ()) if each != finalizer]
    obj["metadata"]["finalizers"] = finalizers
    if not finalizers:
        del obj["metadata"]["finalizers"]
    return obj
