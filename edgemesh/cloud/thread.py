"""A trio loop in a thread, beside asyncio's in the main one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class TrioThread:
    """`main` runs there until it ends or `stop`; `call` runs a function there for asyncio."""

    def __init__(self, main: Callable[[], Awaitable[None]]) -> None:
        self._main = main
        self._begun: Future[tuple[trio.lowlevel.TrioToken, trio.Nursery]] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="controllers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def ended(self) -> None:
        """Wait for its end; raises what ended it."""
        await asyncio.shield(asyncio.wrap_future(self._ended))

    async def stop(self) -> None:
        """Cancel what runs there, and wait for it."""
        if not self._thread.ident:
            return
        with contextlib.suppress(Exception):
            token, nursery = await asyncio.wrap_future(self._begun)
            token.run_sync_soon(nursery.cancel_scope.cancel)
            await self.ended()

    async def call(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Run an async function of trio's; raises as it does, trio.RunFinishedError once the thread has ended."""
        token, nursery = await asyncio.wrap_future(self._begun)
        future: Future[T] = Future()

        async def inside() -> None:
            try:
                future.set_result(await function(*arguments))
            except Exception as error:
                future.set_exception(error)
            finally:
                future.cancel()  # of what was cancelled; nothing where there is a result

        token.run_sync_soon(nursery.start_soon, inside)
        return await asyncio.wrap_future(future)

    def _run(self) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                self._begun.set_result((trio.lowlevel.current_trio_token(), nursery))
                await self._main()
                nursery.cancel_scope.cancel()

        try:
            trio.run(main)
        except BaseException as error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
