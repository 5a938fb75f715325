"""The table in the gate's docstring, row by row."""

import random

import pytest

from tunnel.endpoint import Endpoint
from tunnel.wireguard.admission import Admission, NotAdmitted
from tunnel.wireguard.cookie import MacWriter
from tunnel.wireguard.limiter import LOAD_BURST, SOURCE_BURST
from tunnel.wireguard.messages import Response

KEY = bytes(range(32))
HERE = Endpoint("192.0.2.1", 51820)


def message(number: int) -> bytes:
    return Response(number, 8, b"e" * 32, b"n" * 16).pack()


@pytest.fixture
def gate() -> Admission:
    return Admission(KEY, random.Random(1).randbytes)


def burden(gate: Admission, now: float) -> None:
    """Bring the gate under load."""
    writer = MacWriter(KEY)
    for number in range(int(LOAD_BURST)):
        gate.check(writer.write(message(number), now), number, HERE, now)
    assert not gate.under_load(now)
    with pytest.raises(NotAdmitted):
        gate.check(writer.write(message(0), now), 0, HERE, now)
    assert gate.under_load(now)


def test_a_wrong_mac1_is_dropped_without_reply_and_is_no_load(gate: Admission) -> None:
    for _ in range(3 * int(LOAD_BURST)):
        with pytest.raises(NotAdmitted, match="mac1") as refusal:
            gate.check(message(1), 1, HERE, 0.0)
        assert refusal.value.reply is None
    assert not gate.under_load(0.0)


def test_under_load_a_cookie_opens_the_gate(gate: Admission) -> None:
    burden(gate, 10.0)
    writer = MacWriter(KEY)
    first = writer.write(message(3), 10.0)
    with pytest.raises(NotAdmitted, match="cookie") as refusal:
        gate.check(first, 3, HERE, 10.0)
    reply = refusal.value.reply
    assert reply is not None
    assert reply.receiver == 3
    assert writer.take(reply, 10.0)
    gate.check(writer.write(message(4), 10.1), 4, HERE, 10.1)
    with pytest.raises(NotAdmitted, match="cookie"):
        gate.check(writer.write(message(4), 10.1), 4, HERE._replace(port=1), 10.1)


def test_under_load_each_source_has_a_rate_even_with_a_cookie(gate: Admission) -> None:
    burden(gate, 10.0)
    writer = MacWriter(KEY)
    with pytest.raises(NotAdmitted) as refusal:
        gate.check(writer.write(message(3), 10.0), 3, HERE, 10.0)
    assert refusal.value.reply is not None
    writer.take(refusal.value.reply, 10.0)
    for _ in range(int(SOURCE_BURST)):
        gate.check(writer.write(message(4), 10.0), 4, HERE, 10.0)
    with pytest.raises(NotAdmitted, match="this source") as refusal:
        gate.check(writer.write(message(4), 10.0), 4, HERE, 10.0)
    assert refusal.value.reply is None
