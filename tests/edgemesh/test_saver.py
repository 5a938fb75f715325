"""The snapshot is saved a moment after a change, and what came last when the agent ends."""

from pathlib import Path

import pytest
import trio
import trio.testing

from edgemesh.saver import RETRY, SAVE_AFTER, Saver
from edgemesh.snapshot_file import SnapshotFile
from tests.edgemesh.running import eventually


class Writer(SnapshotFile):
    """Notes what is written, when; fails while `full`."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path / "snapshot"))
        self.written: list[bytes] = []
        self.tries = 0
        self.full = False

    def write(self, data: bytes) -> bool:
        self.tries += 1
        if not self.full:
            self.written.append(data)
        return not self.full


class Content:
    def __init__(self) -> None:
        self.version = 0

    def __call__(self) -> bytes:
        return str(self.version).encode()


@pytest.fixture
def content() -> Content:
    return Content()


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@trio.testing.trio_test
async def test_changes_are_gathered(autojump_clock: trio.testing.MockClock, content: Content, writer: Writer) -> None:
    saver = Saver(writer, content)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(saver.run)
        for content.version in range(5):
            saver.changed()
            await trio.sleep(SAVE_AFTER / 10)
        assert writer.written == []
        await eventually(lambda: writer.written == [b"4"])
        await trio.sleep(100)
        assert writer.written == [b"4"]
        nursery.cancel_scope.cancel()
    assert writer.written == [b"4"]


@trio.testing.trio_test
async def test_the_last_change_is_saved_at_the_end(content: Content, writer: Writer) -> None:
    saver = Saver(writer, content)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(saver.run)
        await trio.testing.wait_all_tasks_blocked()
        content.version = 7
        saver.changed()
        nursery.cancel_scope.cancel()
    assert writer.written == [b"7"]


@trio.testing.trio_test
async def test_nothing_is_written_for_nothing(content: Content, writer: Writer) -> None:
    saver = Saver(writer, content)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(saver.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert writer.tries == 0


@trio.testing.trio_test
async def test_a_failed_write_is_tried_again(
    autojump_clock: trio.testing.MockClock, content: Content, writer: Writer
) -> None:
    saver = Saver(writer, content)
    writer.full = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(saver.run)
        saver.changed()
        await eventually(lambda: writer.tries == 3, within=1000)
        writer.full = False
        await trio.sleep(RETRY + 1)
        await eventually(lambda: writer.written == [b"0"])
        nursery.cancel_scope.cancel()
