"""Rounds and volleys."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tunnel.paths.punch import HURRIES, HURRIES_IN, LEAD, SILENCE, VOLLEYS, Punch, plan


def test_later_rounds_keep_silence_and_swap_who_is_first() -> None:
    rounds = [plan(failed, worked=False) for failed in range(3, 11)]
    assert all(r.pause >= SILENCE for r in rounds)
    assert [(r.mine, r.theirs) for r in rounds] == [(0.0, LEAD), (LEAD, 0.0)] * 4
    assert plan(1000, worked=False).pause < 600


def test_a_path_that_worked_is_tried_again_soon_and_for_ever() -> None:
    pauses = [plan(failed, worked=True).pause for failed in range(40)]
    assert pauses[0] <= 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == 15.0


def test_a_round_has_all_its_volleys() -> None:
    punch = Punch(10.0)
    assert punch.begun(9.0, leads=True) is None
    assert punch.begun(10.0, leads=True) == 0.0
    sent = []
    now = 10.0
    while punch.deadline() < 11.9:
        now = max(now, punch.deadline())
        if punch.due(now):
            sent.append(round(now - 10.0, 3))
    assert tuple(sent) == VOLLEYS
    assert punch.deadline() == 12.0, "the next round"


def test_volleys_slept_through_are_one() -> None:
    punch = Punch(0.0)
    punch.begun(0.0, leads=True)
    assert punch.due(100.0)
    assert not punch.due(100.0)


def test_an_end_that_does_not_lead_only_joins() -> None:
    punch = Punch(0.0)
    assert punch.begun(0.0, leads=False) == 0.0
    assert punch.deadline() == math.inf
    punch.join(5.0)
    assert punch.deadline() == 5.0


@given(st.lists(st.floats(0, 0.1), min_size=50, max_size=200))
def test_news_can_not_make_a_storm(steps: list[float]) -> None:
    punch = Punch(0.0)
    now, rounds = 0.0, 0
    for step in steps:
        now += step
        punch.hurry(now)
        rounds += punch.begun(now, leads=False) is not None
    assert rounds <= HURRIES * (now / 2.0 + 1) + 1


@given(st.lists(st.floats(0, 0.1), min_size=50, max_size=200))
def test_demands_of_a_peer_can_not_make_a_storm(steps: list[float]) -> None:
    punch = Punch(0.0)
    now, volleys = 0.0, 0
    for step in steps:
        now += step
        punch.join(now)
        volleys += punch.due(now)
    assert volleys <= len(VOLLEYS) * HURRIES * (now / HURRIES_IN + 1)
    assert punch.deadline() <= now + HURRIES_IN, "nor put the next round off for long"
