"""Keys are looked at once at a time, again if they changed, later if they failed."""

import itertools
import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from edgemesh.cloud.work import FIRST_RETRY, LAST_RETRY, Work
from sync.client.connection import ApiStatus, ApiUnreachable


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def work_on(work: Work[str], keys: list[str], seconds: float) -> None:
    """Tell it these keys, and let it run for a while."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work.run)
            work.add(keys)
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()

    run(main)


def test_a_key_that_changes_while_it_is_looked_at_is_looked_at_again() -> None:
    looks: list[tuple[str, int]] = []
    at_work = 0

    async def look(key: str) -> None:
        nonlocal at_work
        at_work += 1
        looks.append((key, at_work))
        if len(looks) == 1:
            work.add(["a", "b"])
        await trio.sleep(1)
        at_work -= 1

    work: Work[str] = Work("test", look)

    work_on(work, ["a"], 10)
    assert looks == [("a", 1), ("a", 1), ("b", 1)]


def test_no_two_workers_have_one_key() -> None:
    running: set[int] = set()
    done: list[int] = []

    async def look(key: int) -> None:
        assert key not in running
        running.add(key)
        await trio.sleep(0.3)
        running.discard(key)
        done.append(key)

    work: Work[int] = Work("test", look, workers=4)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work.run)
            for _ in range(20):
                work.add(range(3))  # fewer than workers: one that is free finds a key that another has
                await trio.sleep(0.1)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()

    run(main)
    assert set(done) == set(range(3))
    assert running == set()


def test_what_fails_is_tried_later_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    times: list[float] = []

    async def look(key: str) -> None:
        times.append(trio.current_time())
        if len(times) <= 4:
            raise ApiUnreachable("nobody there")

    work: Work[str] = Work("test", look)

    with caplog.at_level(logging.INFO):
        work_on(work, ["a"], 30)
    gaps = [round(b - a, 3) for a, b in itertools.pairwise(times)]
    assert gaps == [FIRST_RETRY, FIRST_RETRY * 2, FIRST_RETRY * 4, FIRST_RETRY * 8]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_conflict_is_a_race_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def look(key: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ApiStatus(409, "Conflict", "modified", {}, 0.0)

    work: Work[str] = Work("test", look)

    with caplog.at_level(logging.INFO):
        work_on(work, ["a"], 5)
    assert tries == 2
    assert not caplog.records


def test_a_reason_is_told_once_whatever_name_the_api_made_up(caplog: pytest.LogCaptureFixture) -> None:
    """A slice's name is generated: it is another in each refusal."""
    tries = 0
    why = ["is invalid: endpoints[0].addresses[0]: may not be loopback", "is forbidden: exceeded quota"]

    async def look(key: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 13:
            return
        if tries in (3, 8):
            raise ApiStatus(409, "Conflict", "modified", {})
        name = f"web-{tries:05}"
        text = f'endpointslices "{name}" {why[tries > 6]}'
        raise ApiStatus(422, "Invalid", text, {"details": {"name": name}})

    work: Work[str] = Work("endpoints of", look)

    with caplog.at_level(logging.INFO):
        work_on(work, ["shop/web"], 600)
    assert tries == 13
    assert [record.getMessage() for record in caplog.records] == [
        f'endpoints of shop/web: endpointslices "web-00001" {why[0]}: tried again',
        f'endpoints of shop/web: endpointslices "web-00007" {why[1]}: tried again',
        "endpoints of shop/web: done, after it had failed",
    ]


def test_a_key_that_changes_while_it_fails_is_retried_no_more_often(caplog: pytest.LogCaptureFixture) -> None:
    times: list[float] = []

    async def look(key: str) -> None:
        times.append(trio.current_time())
        raise ApiUnreachable("nobody there")

    work: Work[str] = Work("test", look)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work.run)
            for _ in range(100):
                work.add(["a"])
                await trio.sleep(0.1)
            times.clear()
            await trio.sleep(10 * LAST_RETRY)
            nursery.cancel_scope.cancel()

    run(main)
    assert 9 <= len(times) <= 11
    assert len(caplog.records) == 1
