"""From exec of a node's processes to what they do: the first answer, the first call, the direct path.

All of a node's processes are ended with `kill -9` and started at the same moment, as at its boot; key, port, snapshot
and table are on its disk. A client in a pod of it, itself already running, asks for a name and calls by HTTP, both
again every 5 ms, so that what is measured is the mesh and not the patience of a client.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from bench.sites import HTTP_PORT, ORDERS, Sites, wait
from e2e.lab.namespaces import BedError
from e2e.lab.topology import RESOLVER

PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Start:
    """Milliseconds from exec to the first answered name, the first answered call, and a path without the relay.

    `path` is what the call went by.
    """

    named: float
    called: float
    path: str
    direct: float


def start(sites: Sites, *nodes: str, call: str, down: float) -> Start:
    """Start the processes of `nodes`, all down for so many seconds; the first has a client in its pod `call`."""
    orders = sites.pod_of("orders", "shop").node.name
    client = sites.pod_of(call)
    sites.stop(*nodes)
    time.sleep(down)
    with sites.telling("first", client, name=ORDERS, server=RESOLVER, port=HTTP_PORT) as told:
        began = time.monotonic()
        _start(sites, nodes)
        said = told()
    if not said or not said["answered"]:
        raise BedError(f"no call was answered after {', '.join(nodes)} started")
    path = sites.path(nodes[0], orders)
    wait("a path without the relay", lambda: sites.path(nodes[0], orders) in ("direct", "lan"), PATIENCE)
    direct = time.monotonic()
    wait("all healthy", lambda: all(map(sites.status, nodes)), PATIENCE)
    named, called = ((float(at) - began) * 1e3 for at in (said["named"], said["answered"]))
    return Start(named, called, path, (direct - began) * 1e3)


def _start(sites: Sites, nodes: Iterable[str]) -> None:
    for name in nodes:
        sites.node(name).start_services()


def resolver(sites: Sites, name: str, call: str) -> float:
    """Milliseconds from exec of a node's resolver, alone, to its first answer, from its table on disk."""
    sites.stop(name)
    with sites.telling("first", sites.pod_of(call), name=ORDERS, server=RESOLVER, port=0) as told:
        began = time.monotonic()
        sites.node(name).start_service("resolver")
        said = told()
    took = (float(said["named"]) - began) * 1e3
    sites.node(name).start_services()
    wait(f"{name} healthy", lambda: sites.status(name), PATIENCE)
    return took
