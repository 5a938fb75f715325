"""Keeps the snapshot on disk as it changes, so that a node that boots without anybody serves at once.

Changes are gathered for a moment, then the file is replaced in a thread: a disk may take a second. What has changed
since the last time is written when the agent ends.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from edgemesh.snapshot_file import SnapshotFile

SAVE_AFTER = 0.5
"""Seconds that changes are gathered."""
RETRY = 5.0
"""Seconds until a write that failed is tried again, whether anything changed or not."""


class Saver:
    """`document` gives the file's content as it should be now."""

    def __init__(self, file: SnapshotFile, document: Callable[[], bytes]) -> None:
        self._file = file
        self._document = document
        self._unsaved = trio.Event()

    def changed(self) -> None:
        """The file is out of date."""
        self._unsaved.set()

    async def run(self) -> None:
        """Save until cancelled, and then once more if there is anything unsaved."""
        try:
            while True:
                await self._unsaved.wait()
                await trio.sleep(SAVE_AFTER)
                if not await self._save():
                    await trio.sleep(RETRY - SAVE_AFTER)
        finally:
            if self._unsaved.is_set():
                self._file.write(self._document())

    async def _save(self) -> bool:
        """Write once; a document lives no longer than that, since it is as large as all objects."""
        document = self._document()
        self._unsaved, saved = trio.Event(), False
        try:
            saved = await trio.to_thread.run_sync(self._file.write, document)
        finally:
            if not saved:
                self._unsaved.set()
        return saved
