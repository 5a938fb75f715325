"""Watches: what they are told, from where, and what becomes of slow ones."""

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from sync.store import Ahead, Closed, Expired, Key
from tests.sync.store.stores import delete, given, opened, pod, put, run, until


def test_a_watch_begins_in_the_past_and_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            await put(store, pod("a"))
            first = await put(store, pod("b"))
            changed = await put(store, pod("b"))
            watch = store.watch("pods", since=2)
            gone = await delete(store, pod("b"))
            events = await given(watch, gone.revision)
            assert [(event.type, event.entry) for event in events] == [
                ("ADDED", first),
                ("MODIFIED", changed),
                ("DELETED", gone),
            ]
            assert [event.previous for event in events] == [None, first, changed]
            assert watch.revision == gone.revision
            for since in (-1, store.revision + 1):
                with pytest.raises(Expired if since < 0 else Ahead):
                    store.watch("pods", since=since)
            await store.compact(4)
            with pytest.raises(Expired):
                store.watch("pods", since=3)
            assert [event.revision for event in await store.watch("pods", since=4).next()] == [5]

    run(test)


def test_a_watch_is_of_a_resource_a_namespace_or_a_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            keys = [pod("a"), pod("b"), pod("a", "bank"), Key("nodes", "", "a"), Key("nodes", "", "b")]
            scopes = [("pods", "", ""), ("pods", "shop", ""), ("pods", "shop", "a"), ("pods", "", "a")]
            scopes += [("nodes", "", ""), ("nodes", "", "b")]
            live = [store.watch(*scope, since=1) for scope in scopes]
            await asyncio.gather(*(put(store, key) for key in keys))
            late = [store.watch(*scope, since=1) for scope in scopes]
            wanted = [[2, 3, 4], [2, 3], [2], [2, 4], [5, 6], [6]]
            for watches in (live, late):
                assert [[event.revision for event in await watch.next()] for watch in watches] == wanted
                assert [watch.revision for watch in watches] == [6] * 6

    run(test)


def test_a_batch_is_one_wake_up_with_the_same_events_for_all(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            waiting = [asyncio.ensure_future(store.watch("pods", since=1).next()) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.gather(*(put(store, pod(str(number))) for number in range(50)))
            first, *others = await asyncio.gather(*waiting)
            assert len(first) == 50
            for other in others:
                assert all(a is b for a, b in zip(first, other, strict=True))

    run(test)


def test_a_bookmark_promises_no_more_than_was_given(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            watch = store.watch("pods", since=1)
            assert watch.progress() == 1
            await put(store, Key("nodes", "", "n"))
            assert watch.progress() == 2
            await put(store, pod("a"))
            await put(store, Key("nodes", "", "n"))
            assert watch.progress() == 2
            await watch.next()
            assert watch.progress() == 4
            watch.close()
            await put(store, pod("a"))
            assert watch.progress() == 4

    run(test)


def test_a_reader_that_gave_up_waiting_misses_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db") as store:
            watch = store.watch("pods", since=1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(watch.next(), 0.01)
            waiting = asyncio.ensure_future(watch.next())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one reader"):
                await watch.next()
            writing = asyncio.ensure_future(put(store, pod("a")))
            await until(lambda: bool(watch._queue))
            waiting.cancel()  # woken, and cancelled before it ran
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await writing
            assert [event.revision for event in await watch.next()] == [2]
            watch.close()
            watch.close()
            with pytest.raises(Closed):
                await watch.next()
            assert store.status().watches == 0

    run(test)


def test_a_hundred_watchers_that_stop_reading_are_cut_off_and_cost_nothing_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db", keep=100, watch_events=50) as store:
            reader = store.watch("pods", since=1)
            stuck = [store.watch("pods", since=1) for _ in range(100)]
            large = store.watch("pods", "shop", since=1)
            tracemalloc.start()
            try:
                seen: list[int] = []
                for number in range(2000):
                    await put(store, pod(str(number % 10)), "x" * 10_000)
                    seen += [event.revision for event in await reader.next()]
                    if number == 100:
                        assert store.status().watches == 1
                        assert store.status().watches_expired == 101
                kept = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
            assert seen == list(range(2, 2002))
            assert kept < 4_000_000, "20 MB were written, 1.1 MB are in state and history"
            for watch in (*stuck, large):
                with pytest.raises(Expired, match="too slow"):
                    await watch.next()
                assert watch.revision == 1

    run(test)


def test_a_watcher_is_cut_off_by_bytes_too_but_never_for_one_batch(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "db", watch_bytes=10_000, watch_events=5) as store:
            watch = store.watch("pods", since=1)
            await asyncio.gather(*(put(store, pod(str(number)), "x" * 5_000) for number in range(20)))
            assert len(await watch.next()) == 20
            await put(store, pod("a"), "x" * 9_000)
            await put(store, pod("a"), "x" * 2_000)
            with pytest.raises(Expired):
                await watch.next()

    run(test)
