"""Which counters of a keypair have come already (whitepaper 5.4.6; the aim of RFC 6479, by other means).

Packets nearly always come in order, so that case costs a comparison and an addition: the window remembers the
counter it expects and, as bits of one integer, those it still misses. The integer is zero while nothing is
missing; else it is at most two windows wide.

Invariants: a counter is accepted once; one `WINDOW` or more behind the newest is never accepted; a counter must be
shown only after its message was authenticated, else a forger could move the window. Not safe between threads.
"""

WINDOW = 8192
"""Counters behind the newest that may still come (wireguard-go and Linux: 8,128)."""


class Replay:
    """The window of one keypair; empty, it accepts any counter."""

    __slots__ = ("_base", "_expected", "_missing")

    def __init__(self) -> None:
        self._expected = 0
        # bit i stands for the counter _base + i
        self._missing = 0
        self._base = 0

    def accept(self, counter: int) -> bool:
        """Take an authenticated counter; False when it came before or is too old."""
        expected = self._expected
        if counter == expected:
            self._expected = counter + 1
            return True
        if counter > expected:
            self._skip(counter)
            return True
        missing = self._missing
        if not missing or counter < self._base or counter <= expected - 1 - WINDOW:
            return False
        bit = 1 << (counter - self._base)
        if not missing & bit:
            return False
        self._missing = missing ^ bit
        return True

    def _skip(self, counter: int) -> None:
        """The counters from the expected one to before `counter` are missing now."""
        expected = self._expected
        self._expected = counter + 1
        oldest = max(counter - WINDOW + 1, 0)
        if not self._missing or expected <= oldest:
            self._base = max(expected, oldest)
            self._missing = (1 << (counter - self._base)) - 1
            return
        if counter - self._base > 2 * WINDOW:
            self._missing >>= oldest - self._base
            self._base = oldest
        self._missing |= ((1 << (counter - expected)) - 1) << (expected - self._base)
