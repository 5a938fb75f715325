"""Two machines with one identity, as the cloud sees them by their lease."""

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.cloud.housekeeping import MEMORY, Holders


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
