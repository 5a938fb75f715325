"""Writes, reads and lists of the past."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from sync.store import Ahead, Change, Closed, Entry, Expired, Key, Store, StoreFault
from tests.sync.store.stores import delete, empty, fill, opened, pod, put, run, until


def test_revisions_begin_as_etcds_do_and_are_one_counter(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            assert (store.revision, store.compacted) == (1, 0)
            made = await put(store, pod("a"))
            other = await put(store, Key("nodes", "", "n"))
            changed = await put(store, pod("a"))
            gone = await delete(store, pod("a"))
            assert [each.revision for each in (made, other, changed, gone)] == [2, 3, 4, 5]
            assert (made.created, changed.created, gone.created) == (2, 2, 2)
            assert gone.data == b"5 gone"
            assert store.get(pod("a")) is None
            assert store.get(other.key) == other
            assert (await put(store, pod("a"))).created == 6

    run(test)


def test_a_change_sees_what_is_not_durable_yet(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            seen: list[tuple[int | None, int]] = []

            def change(head: Entry | None, revision: int) -> Change:
                seen.append((head and head.revision, revision))
                return Change(b"", deleted=len(seen) == 3)

            tasks = [asyncio.ensure_future(store.write(pod("a"), change)) for _ in range(5)]
            await asyncio.sleep(0)
            assert store.get(pod("a")) is None
            assert [entry.revision for entry in store.heads("pods")] == [6]
            assert list(store.heads("nodes")) == []
            await asyncio.gather(*tasks)
            assert seen == [(None, 2), (2, 3), (3, 4), (None, 5), (5, 6)]
            assert [entry.revision for entry in store.heads("pods")] == [6]
            assert [entry.created for entry in store.heads("pods")] == [5]

    run(test)


def test_leaving_it_waits_for_what_it_saw(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            assert await store.write(pod("a"), lambda head, revision: None) is None
            writing = asyncio.ensure_future(put(store, pod("a")))
            await asyncio.sleep(0)
            head = await store.write(pod("a"), lambda head, revision: None)
            assert head is not None
            assert store.get(pod("a")) == head == await writing
            assert store.revision == 2

    run(test)


def test_a_change_that_raises_writes_nothing_and_takes_no_revision(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:

            def refuse(head: Entry | None, revision: int) -> Change:
                raise LookupError(revision)

            with pytest.raises(LookupError, match="2"):
                await store.write(pod("a"), refuse)
            with pytest.raises(ValueError, match="there is none"):
                await delete(store, pod("a"))
            assert (await put(store, pod("a"))).revision == 2

    run(test)


def test_writes_of_one_turn_are_one_commit_and_later_ones_the_next(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            sizes: list[int] = []
            append = store._log.append
            store._log.append = lambda events: (sizes.append(len(events)), append(events))[1]  # type: ignore[method-assign,func-returns-value]
            await asyncio.gather(*(put(store, pod(str(number))) for number in range(150)))
            assert sizes == [150]
            first = asyncio.ensure_future(put(store, pod("x")))
            await until(lambda: len(sizes) == 2)
            await asyncio.gather(first, *(put(store, pod(str(number))) for number in range(5)))
            assert sizes == [150, 1, 5]

    run(test)


def test_a_cancelled_writer_leaves_the_others_and_its_write(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            tasks = [asyncio.ensure_future(put(store, pod(str(number)))) for number in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results[1], asyncio.CancelledError)
            assert store.get(pod("2")) == results[2]
            assert store.get(pod("1")) is not None

    run(test)


def test_a_full_disk_fails_all_that_was_under_way_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            kept = await put(store, pod("a"))
            watch = store.watch("pods", since=store.revision)
            fill(store)
            big = "x" * 100_000
            flying = asyncio.ensure_future(put(store, pod("a"), big))
            await until(lambda: store._commits is not None and store._commits._flying is not None)
            # computed upon the one that is under way
            waiting = [asyncio.ensure_future(put(store, pod(name))) for name in ("a", "b")]
            left = asyncio.ensure_future(store.write(pod("a"), lambda head, revision: None))
            for each in (flying, *waiting, left):
                with pytest.raises(StoreFault, match=r"db: database or disk is full: nothing was written. Make room"):
                    await each
            assert store.get(pod("a")) == kept
            assert list(store.heads("pods")) == [kept]
            assert store.revision == 2
            assert "full" in store.status().fault
            with pytest.raises(StoreFault, match="full"):
                await put(store, pod("a"), big)
            empty(store)
            written = await put(store, pod("a"), big)
            assert written.revision > 5, "a revision of a failed commit was given again"
            assert store.status().fault == ""
            assert [event.entry for event in await watch.next()] == [written]
        async with opened(tmp_path / "db") as store:
            assert store.list("pods").entries == [written]

    run(test)
    assert [record.levelname for record in caplog.records if "write" in record.message] == ["ERROR"]


def test_rows_of_a_commit_that_was_told_as_failed_are_taken_out(tmp_path: Path) -> None:
    """An fsync that fails leaves it open whether the rows are in the file."""

    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            append = store._log.append

            def doubtful(events: object) -> None:
                last = store._log.last
                append(events)  # type: ignore[arg-type]
                store._log.last, store._log._doubt = last, True
                raise StoreFault("fsync failed")

            store._log.append = doubtful  # type: ignore[method-assign]
            with pytest.raises(StoreFault, match="fsync failed"):
                await put(store, pod("lost"))
            store._log.append = append  # type: ignore[method-assign]
            assert (await put(store, pod("kept"))).revision == 3
        async with opened(tmp_path / "db") as store:
            assert [entry.key.name for entry in store.list("pods").entries] == ["kept"]
            assert [event.revision for event in await store.watch("pods", since=1).next()] == [3]

    run(test)


def test_a_list_is_a_snapshot_by_namespace_and_name_page_by_page(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            for number in range(5):
                for namespace in ("shop", "bank"):
                    await put(store, pod(str(number), namespace))
            await put(store, Key("pods.example.org", "bank", "other"))
            at = store.revision
            before = store.list("pods").entries
            assert [entry.key[1:] for entry in before] == [(ns, str(n)) for ns in ("bank", "shop") for n in range(5)]
            page = store.list("pods", limit=3)
            assert (page.entries, page.revision, page.remaining) == (before[:3], at, 7)
            await delete(store, pod("1", "bank"))
            await delete(store, pod("4", "bank"))
            await put(store, pod("0", "shop"))
            await put(store, pod("3x", "bank"))
            collected = list(page.entries)
            while page.remaining:
                page = store.list("pods", at=at, after=page.entries[-1].key[1:], limit=3)
                assert page.revision == at
                assert len(collected) + len(page.entries) + page.remaining == 10
                collected += page.entries
            assert collected == before
            assert store.list("pods", "shop", at=at).entries == before[5:]
            assert [entry.key.name for entry in store.list("pods", "bank").entries] == ["0", "2", "3", "3x"]
            assert store.list("services").entries == []
            with pytest.raises(Ahead):
                store.list("pods", at=store.revision + 1)
            await store.compact(at + 1)
            with pytest.raises(Expired, match=f"{at} is compacted, the oldest is {at + 1}"):
                store.list("pods", at=at)
            assert len(store.list("pods", at=at + 1).entries) == 9

    run(test)


def test_old_events_are_forgotten_by_an_idle_store_which_then_sleeps(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db", keep_seconds=0.05) as store:
            await put(store, pod("a"))
            await put(store, pod("a"))
            await delete(store, pod("a"))
            await put(store, pod("b"))
            await until(lambda: store._log.compacted == 5 and not store.status().events)
            assert store.compacted == 5
            await until(lambda: store._timer is None)
            assert [row.revision for row in store._log.rows()] == [5]
        async with opened(tmp_path / "db", keep_seconds=0.05) as store:
            assert (store.revision, store.compacted) == (5, 5)
            assert store._timer is None
            await put(store, pod("b"))
        async with opened(tmp_path / "db", keep_seconds=0.05) as store:
            await until(lambda: store._log.compacted == 6)  # also what was there when it was opened

    run(test)


def test_the_file_says_so_too_when_what_is_forgotten_leaves_no_row(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db", keep_seconds=0.05) as store:
            await put(store, pod("a"))
            await until(lambda: store._log.compacted == 2)
            await put(store, pod("b"))
            await until(lambda: store._log.compacted == 3)

    run(test)


def test_a_counter_survives_that_all_is_deleted_and_compacted(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            await put(store, pod("a"))
            await delete(store, pod("a"))
            await store.compact(3)
            assert list(store._log.rows()) == []
        async with opened(tmp_path / "db") as store:
            assert (store.revision, store.compacted) == (3, 3)
            assert (await put(store, pod("a"))).revision == 4

    run(test)


def test_the_file_gives_room_back_and_its_log_starts_anew(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db", keep=100) as store:
            sizes = []
            for _round in range(12):
                for turn in range(5):
                    text = f"{turn}" * 20_000
                    await asyncio.gather(*(put(store, pod(str(number)), text) for number in range(40)))
                sizes.append(store.status().file_bytes)
            # 4 MB are written a round; living and kept are less than 3 MB, the log 4 MiB and one commit
            assert max(sizes[4:]) < 20 << 20
            assert sizes[-1] <= max(sizes[2:6]) * 1.2
            full = store.path.stat().st_size
            for number in range(40):
                await delete(store, pod(str(number)))
            await store.compact(store.revision)
            for _turn in range(2000):
                await put(store, pod("small"))
            assert store.path.stat().st_size < full / 2

    run(test)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        store = Store(tmp_path / "db")
        with pytest.raises(Closed):
            await put(store, pod("a"))
        await store.open()
        writing = [asyncio.ensure_future(put(store, pod(str(number)))) for number in range(5)]
        watch = store.watch("pods", since=1)
        idle = store.watch("nodes", since=1)
        waiting = asyncio.ensure_future(idle.next())
        await asyncio.sleep(0)
        await store.close()
        assert [entry.revision for entry in await asyncio.gather(*writing)] == [2, 3, 4, 5, 6]
        for ended in (watch.next(), waiting):
            with pytest.raises(Closed):
                await ended
        with pytest.raises(Closed):
            await put(store, pod("b"))
        with pytest.raises(Closed):
            await store.compact(2)
        with pytest.raises(RuntimeError, match="opened once"):
            await store.open()
        await store.close()

    run(test)


def test_what_is_in_the_history_is_bounded_by_bytes(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db", keep_bytes=10_000) as store:
            sizes = []
            for _ in range(30):
                await put(store, pod("a"), "x" * 1000)
                sizes.append(store.status().event_bytes)
            assert max(sizes) <= 10_000
            assert all(b <= 10_000 and b > 7_000 for _, b in pairwise(sizes[10:]))

    run(test)
