"""Namespaces and custom resource definitions that are deleted: what is in them goes first."""

from __future__ import annotations

import logging
from typing import Any

from sync.api import versions
from sync.api.admission import DEFINITIONS, NAMESPACES
from sync.api.chores import Chores
from sync.api.deletion import CRD_CLEANUP
from sync.api.garbage import without_finalizer
from sync.api.objects import Landed, Objects
from sync.api.options import Deletion, Write
from sync.api.registry import ResourceType
from sync.api.status import ApiError
from sync.store import Key

logger = logging.getLogger(__name__)

MANAGER = "namespace-controller"
FINALIZER = "kubernetes"


class Emptying:
    """A follower of `objects`, and a task (`run`)."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._chores = Chores(self._handle, self._refused)
        self._ending: set[Key] = set()
        self._kinds: dict[Key, str] = {}
        """Of a definition that is ending: the resource of its objects."""

    def load(self) -> None:
        """Take up what was not finished when the server stopped."""
        for resource in (NAMESPACES, DEFINITIONS):
            for entry in self._objects.store.list(resource).entries:
                if b'"deletionTimestamp"' in entry.data:
                    self._look(entry.key)

    def landed(self, write: Landed) -> None:
        """An object was written."""
        if write.key.resource in (NAMESPACES, DEFINITIONS):
            if write.obj is None:
                self._ending.discard(write.key)
            elif write.obj["metadata"].get("deletionTimestamp"):
                self._look(write.key)
        elif self._ending and not (write.obj and write.obj["metadata"].get("deletionTimestamp")):
            # gone, or made while what it is in was on its way out, and that was not durable yet
            for key in tuple(self._ending):
                if write.key.namespace == key.name or self._kinds.get(key) == write.key.resource:
                    self._look(key)

    async def run(self) -> None:
        """Until cancelled."""
        await self._chores.run()

    async def _handle(self, key: Key) -> None:
        await (self._namespace(key) if key.resource == NAMESPACES else self._definition(key))

    @staticmethod
    def _refused(key: Key, error: ApiError) -> None:
        logger.warning("%s %s is not empty yet: %s", key.resource, key.name, error)

    def _look(self, key: Key) -> None:
        self._ending.add(key)
        self._chores.add(key)

    async def _namespace(self, key: Key) -> None:
        kinds = self._kinds_in_namespaces()
        for type in kinds:
            await self._empty(type, key.name)
        namespaces = self._objects.registry.find("", "v1", NAMESPACES)
        assert namespaces is not None
        left = any(
            entry.key.namespace == key.name for type in kinds for entry in self._objects.store.heads(type.storage)
        )
        if not left:

            def finalize(obj: dict[str, Any] | None) -> dict[str, Any]:
                assert obj is not None
                finalizers = obj.get("spec", {}).get("finalizers") or []
                obj.setdefault("spec", {})["finalizers"] = [each for each in finalizers if each != FINALIZER]
                return obj

            write = Write(MANAGER, [])
            await self._objects.update(namespaces, "", key.name, finalize, write, subresource="finalize")

    async def _definition(self, key: Key) -> None:
        definitions = self._objects.registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        entry = self._objects.store.get(key)
        if entry is None or definitions is None:
            return
        crd = versions.read(definitions, entry.data)
        if CRD_CLEANUP not in crd["metadata"].get("finalizers", ()):
            return
        self._kinds[key] = storage = f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"
        type = next((each for each in self._objects.registry.all() if each.custom and each.storage == storage), None)
        if type is not None:
            await self._empty(type, "")
        if not any(True for _ in self._objects.store.heads(storage)):
            self._kinds.pop(key, None)
            write = Write(MANAGER, [])
            await self._objects.update(
                definitions, "", key.name, lambda obj: without_finalizer(obj, CRD_CLEANUP), write
            )

    async def _empty(self, type: ResourceType, namespace: str) -> None:
        """Delete all that is not on its way yet."""
        for entry in self._objects.store.list(type.storage, namespace).entries:
            if b'"deletionTimestamp"' in entry.data:
                continue
            try:
                await self._objects.delete(type, entry.key.namespace, entry.key.name, Deletion(policy="Background"))
            except ApiError as error:
                if error.code != 404:
                    raise

    def _kinds_in_namespaces(self) -> list[ResourceType]:
        kinds = {
            type.storage: type for type in self._objects.registry.all() if type.namespaced and "list" in type.verbs
        }
        return list(kinds.values())
