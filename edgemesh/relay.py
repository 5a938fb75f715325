"""The role `edgemesh relay`: a relay that admits the nodes whose MeshNode is in a directory, and no others.

Keys are read as the files change: a node whose MeshNode goes is cut off at once.
"""

from __future__ import annotations

import base64
import logging
import signal
from pathlib import Path

import trio

from sync.client.manifests import Manifests
from sync.resources.kinds import Key, MeshNode
from tunnel.endpoint import Address
from tunnel.relay.forward import Relay

log = logging.getLogger("edgemesh.relay")


async def run(listen: Address, directory: Path) -> None:
    """Relay until SIGTERM or SIGINT; raises tunnel.relay.forward.RelayError when the address can't be had."""
    relay = Relay()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(_relay, relay, listen)
        nursery.start_soon(_follow, directory, relay)
        log.info("relaying on %s:%d for the nodes in %s", bound.host, bound.port, directory)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


async def _relay(relay: Relay, listen: Address, task_status: trio.TaskStatus[Address]) -> None:
    await relay.run(listen, admit=frozenset[bytes]().__contains__, task_status=task_status)


async def _follow(directory: Path, relay: Relay) -> None:
    """Admit the keys of all MeshNodes there are, and only those."""
    manifests = Manifests(directory)
    keys: dict[Key, bytes] = {}
    try:
        async for changes in manifests:
            before = dict(keys)
            for key in changes.gone:
                keys.pop(key, None)
            for node in changes.changed:
                if isinstance(node, MeshNode):
                    keys[node.key] = base64.b64decode(node.spec.public_key)  # checked when it was read
            if keys != before:
                relay.set_admission(frozenset(keys.values()).__contains__)
                log.info("admitting %d nodes: %s", len(keys), ", ".join(sorted(key.name for key in keys)))
    finally:
        manifests.close()
