"""Two machines with one identity, as the cloud sees them by their lease."""

import time
from pathlib import Path

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.cloud.housekeeping import LEASES_EVERY, MEMORY, Clone, Holders, Housekeeping
from edgemesh.cloud.state import State
from edgemesh.lease import PERIOD, Lease, transitions
from sync.client.connection import Api
from tests.edgemesh.test_lease import Store
from tests.sync.client.serving import response, saying, serving


def test_an_agent_that_starts_again_is_one_machine() -> None:
    holders = Holders()
    for number in range(20):
        assert holders.see("a", f"a_{number}", number * 5.0) is None


def test_a_lease_that_goes_back_and_forth_is_two() -> None:
    holders = Holders()
    seen = [holders.see("a", f"a_{number % 2}", number * 10.0) for number in range(6)]
    found = next(each for each in seen if each)
    assert found.node == "a"
    assert set(found.holders) == {"a_0", "a_1"}


@given(st.lists(st.sampled_from("xyz"), max_size=40))
def test_slow_changes_are_not_told(whose: list[str]) -> None:
    holders = Holders()
    assert not any(holders.see("a", holder, number * (MEMORY + 1)) for number, holder in enumerate(whose))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=60))
def test_a_clone_is_told_only_of_a_holder_that_came_back(seen: list[tuple[str, str]]) -> None:
    holders = Holders()
    history: dict[str, list[str]] = {}
    for number, (node, holder) in enumerate(seen):
        found = holders.see(node, holder, float(number))
        history.setdefault(node, []).append(holder)
        if found:
            assert found.holders[1] == holder
            assert history[node].count(holder) > 1
            assert len(set(history[node])) > 1


def test_two_that_write_at_the_same_moments_are_seen_by_the_count() -> None:
    """The cloud looks between, and always finds the second of them."""
    store, one, two, holders = Store(), Lease("a", "one"), Lease("a", "two"), Holders()
    found = None
    for number in range(5):
        now = number * PERIOD
        store.renew(one, now)
        store.renew(two, now + 0.01)
        spec = store.lease["spec"]
        assert spec["holderIdentity"] == two.holder
        found = found or holders.see("a", two.holder, now + 5, transitions(store.lease))
    assert found == Clone("a", ("one not seen yet", two.holder))


def test_restarts_do_not_count() -> None:
    store, holders = Store(), Holders()
    for start in range(8):
        lease = Lease("a", str(start))
        for number in range(2):
            now = (start * 2 + number) * PERIOD
            store.renew(lease, now)
            assert holders.see("a", lease.holder, now, transitions(store.lease)) is None


@trio.testing.trio_test
async def test_two_are_told_once_and_again_if_it_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    caplog.set_level("INFO", "edgemesh.cloud")
    async with serving(saying(response({}))) as server, Api(server.access) as api:
        house = Housekeeping(api, State(tmp_path, None), lambda serials: None, embedded=True)  # type: ignore[arg-type]

        async def look(holder: str) -> None:
            nonlocal now
            now += LEASES_EVERY
            lease = {"metadata": {"name": "a"}, "spec": {"holderIdentity": holder}}
            server.answer = saying(response({"items": [lease]}), response({}))
            await house._look_at_leases()

        def events() -> int:
            return sum(asked.method == "POST" and asked.path.endswith("/events") for asked in server.asked)

        for times in (1, 2):
            for number in range(100):
                await look(f"a_{number % 2}")
            assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR"][: 2 * times - 1]
            assert events() == times
            for _ in range(int(MEMORY / LEASES_EVERY) + 1):
                await look("a_0")
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"] * 2
        assert events() == 2
