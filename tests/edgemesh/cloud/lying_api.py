"""The API of a cloud in somebody else's hands: certificate and database of the server, not the key of the CA.

    lying_api.py STATE HOST PORT

It serves what its administrator writes, and takes nothing from nodes: no node can put right what is said of it. Nobody
gives out addresses any more, or keeps the list of the revoked.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from edgemesh.names import NODES
from sync.api import rules
from sync.api.access import User
from sync.api.server import Options, Server
from sync.store import Store

honest = rules.authorize


def authorize(user: User, asked: rules.Request, store: Store) -> rules.Decision:
    """Nodes read, and no more."""
    if NODES in user.groups and asked.verb not in rules.READ:
        return rules.Decision(False, "this API takes nothing from nodes")
    return honest(user, asked, store)


async def main(state: Path, host: str, port: int) -> None:
    rules.authorize = authorize
    files = (state / name for name in ("server.crt", "server.key", "ca.crt", "api.db"))
    certificate, key, ca, database = files
    server = Server(
        Options(host=host, port=port, certificate=certificate, key=key, client_ca=ca, database=database, advertise=host)
    )
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
