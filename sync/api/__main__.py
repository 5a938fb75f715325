"""The API alone, for tests and benchmarks: `python -m sync.api --database FILE …`; `edgemesh cloud` is the product."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from pathlib import Path

from sync.api.access import TokenFileError
from sync.api.gate import more_descriptors
from sync.api.server import Options, Server
from sync.store import StoreFault


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Prints `ready https://HOST:PORT` when it does."""
    parser = argparse.ArgumentParser("python -m sync.api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    for name, text in (
        ("--certificate", "the server's certificate, PEM"),
        ("--key", "its key"),
        ("--client-ca", "certificates of those who sign clients' certificates"),
        ("--database", "the file; made if it is not there"),
    ):
        parser.add_argument(name, type=Path, required=True, help=text)
    parser.add_argument("--tokens", type=Path, help="a file, 0600, with lines of token,user,group,group…")
    parser.add_argument("--service-range", default="10.96.0.0/12")
    parser.add_argument("--advertise", default="", help="the address where nodes reach it")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    more_descriptors()
    try:
        asyncio.run(_serve(Options(**vars(given))))
    except (OSError, ssl.SSLError, StoreFault, TokenFileError) as error:
        print(f"python -m sync.api: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(options: Options) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = Server(options)
    port = await server.start()
    print(f"ready https://{options.host}:{port}", flush=True)
    await stopped.wait()
    await server.stop()


if __name__ == "__main__":
    sys.exit(main())
