"""The node's own device: a bridge without ports, with the resolver's address, the mesh address and the services' route.

The mesh address is on the bridge, which never goes: connections outlive a tunnel device that does. The route gives
calls of the node itself their source; without it a node without default route could not call a service at all.

Level-triggered: whatever anybody changed, or failed, is set right a moment later, and an error is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from math import inf

import trio

from edgemesh.config import Config
from tunnel.links import LinkError, Links, NoDevice, enable_forwarding

RETRY = 1.0
"""Seconds until what failed is tried again."""
SETTLE = 0.1
"""Seconds that changes of devices are gathered before they are looked at."""

log = logging.getLogger("edgemesh.agent")


class Devices:
    """See the module. `trouble` is what is wrong at present, and what to do; empty for nothing. Raises LinkError."""

    def __init__(self, links: Links, config: Config, changed: Callable[[], None]) -> None:
        """`changed` is told when anybody has changed devices, addresses or routes."""
        self.trouble = ""
        self._links = links
        self._changed = changed
        self._changes = links.changes()
        self._config = config
        self._mesh_address: str | None = None

    def begin(self) -> None:
        """Have the bridge, though nothing is known yet; one that an earlier agent left stays as it is."""
        try:
            self._links.device(self._config.bridge_device)
        except NoDevice:
            self.set("")
        except LinkError as error:
            self._tell(str(error))

    def set(self, mesh_address: str) -> None:
        """Have it all so, with this mesh address ("" for none). A few netlink messages, some 100 µs."""
        self._mesh_address = mesh_address
        config = self._config
        addresses = [f"{text}/32" for text in (config.bridge_address, mesh_address) if text]
        try:
            enable_forwarding()
            self._links.ensure_bridge(config.bridge_device, addresses)
            self._links.apply_routes(config.bridge_device, {config.service_range: mesh_address})
            trouble = ""
        except LinkError as error:
            trouble = str(error)
        self._tell(trouble)

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.error("%s; trying again", trouble)
        elif self.trouble and not trouble:
            log.info("%s is well again", self._config.bridge_device)
        self.trouble = trouble

    async def run(self) -> None:
        """Look after it until cancelled."""
        with closing(self._changes) as changes:
            while True:
                with trio.move_on_after(RETRY if self.trouble else inf):
                    await trio.lowlevel.wait_readable(changes.fileno())
                    await trio.sleep(SETTLE)
                changed = changes.drain()
                if changed:
                    self._changed()
                if changed or self.trouble:
                    if self._mesh_address is None:
                        self.begin()
                    else:
                        self.set(self._mesh_address)
