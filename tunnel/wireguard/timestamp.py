"""The timestamp of an initiation: TAI64N, 12 bytes, each greater than the one before (whitepaper 5.1).

Clocks are cut to a sixtieth of a second, as other implementations do: finer ones would tell a listener about the
machine. A clock that is set back must not make our initiations look like replays to a peer that knows us, so that the
timestamps for a peer go on from the greatest it was sent. They are each peer's own: were they the device's, a crowd of
handshakes at its start would run ahead of the clock, and a device that restarts at once would be behind itself.
(A machine that reboots with its clock in the past is still refused by peers that remember it, until they initiate
themselves or are restarted; nothing here can help that.)
"""

STEPS = 60
"""Distinct timestamps a second: multiples of 2**24 nanoseconds."""
_EPOCH = 0x400000000000000A
"""TAI64 of the Unix epoch (leap seconds since are ignored, as everywhere)."""


class Timestamps:
    """Timestamps for one peer."""

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest = -1

    def next(self, wall: float) -> bytes:
        """The timestamp for an initiation at `wall` Unix seconds, or just after the one before."""
        second, rest = divmod(wall, 1)
        step = int(second) * STEPS + min(int(rest * 1e9) >> 24, STEPS - 1)
        self._latest = step = max(step, self._latest + 1)
        whole, part = divmod(step, STEPS)
        return (_EPOCH + whole).to_bytes(8, "big") + (part << 24).to_bytes(4, "big")
