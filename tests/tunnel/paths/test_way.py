"""Liveness of one way, against a naive model."""

from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Endpoint
from tunnel.paths.way import MAX_PENDING, PATIENCE, PATIENCE_HEARING, Origin, Way


def way() -> Way:
    return Way(Endpoint("203.0.113.1", 4000), Origin.TOLD, 0.0)


@given(st.lists(st.tuples(st.sampled_from(["ping", "pong", "wait"]), st.integers(0, 30)), max_size=80))
def test_lost_means_three_pings_and_patience_without_an_answer(steps: list[tuple[str, int]]) -> None:
    subject, now = way(), 0.0
    sent: list[float] = []
    unanswered: list[int] = []
    for step, amount in steps:
        if step == "wait":
            now += amount / 50
        elif step == "ping" and len(unanswered) < MAX_PENDING:
            subject.ping(len(sent), now)
            unanswered.append(len(sent))
            sent.append(now)
        elif step == "pong":
            known = amount in unanswered
            assert subject.pong(amount, now) is known
            if known:
                unanswered = [id for id in unanswered if sent[id] > sent[amount]]
        expected = len(unanswered) >= 3 and now - sent[unanswered[0]] >= PATIENCE + 2 * (subject.round_trip or 0.0)
        assert subject.lost(now) is expected or abs(now - subject.lost_at()) < 1e-9


def test_data_that_comes_in_makes_more_patient() -> None:
    subject = way()
    for id in range(3):
        subject.ping(id, 0.0)
    assert subject.lost(PATIENCE)
    assert not subject.lost(PATIENCE, hearing=True)
    assert subject.lost(PATIENCE_HEARING, hearing=True)


def test_unanswered_pings_are_capped_and_the_first_stays() -> None:
    subject = way()
    for id in range(1000):
        subject.ping(id, float(id))
    assert len(subject.pending) == MAX_PENDING
    assert subject.first_unanswered == 0.0


def test_pings_to_one_who_is_not_there_thin_out() -> None:
    subject, now, times = way(), 0.0, []
    for id in range(30):
        now = max(now, subject.next_ping(8.0))
        subject.ping(id, now)
        times.append(now)
    assert times[5] < 0.6
    assert times[29] - times[28] == 8.0


def test_a_way_that_fails_is_put_off_longer_each_time() -> None:
    subject = way()
    subject.ping(1, 0.0)
    subject.pong(1, 0.01)
    assert subject.eligible(0.02)
    waits = []
    for _ in range(12):
        subject.hold(0.0, 10.0)
        waits.append(subject.held_until)
    assert waits[:3] == [10.0, 20.0, 40.0]
    assert waits[-1] == 300.0
    assert not subject.eligible(0.02)
