"""A node for tests: a mesh from a file of JSON, a line of JSON whenever its paths change. Or a relay.

`node.py FILE` or `node.py --relay HOST PORT`; the file has hex keys, so that none is in the arguments.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import trio

from tunnel.control.uapi import UapiEngine
from tunnel.endpoint import Address
from tunnel.links import Links
from tunnel.mesh import Mesh
from tunnel.paths.socket import PathSocket
from tunnel.peer import LocalNode, Peer
from tunnel.relay.forward import Relay

STARTED = time.monotonic()


async def run_node(config: dict[str, Any]) -> None:
    relays = tuple(Address(*relay) for relay in config["relays"])
    key = bytes.fromhex(config["key"])
    node = LocalNode(config["name"], key, config["port"], config["mesh"], relays)
    peers = {
        peer["name"]: Peer(
            peer["name"],
            bytes.fromhex(peer["key"]),
            tuple(peer["allowed"]),
            tuple(Address(*lan) for lan in peer.get("lan", [])),
            relays,
        )
        for peer in config["peers"]
    }
    mesh = Mesh(node, UapiEngine(Path(config["socket"])), PathSocket, Links())
    mesh.apply(peers)
    async with trio.open_nursery() as nursery:
        await nursery.start(mesh.run)
        while True:
            paths = [
                {
                    "name": path.name,
                    "kind": path.kind,
                    "endpoint": path.endpoint,
                    "rtt": path.round_trip,
                    "handshake": path.last_handshake,
                    "reason": path.reason,
                }
                for path in mesh.paths()
            ]
            told = {"after": time.monotonic() - STARTED, "at": time.time(), "paths": paths, "trouble": mesh.trouble}
            print(json.dumps(told), flush=True)
            with trio.move_on_after(1):
                await mesh.changed()


async def run_relay(host: str, port: int) -> None:
    await Relay().run(Address(host, port))


if __name__ == "__main__":
    if sys.argv[1] == "--relay":
        trio.run(run_relay, sys.argv[2], int(sys.argv[3]))
    else:
        trio.run(run_node, json.loads(Path(sys.argv[1]).read_text()))
