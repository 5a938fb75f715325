"""The turns of the thread that has the file: commits of what came while the last one ran, and tidying between them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from sync.store.compaction import Compaction
from sync.store.entry import Closed, Event, StoreFault
from sync.store.history import History
from sync.store.log import Log

logger = logging.getLogger(__name__)

PORTION = 500
"""Rows that are deleted at a time; as many gather before it is done."""


class Batch:
    """Writes of one commit."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.events: list[Event] = []
        self.done: asyncio.Future[str] = loop.create_future()
        """The fault's text, or empty: durable. A text, so that each writer raises an exception of its own."""


class Commits:
    """Group commit. Writes of one turn of the loop go together; those that come while a commit runs, into the next.

    `landed` is called with the events of each batch once durable, before its writers go on. If a commit fails, so do
    the writes that wait for the next one, since they were computed upon it: `failed` is called, and all begin anew
    from what is durable.
    """

    def __init__(
        self,
        log: Log,
        history: History,
        compaction: Compaction,
        landed: Callable[[Sequence[Event]], None],
        failed: Callable[[], None],
    ) -> None:
        self.fault = ""
        """Why the last turn failed; empty: it did not."""
        self._log = log
        self._history = history
        self._compaction = compaction
        self._landed = landed
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "store")
        self._flying: Batch | None = None
        self._waiting: Batch | None = None
        self._tidying: asyncio.Future[None] | None = None
        self._to_the_end = False
        self._closed = False

    async def call(self, function: Callable[[], None]) -> None:
        """Run something in the thread that has the file."""
        await self._loop.run_in_executor(self._thread, function)

    def add(self, event: Event) -> Batch:
        """Take a write into the next commit."""
        if self._waiting is None:
            self._waiting = Batch(self._loop)
            if self._flying is None:
                self._loop.call_soon(self._take_off)  # what else this turn of the loop writes goes with it
        self._waiting.events.append(event)
        return self._waiting

    async def durable(self, revision: int) -> None:
        """Wait for a write that is not durable yet; raises StoreFault if its commit fails."""
        for batch in (self._flying, self._waiting):
            if batch is not None and revision <= batch.events[-1].revision:
                await self.landing(batch)
                return

    async def landing(self, batch: Batch) -> None:
        """Wait until a batch is durable; raises StoreFault. Who stops waiting leaves the write as it is."""
        if fault := await asyncio.shield(batch.done):
            raise StoreFault(fault)

    def tidy(self, *, to_the_end: bool = False) -> None:
        """Delete a portion of the rows that nobody needs, or portion by portion all, and what else is due."""
        self._to_the_end |= to_the_end
        if self._tidying is None:
            rows = list(islice(self._compaction.rows, PORTION))
            self._tidying = self._loop.run_in_executor(self._thread, self._log.tidy, rows, self._history.compacted)
            self._tidying.add_done_callback(lambda done: self._tidied(len(rows), done))

    async def sweep(self) -> None:
        """Tidy until nothing is left to do; raises StoreFault."""
        while self._compaction.rows or self._log.compacted != self._history.compacted or self._log.tidy_due:
            if self._closed:
                raise Closed("the store was closed")
            self.tidy(to_the_end=True)
            assert self._tidying is not None
            await asyncio.shield(self._tidying)

    async def close(self) -> None:
        """Finish the commits, and let go of the thread and the file."""
        self._closed = True
        while batch := self._flying or self._waiting:
            await asyncio.shield(batch.done)
        await self.call(self._log.close)
        self._thread.shutdown()

    def _take_off(self) -> None:
        if self._flying is not None or self._waiting is None:
            return
        batch, self._waiting = self._waiting, None
        self._flying = batch
        turn = self._loop.run_in_executor(self._thread, self._log.append, batch.events)
        turn.add_done_callback(lambda done: self._land(batch, done))

    def _land(self, batch: Batch, turn: asyncio.Future[None]) -> None:
        self._flying = None
        error = turn.exception()
        self._say(error)
        if error is not None:
            lost = [batch, self._waiting] if self._waiting else [batch]
            self._waiting = None
            self._failed()
            for each in lost:
                each.done.set_result(str(error) or repr(error))
            return
        self._landed(batch.events)
        batch.done.set_result("")
        self._tidy_if_due()
        self._take_off()

    def _tidied(self, count: int, turn: asyncio.Future[None]) -> None:
        self._tidying = None
        error = turn.exception()
        self._say(error)
        if error is None:
            for _ in range(count):
                self._compaction.rows.popleft()
            self._to_the_end &= bool(self._compaction.rows)
            self._tidy_if_due()

    def _tidy_if_due(self) -> None:
        if not self._closed and (self._to_the_end or len(self._compaction.rows) >= PORTION or self._log.tidy_due):
            self.tidy()

    def _say(self, error: BaseException | None) -> None:
        fault = "" if error is None else str(error) or repr(error)
        if fault and fault != self.fault:
            logger.error("the store can't write: %s", fault)
        elif self.fault and not fault:
            logger.info("the store writes again")
        self.fault = fault
