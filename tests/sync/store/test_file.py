"""The file: whose it is, who may read it, and what is said of one that can't be used."""

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from sync.store import Store, StoreFault
from sync.store.log import Log
from tests.sync.store.stores import opened, pod, put, run


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


async def refused(path: Path, match: str) -> None:
    """It can't be opened, for that reason, and is as it was."""
    before = content(path)
    with pytest.raises(StoreFault, match=match) as told:
        await Store(path).open()
    assert str(path) in str(told.value)
    assert content(path) == before


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "db"
        async with opened(path) as store:
            await put(store, pod("a"))
            assert modes(tmp_path) == {"db": 0o600, "db-wal": 0o600}
        path.chmod(0o644)
        async with opened(path):
            assert modes(tmp_path)["db"] == 0o600

    run(test)


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """What `kill -9` can't show: that power may fail, too."""
    log = Log(tmp_path / "db")
    log.open()
    try:
        asked = {
            name: log._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        }
    finally:
        log.close()
    assert asked == {"journal_mode": "wal", "synchronous": 2}  # FULL


def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "db"
        async with opened(path) as store:
            await put(store, pod("a"))
            program = (
                "import asyncio, pathlib, sys\nfrom sync.store import Store\n"
                "asyncio.run(Store(pathlib.Path(sys.argv[1])).open())"
            )
            second = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path), stderr=PIPE)
            _, told = await second.communicate()
            assert second.returncode == 1
            assert b"another process has it open. Stop that one first, or name another file" in told
            await refused(path, "another process has it open")
            await put(store, pod("b"))
        async with opened(path) as store:
            assert len(store.list("pods").entries) == 2

    run(test)


def test_a_torn_file_is_named_and_kept(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "db"
        async with opened(path) as store:
            for number in range(200):
                await put(store, pod(str(number)), "x" * 500)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2 + 100])
        await refused(path, r"malformed: it is damaged. Put a copy of the store in its place, or move it away")
        path.write_bytes(whole[:20_480] + b"\xff" * 20_480 + whole[40_960:])
        await refused(path, r"it is damaged")
        path.write_bytes(b"\xff" * 100 + whole[100:])
        await refused(path, r"not a database: nothing was changed")
        path.write_bytes(whole)
        async with opened(path) as store:
            assert len(store.list("pods").entries) == 200

    run(test)


def test_a_foreign_file_is_named_and_kept(tmp_path: Path) -> None:
    async def test() -> None:
        text = tmp_path / "text"
        text.write_text("hello\n" * 1000)
        await refused(text, "not a database: nothing was changed")
        foreign = tmp_path / "foreign"
        with sqlite3.connect(foreign) as connection:
            connection.execute("CREATE TABLE log (a)")
        connection.close()
        await refused(foreign, "a database of another program: nothing was changed")
        await refused(tmp_path, "store|unable to open")
        await refused(tmp_path / "none" / "db", "its folder must exist")

    run(test)


def test_a_later_format_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "db"
        async with opened(path):
            pass
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version=7")
        connection.close()
        await refused(path, "has format 7, this version reads 1: nothing was changed. Run the version that wrote it")

    run(test)


def test_a_file_that_was_only_begun_is_taken(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "db"
        path.touch(0o600)
        async with opened(path) as store:
            await put(store, pod("a"))
        begun = tmp_path / "begun"
        connection = sqlite3.connect(begun)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        async with opened(begun) as store:
            assert store.revision == 1

    run(test)
