"""The verbs over the store, without HTTP: what a request makes of an object.

Every write is computed on the newest state, inside `Store.write`, so that nothing is written upon what is no more.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from sync.api import deletion, status, versions
from sync.api.admission import admit
from sync.api.allocation import Allocator
from sync.api.naming import generated, metadata_of, no_unique_name, same_name, same_namespace
from sync.api.options import Deletion, Write, revision
from sync.api.patch import entries_of, keep_times, track
from sync.api.prune import prune_and_default, strict_error, warnings
from sync.api.registry import Registry, ResourceType
from sync.api.status import ApiError, Cause
from sync.api.strategy import strategy
from sync.api.validation import validate
from sync.store import Change, Entry, Key, Store

Guard = Callable[[dict[str, Any], dict[str, Any] | None], None]
"""Called with an object as it is to be and as it was, before it is written; raises ApiError."""
Compute = Callable[[dict[str, Any] | None], dict[str, Any]]
"""From an object (one's own copy; None: there is none) to what a writer wants it to be."""

BINDING = "binding"
"""The subresource whose one writer is this package: what it may change is decided before."""
GENERATE_ATTEMPTS = 8
_CONDITIONAL = ("customresourcedefinitions", "leases")


class Written(NamedTuple):
    """An object after a write, as the version that was asked for has it; `gone`: it is deleted now."""

    obj: dict[str, Any]
    created: bool = False
    gone: bool = False


class Landed(NamedTuple):
    """A durable write, for those who follow what objects there are; `obj` is None after a deletion."""

    type: ResourceType
    key: Key
    obj: dict[str, Any] | None
    old: dict[str, Any] | None


def nobody(obj: dict[str, Any], old: dict[str, Any] | None) -> None:
    """The guard that lets all through."""


class Objects:
    """`followers` are told of each write once it is durable."""

    def __init__(
        self, store: Store, registry: Registry, allocator: Allocator, clock: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.registry = registry
        self.allocator = allocator
        self.clock = clock
        self.followers: list[Callable[[Landed], None]] = []

    def get(self, type: ResourceType, namespace: str, name: str, at: str = "") -> bytes:
        """The object's JSON; `at`: a resourceVersion that it must not be older than. Raises ApiError."""
        if (asked := revision(at)) > self.store.revision:
            raise status.too_large_revision(asked, self.store.revision)
        entry = self.store.get(Key(type.storage, namespace, name))
        if entry is None:
            raise status.not_found(type.group_resource, name)
        return versions.show(type, entry.data)

    def now(self) -> str:
        """metav1.Time."""
        return deletion.timestamp(self.clock())

    def checked(self, type: ResourceType, obj: dict[str, Any], duplicate: Sequence[str], write: Write) -> None:
        """Prune and default a body that was just read; what it has too much is refused or warned of, as asked for."""
        unknown: list[str] = []
        disowned = not type.custom and entries_of(obj) == []
        prune_and_default(obj, type, found=unknown)
        if disowned:  # pruning takes empty lists away, but this one says that nobody owns anything
            obj["metadata"]["managedFields"] = []
        if unknown or duplicate:
            if write.validation == "Strict":
                raise strict_error(type, unknown, duplicate)
            if write.validation == "Warn":
                write.warnings.extend(warnings(unknown, duplicate))

    async def create(
        self, type: ResourceType, namespace: str, obj: dict[str, Any], write: Write, guard: Guard = nobody
    ) -> Written:
        """`obj` is what `checked` left. Raises ApiError."""
        metadata = metadata_of(obj)
        same_namespace(metadata, namespace)
        if metadata.get("resourceVersion"):
            raise status.bad_request("resourceVersion should not be set on objects to be created")
        base = "" if metadata.get("name") else str(metadata.get("generateName") or "")
        for attempt in range(GENERATE_ATTEMPTS if base else 1):
            if base:
                metadata["name"] = generated(base)
            try:
                return await self._create(type, namespace, deepcopy(obj) if base else obj, write, guard)
            except ApiError as error:
                if not base or error.reason != "AlreadyExists":
                    raise
                if attempt + 1 == GENERATE_ATTEMPTS:
                    raise no_unique_name(type, metadata["name"]) from None
        raise AssertionError

    async def update(
        self,
        type: ResourceType,
        namespace: str,
        name: str,
        compute: Compute,
        write: Write,
        *,
        subresource: str = "",
        create: bool = False,
        applied: bool = False,
        guard: Guard = nobody,
    ) -> Written:
        """Replace an object by what `compute` makes of it; where there is none, make it if `create` says so, or if the
        kind allows it. `applied`: `compute` has kept the managed fields itself. Raises ApiError."""
        key = Key(type.storage, namespace, name)
        done = Written({})
        old: dict[str, Any] | None = None

        def change(head: Entry | None, number: int) -> Change | None:
            nonlocal done, old
            old = versions.read(type, head.data) if head else None
            if old is None and not (create and not subresource):
                raise status.not_found(type.group_resource, name)
            new = compute(deepcopy(old))
            same_name(new, namespace, name)
            if old is None:
                made = self._prepare(type, namespace, new, write, guard, applied=applied)
                done = Written(made, created=True)
                return Change(versions.write(type, made, 0 if write.dry_run else number))
            changed = self._replace(type, new, old, write, guard, subresource, applied=applied)
            gone = deletion.finished(new)
            done = Written(new if changed or gone else old, gone=gone)
            if not changed and not gone:
                return None
            return Change(versions.write(type, new, number), deleted=gone)

        await self._commit(type, key, change, write.dry_run, lambda: (done, old))
        return done

    async def delete(
        self, type: ResourceType, namespace: str, name: str, options: Deletion, guard: Guard = nobody
    ) -> Written:
        """Raises ApiError."""
        key = Key(type.storage, namespace, name)
        done = Written({})
        old: dict[str, Any] | None = None

        def change(head: Entry | None, number: int) -> Change | None:
            nonlocal done, old
            if head is None:
                raise status.not_found(type.group_resource, name)
            old = versions.read(type, head.data)
            guard(old, old)
            outcome = deletion.delete(deepcopy(old), type, options, self.clock())
            done = Written(outcome.obj, gone=outcome.gone)
            if not outcome.gone and not outcome.changed:
                return None
            return Change(versions.write(type, outcome.obj, number), deleted=outcome.gone)

        await self._commit(type, key, change, options.dry_run, lambda: (done, old))
        return done

    async def _create(
        self, type: ResourceType, namespace: str, obj: dict[str, Any], write: Write, guard: Guard
    ) -> Written:
        name = str(obj["metadata"].get("name") or "")
        made: dict[str, Any] = {}

        def change(head: Entry | None, number: int) -> Change:
            nonlocal made
            made = self._prepare(type, namespace, obj, write, guard)
            if head is not None:
                raise status.already_exists(type.group_resource, name)
            return Change(versions.write(type, made, number))

        await self._commit(
            type, Key(type.storage, namespace, name), change, write.dry_run, lambda: (Written(made), None)
        )
        return Written(made, created=True)

    async def _commit(
        self,
        type: ResourceType,
        key: Key,
        change: Callable[[Entry | None, int], Change | None],
        dry_run: bool,
        outcome: Callable[[], tuple[Written, dict[str, Any] | None]],
    ) -> None:
        if dry_run:
            head = self.store.get(key)
            change(head, head.revision if head else 0)
            done, _ = outcome()
            if head is None:
                done.obj["metadata"].pop("resourceVersion", None)
            return
        wrote = False

        def noted(head: Entry | None, number: int) -> Change | None:
            nonlocal wrote
            put = change(head, number)
            wrote = put is not None
            return put

        await self.store.write(key, noted)
        if wrote:
            done, old = outcome()
            landed = Landed(type, key, None if done.gone else done.obj, old)
            for follower in self.followers:
                follower(landed)

    def _prepare(
        self,
        type: ResourceType,
        namespace: str,
        obj: dict[str, Any],
        write: Write,
        guard: Guard,
        *,
        applied: bool = False,
    ) -> dict[str, Any]:
        """An object that is not there yet, as it will be stored but for its revision."""
        metadata = obj["metadata"]
        name = str(metadata.get("name") or "")
        if namespace:
            metadata["namespace"] = namespace
        admit(self.store, type, namespace, name)
        strategy(type).prepare_create(obj)
        if type.plural == "certificatesigningrequests":
            obj.setdefault("spec", {}).update(username=write.user, groups=[*write.groups])
        if type.plural == "customresourcedefinitions":
            finalizers = metadata.setdefault("finalizers", [])
            if deletion.CRD_CLEANUP not in finalizers:
                finalizers.append(deletion.CRD_CLEANUP)
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=self.now())
        if not applied:
            track(None, obj, write.manager, "Update", "", type, self.now())
        strategy(type).complete(obj)
        if not type.custom and type.plural == "services":
            self.allocator.assign(obj, None)
        self._valid(type, obj, None, "")
        self._settle(type, obj)
        guard(obj, None)
        return obj

    def _replace(
        self,
        type: ResourceType,
        new: dict[str, Any],
        old: dict[str, Any],
        write: Write,
        guard: Guard,
        subresource: str,
        *,
        applied: bool,
    ) -> bool:
        """Make `new` what replaces `old`; gives whether they differ."""
        metadata, before = new["metadata"], old["metadata"]
        self._unchanged(type, metadata, before)
        if subresource != BINDING:
            strategy(type).prepare_update(new, old, subresource, now=self.now())
        metadata["resourceVersion"] = before["resourceVersion"]
        if not applied:
            track(old, new, write.manager, "Update", subresource, type, self.now())
        if not subresource and not type.custom and type.plural == "services":
            self.allocator.assign(new, old)
        if subresource != BINDING:
            self._valid(type, new, old, subresource)
        self._settle(type, new)
        guard(new, old)
        keep_times(old, new)
        return new != old

    def _unchanged(self, type: ResourceType, metadata: dict[str, Any], before: dict[str, Any]) -> None:
        name, asked = before["name"], str(metadata.get("resourceVersion") or "")
        if asked in ("", "0"):
            if type.custom or type.plural in _CONDITIONAL:
                text = "Invalid value: 0: must be specified for an update"
                cause = Cause("metadata.resourceVersion", "FieldValueInvalid", text)
                raise status.invalid(type.group, type.plural, name, [cause])
        elif asked != before["resourceVersion"]:
            revision(asked, "metadata.resourceVersion")
            raise status.conflict(type.group_resource, name)

    def _valid(self, type: ResourceType, obj: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> None:
        if causes := validate(obj, old, type, subresource):
            group = "" if type.storage == "events" else type.group  # upstream says plain "Event" of both groups
            raise status.invalid(group, type.kind, str(obj["metadata"].get("name") or ""), causes)

    def _settle(self, type: ResourceType, obj: dict[str, Any]) -> None:
        """What a definition says of itself, as soon as it is written: which kind it serves now."""
        if type.plural == "customresourcedefinitions" and not type.custom:
            from sync.api.crd import accept

            accept(obj, self._others(type, obj["metadata"]["name"]), self.now())

    def _others(self, type: ResourceType, name: str) -> Iterable[dict[str, Any]]:
        return [versions.read(type, entry.data) for entry in self.store.heads(type.storage) if entry.key.name != name]
