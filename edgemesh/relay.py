"""The role `edgemesh relay`: a relay that admits the nodes whose MeshNode is known, and no others.

MeshNodes are a directory's, or an API's with their proofs. They are read before the relay listens, so that no node is
refused for having come too early; of an API's there is a copy in the state directory, so that a relay that is started
without it admits those it knew. Keys follow: a node whose MeshNode goes, or is revoked, is cut off at once.
"""

from __future__ import annotations

import base64
import logging
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from sync.client.manifests import Changes, Manifests
from sync.resources.kinds import Key, MeshNode
from tunnel.endpoint import Address
from tunnel.relay.forward import Relay

if TYPE_CHECKING:
    from edgemesh.cluster import Location

log = logging.getLogger("edgemesh.relay")


async def run(listen: Address, source: Path | Location) -> None:
    """Relay until SIGTERM or SIGINT; `source` is a directory of manifests, or where an API is.

    Raises tunnel.relay.forward.RelayError when the address can't be had.
    """
    relay = Relay()
    admission = Admission(relay)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            if isinstance(source, Path):
                await nursery.start(_follow_manifests, source, admission)
                where = str(source)
            else:
                await nursery.start(_follow_api, source, admission)
                where = f"the API of {source.kubeconfig}"
            bound = await nursery.start(_relay, relay, listen)
            log.info("relaying on %s:%d for the nodes in %s", bound.host, bound.port, where)
            await anext(signals)
            nursery.cancel_scope.cancel()


async def _relay(relay: Relay, listen: Address, task_status: trio.TaskStatus[Address]) -> None:
    await relay.run(listen, task_status=task_status)


async def _follow_manifests(directory: Path, admission: Admission, task_status: trio.TaskStatus[None]) -> None:
    with closing(Manifests(directory)) as manifests:
        admission.take(await anext(manifests))
        task_status.started()
        async for changes in manifests:
            admission.take(changes)


async def _follow_api(location: Location, admission: Admission, task_status: trio.TaskStatus[None]) -> None:
    from edgemesh.cluster import RELAY, Cluster
    from edgemesh.saver import Saver
    from edgemesh.snapshot_file import SnapshotFile, encode

    file = SnapshotFile(os.path.join(location.state_dir, "relay.snapshot"))
    known = file.load("")
    cluster = Cluster(location, known.snapshot.objects, known.serials, followed=RELAY)
    saver = Saver(file, lambda: encode(known.snapshot, {}, "", cluster.serials))
    admission.take(Changes([*known.snapshot.objects.values()], []))
    ready = trio.Event()
    if known.snapshot.objects:
        ready.set()

    def take(changes: Changes) -> None:
        version = known.snapshot.version
        known.snapshot.apply(*changes)
        if known.snapshot.version != version:
            saver.changed()
        admission.take(changes)
        ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(saver.run)
        nursery.start_soon(cluster.run, take)
        await ready.wait()
        task_status.started()


class Admission:
    """Has a relay admit the keys of all MeshNodes there are, and only those."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._keys: dict[Key, bytes] = {}
        self._admit()

    def take(self, changes: Changes) -> None:
        """Bring changes into effect."""
        before = dict(self._keys)
        for key in changes.gone:
            self._keys.pop(key, None)
        for node in changes.changed:
            if isinstance(node, MeshNode):
                self._keys[node.key] = base64.b64decode(node.spec.public_key)  # checked when it was read
        if self._keys != before:
            self._admit()
            log.info("admitting %d nodes: %s", len(self._keys), ", ".join(sorted(key.name for key in self._keys)))

    def _admit(self) -> None:
        self._relay.set_admission(frozenset(self._keys.values()).__contains__)
