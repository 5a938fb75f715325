"""The API's server in this process, on a loop in a thread: for tests that set its limits, or ask its parts."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sync.api.server import Options, Server
from tests.sync.api.apis import STARTS_WITHIN, Api, make_credentials

T = TypeVar("T")


class Inside:
    """`api` is a client's view, `server` the object; `do` runs a coroutine on its loop."""

    def __init__(self, api: Api, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.api = api
        self.server = server
        self._loop = loop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return _do(self._loop, work)


@contextlib.contextmanager
def running_inside(folder: Path) -> Iterator[Inside]:
    """Serve until the end of the block."""
    authority, context = make_credentials(folder)
    ca, pair = folder / "ca.crt", folder / "server.pem"
    server = Server(Options(port=0, certificate=pair, key=pair, client_ca=ca, database=folder / "api.db"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port = _do(loop, server.start())
        try:
            url = f"https://127.0.0.1:{port}"
            with contextlib.closing(Api("embedded", url, ca, Path(), context, authority, folder)) as api:
                yield Inside(api, server, loop)
        finally:
            _do(loop, server.stop())
            _do(loop, _rest())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _rest() -> None:
    """Let what was cancelled come to its end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*tasks, return_exceptions=True)


def _do(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(STARTS_WITHIN)
