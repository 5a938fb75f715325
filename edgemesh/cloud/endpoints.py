"""The controller of EndpointSlices: what `sync.controllers.placement` says, written to the API.

What was written is taken into the snapshot from the answer, without waiting for the watch: a change that comes in
between is computed from what is there, and makes no slice twice.
"""

from __future__ import annotations

import logging
from typing import Any

from edgemesh.cloud.work import Work
from edgemesh.snapshot import Affected, Snapshot
from sync.client.connection import Api, ApiStatus, resource_path
from sync.controllers.placement import body, place
from sync.controllers.slices import made_here
from sync.resources.decode import decode
from sync.resources.kinds import EndpointSlice, Key

log = logging.getLogger("edgemesh.cloud")

WORKERS = 8
"""Services at a time: the store makes writes that come together durable together."""


class Endpoints:
    """Run `work.run` as a task; tell it what changes touch."""

    def __init__(self, api: Api, snapshot: Snapshot) -> None:
        self._api = api
        self._snapshot = snapshot
        self._zones: dict[str, str] = {}
        self.work: Work[Key] = Work("endpoints of", self._look, workers=WORKERS)

    def changed(self, affected: Affected) -> None:
        """Look at the services that a change touches; a node that moved to another zone touches all."""
        zones = {name: node.zone for name, node in self._snapshot.nodes.items()} if affected.nodes else self._zones
        moved = {name for name, zone in zones.items() if self._zones.get(name, "") != zone}
        self._zones = zones
        self.work.add(self._snapshot.services if moved else affected.services)

    async def _look(self, key: Key) -> None:
        snapshot = self._snapshot
        service = snapshot.services.get(key)
        existing = snapshot.slices(key)
        if service is None:  # the garbage collector's, by their owner; those it does not know are taken away here
            for piece in filter(made_here, existing):
                await self._delete(piece.key)
            return
        pods = snapshot.pods(service)
        placement = place(service, pods, snapshot.nodes, existing)
        if not placement:
            return
        uid = (await self._api.get(resource_path("", "v1", "services", key.namespace, key.name)))["metadata"]["uid"]
        names = {pod.status.pod_ip: pod.metadata.name for pod in pods}
        for piece in placement.update:
            path = _path(piece.key.namespace, piece.key.name)
            self._take(await self._api.update(path, body(piece, uid, names)))
        for piece in placement.create:
            self._take(await self._api.create(_path(key.namespace), body(piece, uid, names)))
        for gone in placement.delete:
            await self._delete(gone)

    def _take(self, answer: dict[str, Any]) -> None:
        read, faults = decode(answer)
        if isinstance(read, EndpointSlice):
            self._snapshot.apply([read])
        else:
            log.error("the API's answer is no EndpointSlice that can be used: %s", faults)

    async def _delete(self, key: Key) -> None:
        try:
            await self._api.delete(_path(key.namespace, key.name))
        except ApiStatus as error:
            if error.code != 404:
                raise
        self._snapshot.apply((), [key])


def _path(namespace: str, name: str = "") -> str:
    return resource_path("discovery.k8s.io", "v1", "endpointslices", namespace, name)
