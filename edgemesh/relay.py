"""The role `edgemesh relay`: a relay that admits the nodes whose MeshNode is in a directory, and no others.

The directory is read before the relay listens, so that no node is refused for having come too early. Keys follow the
files as they change: a node whose MeshNode goes is cut off at once.
"""

from __future__ import annotations

import base64
import logging
import signal
from contextlib import closing
from pathlib import Path

import trio

from sync.client.manifests import Changes, Manifests
from sync.resources.kinds import Key, MeshNode
from tunnel.endpoint import Address
from tunnel.relay.forward import Relay

log = logging.getLogger("edgemesh.relay")


async def run(listen: Address, directory: Path) -> None:
    """Relay until SIGTERM or SIGINT; raises tunnel.relay.forward.RelayError when the address can't be had."""
    with (
        closing(Manifests(directory)) as manifests,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
    ):
        relay = Relay()
        admission = Admission(relay)
        admission.take(await anext(manifests))
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(_relay, relay, listen)
            log.info("relaying on %s:%d for the nodes in %s", bound.host, bound.port, directory)
            nursery.start_soon(_follow, manifests, admission)
            await anext(signals)
            nursery.cancel_scope.cancel()


async def _relay(relay: Relay, listen: Address, task_status: trio.TaskStatus[Address]) -> None:
    await relay.run(listen, task_status=task_status)


async def _follow(manifests: Manifests, admission: Admission) -> None:
    async for changes in manifests:
        admission.take(changes)


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
