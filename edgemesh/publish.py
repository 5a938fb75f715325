"""What a node writes of itself to the API: its MeshNode's spec and its Lease, and nothing else.

The MeshNode is written whenever what is there differs from what should be: by server-side apply, which makes it where
there is none, so that a right to the one object by its name is enough. At most once in `PERIOD`: two machines with one
identity would else write against each other without end.
"""

from __future__ import annotations

import base64
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio

from edgemesh import proof
from edgemesh.address import host_port
from edgemesh.config import Config
from edgemesh.identity import Identity, lan_addresses
from edgemesh.lease import MEMORY, PERIOD, Lease
from edgemesh.names import SYSTEM_NAMESPACE
from sync.client.connection import APPLY_PATCH, MERGE_PATCH, Api, ApiStatus, ApiUnreachable, resource_path
from sync.resources.kinds import MeshNode, MeshNodeSpec
from tunnel.links import LinkError

MANAGER = "edgemesh-agent"
RETRY = 1.0
"""Seconds until the first attempt that failed is repeated; then each time twice as long, up to `PERIOD`."""

log = logging.getLogger("edgemesh.agent")

_APPLY = {"fieldManager": MANAGER, "force": "true"}


def spec(config: Config, identity: Identity, addresses: Sequence[str], proven: str) -> MeshNodeSpec:
    """What this node says of itself."""
    return MeshNodeSpec(
        public_key=base64.b64encode(identity.public_key).decode(),
        listen_port=identity.listen_port,
        addresses=tuple(addresses),
        relays=tuple(host_port(host, port) for host, port in config.relay_addresses),
        proof=proven,
    )


class Publisher:
    """Run it as a task; tell it the own MeshNode whenever the API shows one (`seen`)."""

    def __init__(
        self,
        api: Api,
        config: Config,
        identity: Identity,
        *,
        addresses: Callable[[Config], list[str]] = lan_addresses,
        nonce: str = "",
    ) -> None:
        self._api = api
        self._config = config
        self._identity = identity
        self._addresses = addresses
        self._lease = Lease(config.node_name, nonce or secrets.token_hex(4))
        self._seen: MeshNodeSpec | None = None
        self._written: MeshNodeSpec | None = None  # what the API has taken and not shown yet
        self._troubles: dict[str, str] = {}
        self._cloned = False
        self.unanswered: tuple[float, str] | None = None
        """Since when (Unix seconds) the API answers nothing, and why: sooner known than by a watch that is silent."""

    @property
    def problems(self) -> list[str]:
        """What can't be written at present, and whether there are two of this node."""
        found = [f"{what} can't be written: {why}" for what, why in self._troubles.items() if why]
        clones = self._lease.clones(time.time())
        return [clones, *found] if clones else found

    def seen(self, node: MeshNode | None) -> None:
        """What the API has as this node's MeshNode; None if it has none."""
        self._seen, self._written = (node.spec if node else None), None

    async def run(self) -> None:
        """Write until cancelled."""
        retry = RETRY
        while True:
            await self._attempt(f"MeshNode {self._config.node_name}", self._publish)
            await self._attempt(f"Lease {SYSTEM_NAMESPACE}/{self._config.node_name}", self._renew)
            self._tell_clones()
            retry = min(PERIOD, retry * 2) if any(self._troubles.values()) else PERIOD
            await trio.sleep(retry if any(self._troubles.values()) else PERIOD)

    def _tell_clones(self) -> None:
        """Once when it begins, and when it is over; the status has it all the while."""
        clones = self._lease.clones(time.time())
        if clones and not self._cloned:
            log.error("%s", clones)
        elif self._cloned and not clones:
            log.info("no other machine has had this node's identity for %.0f s", MEMORY)
        self._cloned = bool(clones)

    async def _attempt(self, what: str, write: Callable[[], Any]) -> None:
        why, began, unanswered = "", time.time(), False
        try:
            why = await write()
        except ApiUnreachable as error:
            why, unanswered = str(error), True
        except (ApiStatus, LinkError, proof.ProofError) as error:
            why = str(error)
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
        if unanswered:
            self.unanswered = self.unanswered or (began, why)
        elif write == self._renew:  # which asks each time
            self.unanswered = None
        if why and why != self._troubles.get(what):
            log.warning("%s can't be written: %s", what, why)
        elif self._troubles.get(what) and not why:
            log.info("%s is written again", what)
        self._troubles[what] = why

    async def _publish(self) -> str:
        """Write the MeshNode if it differs; what keeps it from being written."""
        config = self._config
        proven = proof.own(config.state_dir, config.node_name, self._identity.public_key, time.time())
        if not proven:
            return f"there is no certificate to prove it with in {config.state_dir}/pki: run 'edgemesh join' first"
        wanted = spec(config, self._identity, self._addresses(config), proven)
        if wanted in (self._seen, self._written):
            return ""
        group, _, version = MeshNode.api_version.partition("/")
        body = {
            "apiVersion": MeshNode.api_version,
            "kind": "MeshNode",
            "metadata": {"name": config.node_name},
            "spec": msgspec.to_builtins(wanted),
        }
        path = resource_path(group, version, "meshnodes", name=config.node_name)
        await self._api.patch(path, body, APPLY_PATCH, _APPLY)
        self._written = wanted
        if not self._cloned:  # two write against each other, in each period
            found = ", ".join(wanted.addresses) or "no address"
            log.info("MeshNode %s is written: reached at %s", config.node_name, found)
        return ""

    async def _renew(self) -> str:
        """Renew the Lease, once more if somebody else wrote it meanwhile."""
        lease = self._lease
        path = resource_path("coordination.k8s.io", "v1", "leases", SYSTEM_NAMESPACE, lease.node)
        for _ in range(2):
            try:
                lease.renewed(await self._api.patch(path, lease.renewal(time.time()), MERGE_PATCH))
            except ApiStatus as error:
                if error.code == 404:
                    lease.renewed(await self._api.patch(path, lease.first(time.time()), APPLY_PATCH, _APPLY))
                elif error.code == 409:
                    lease.found(await self._api.get(path), time.time())
                    continue
                else:
                    raise
            return ""
        return "" if self._cloned else "others write it as well"
