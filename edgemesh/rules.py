"""The kernel's service rules, kept as they should be: changes as they come; what failed, and what somebody else took
away (a firewall that reloads begins with `nft flush ruleset`), a moment later.

What should be is said at once and never waits; one task brings the kernel there, in a thread, as a large load takes
a while. Changes that come meanwhile are gathered, the latest of each port, and go in one transaction.

Invariants: nothing is written before the first `set`: an agent that knows nothing yet must not empty a table that
serves. Changes reach the kernel in the order in which they were said. An error is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

import trio

from proxy.proxy import Proxy, ProxyError, ProxyStatus
from proxy.service import NodeNetwork, ServicePort

LOOK = 1.0
"""Seconds between looks at whether all is there, when no change comes first; one costs some 50 µs."""

log = logging.getLogger("edgemesh.agent")


class Rules:
    """See the module. `proxy` is used by `run` alone."""

    def __init__(self, network: NodeNetwork, proxy: Proxy | None = None) -> None:
        self._proxy = proxy or Proxy(network)
        self._network = network
        self._status = self._proxy.status()
        self._known = False
        self._whole: list[ServicePort] | None = None
        self._changed: dict[str, ServicePort | None] = {}
        self._work = trio.Event()

    def set(self, ports: Iterable[ServicePort]) -> None:
        """There should be these ports, and no more."""
        self._known = True
        self._whole = list(ports)
        self._changed = {}
        self._work.set()

    def update(self, changed: Iterable[ServicePort], gone: Iterable[str]) -> None:
        """These ports should be so, and those (by name) should be gone."""
        self._changed |= dict.fromkeys(gone)
        self._changed |= {port.name: port for port in changed}
        if self._changed:
            self._work.set()

    def set_network(self, network: NodeNetwork) -> None:
        """The node's addresses and ranges should be these."""
        if network != self._network:
            self._network = network
            self._work.set()

    def status(self) -> ProxyStatus:
        """How it stood after the last change."""
        return self._status

    async def run(self) -> None:
        """Keep the kernel so until cancelled; a change that is under way is finished first."""
        told: str | None = None
        while True:
            with trio.move_on_after(LOOK):
                await self._work.wait()
            said = self._work.is_set()
            self._work = trio.Event()
            if not self._known or (not said and self._proxy.intact()):
                continue
            whole, self._whole = self._whole, None
            changed, self._changed = self._changed, {}
            await trio.to_thread.run_sync(self._write, self._network, whole, changed)
            error = self._status.error
            if error and error != told:
                log.error("%s", error)
            told = error

    def _write(
        self, network: NodeNetwork, whole: list[ServicePort] | None, changed: dict[str, ServicePort | None]
    ) -> None:
        """Bring the proxy up to date. It remembers what should be when a call fails, and the next call repairs."""
        proxy = self._proxy
        with suppress(ProxyError):
            proxy.set_network(network)
        with suppress(ProxyError):
            if whole is not None:
                ports = {port.name: port for port in whole} | changed
                proxy.apply({name: port for name, port in ports.items() if port})
            elif changed or not proxy.intact():
                present = [port for port in changed.values() if port]
                proxy.update(present, [name for name, port in changed.items() if not port])
        self._status = proxy.status()
