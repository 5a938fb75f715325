"""When the data thread looks for packets without sleeping: on virtual time."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest

from tunnel.engine import forward
from tunnel.engine.forward import CROWDED, LOOK, SHORT_WAITS, Forwarder
from tunnel.engine.state import State

SOME = [(3, 1)]


class Machine:
    """A clock, and a poll whose packets come `gap` seconds after each wait began; a look takes `look` seconds."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due = 0.0
        self.look = 1e-6
        self.looks = self.sleeps = 0

    def monotonic(self) -> float:
        return self.now

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        if timeout is None:
            self.sleeps += 1
            self.now = max(self.now, self.due)
        return SOME if self.now >= self.due else []

    def sched_yield(self) -> None:
        self.looks += 1
        self.now += self.look

    def wait(self, forwarder: Forwarder, gap: float) -> tuple[bool, bool]:
        """A packet comes in `gap` seconds; whether it was looked for, and slept for."""
        looks, sleeps, self.due = self.looks, self.sleeps, self.now + gap
        assert forwarder._wait(cast(Any, self)) == SOME
        return self.looks > looks, self.sleeps > sleeps


@pytest.fixture
def machine() -> Iterator[Machine]:
    one = Machine()
    with (
        mock.patch.object(forward, "monotonic", one.monotonic),
        mock.patch("os.sched_yield", one.sched_yield),
    ):
        yield one


@pytest.fixture
def forwarder() -> Iterator[Forwarder]:
    one = Forwarder(cast(State, SimpleNamespace(tun=SimpleNamespace(fd=-1))))
    yield one
    os.close(one._back)


def test_packets_that_come_seldom_are_slept_for(machine: Machine, forwarder: Forwarder) -> None:
    assert {machine.wait(forwarder, 4 * LOOK) for _ in range(100)} == {(False, True)}


def test_single_requests_are_slept_for(machine: Machine, forwarder: Forwarder) -> None:
    """A request, its answer soon after, and a pause."""
    assert {machine.wait(forwarder, gap) for _ in range(100) for gap in (0.01, LOOK / 2)} == {(False, True)}


def test_packets_that_come_soon_are_looked_for_until_one_does_not(machine: Machine, forwarder: Forwarder) -> None:
    assert {machine.wait(forwarder, LOOK / 2) for _ in range(SHORT_WAITS)} == {(False, True)}
    assert {machine.wait(forwarder, LOOK / 2) for _ in range(100)} == {(True, False)}
    began = machine.looks
    assert machine.wait(forwarder, 1.0) == (True, True)
    assert (machine.looks - began) * machine.look <= LOOK + 2 * machine.look
    assert machine.wait(forwarder, LOOK / 2) == (False, True)


def test_who_else_wants_the_processor_has_it(machine: Machine, forwarder: Forwarder) -> None:
    for _ in range(SHORT_WAITS):
        machine.wait(forwarder, LOOK / 2)
    machine.look = 2 * LOOK  # somebody else ran in between
    assert machine.wait(forwarder, 3 * LOOK) == (True, True)
    machine.look = 1e-6
    assert {machine.wait(forwarder, LOOK / 2) for _ in range(CROWDED - 1)} == {(False, True)}


def test_what_is_there_already_is_neither_looked_nor_slept_for(machine: Machine, forwarder: Forwarder) -> None:
    assert machine.wait(forwarder, 0.0) == (False, False)
