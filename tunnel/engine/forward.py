"""The data threads: who waits for packets, and how.

    forward    waits for both sides, and moves what comes; while segments flow, for TUN alone
    receive    parked; while segments flow it waits for UDP

One thread for both sides is what a request and its answer want: two would pass the interpreter to and fro, each time
with a wake-up. A stream wants two: the kernel's half of the work, without the interpreter, then is done at once on
both sides, acknowledgements beside segments.

A processor that went to sleep takes some 40 microseconds to wake on a virtual machine. So when packets come soon after
each other, `forward` looks for the next without sleeping, as the kernel's haltpoll governor does.

Invariants: a side belongs to one thread at a time; nobody looks without sleeping for longer than LOOK, nor after a
wait that was longer, nor beside others who want the processor.
"""

from __future__ import annotations

import os
import select
import threading
from socket import MSG_DONTWAIT as DONTWAIT
from time import monotonic
from typing import TYPE_CHECKING

from tunnel.engine.receive import Receiver
from tunnel.engine.transmit import Transmitter

if TYPE_CHECKING:
    from tunnel.engine.state import State
    from tunnel.engine.udp import UdpSocket

LARGE = 16_384
"""Bytes that came at once from which they are part of a stream."""

STREAM = 0.02
"""Seconds without such, after which the stream is over."""

LOOK = 300e-6
"""Seconds for which to look without sleeping; a longer wait is not worth it."""

SHORT_WAITS = 8
"""Waits shorter than LOOK, one after the other, from which the next is expected to be short."""

CROWDED = 50
"""The same after another process had wanted the processor meanwhile."""

_STOLEN = 400e-6
"""Seconds that one look takes at most where nobody else wants the processor."""


class Forwarder:
    """Both data threads' work: `forward` and `receive` are run by one thread each, for ever."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._transmitter = Transmitter(state)
        self._receiver = Receiver(state)
        self._wanted = threading.Semaphore(0)
        self._back = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lent = False  # whether UDP is the receive thread's
        self._ending = False  # whether it is asked back
        self._until = 0.0  # when the stream is over
        self._left = SHORT_WAITS  # short waits to come before looking without sleeping

    def forward(self) -> None:
        """Move packets both ways, but those that the receive thread takes."""
        state, tun = self._state, self._state.tun.fd
        while True:
            udp = state.udp
            number = os.dup(udp.socket.fileno())  # stays this socket's when that is closed by another thread
            both, one = select.poll(), select.poll()
            for fd in (tun, number):
                both.register(fd, select.POLLIN)
            for fd in (tun, self._back):
                one.register(fd, select.POLLIN)
            while udp is state.udp or self._lent:
                if not self._lent:
                    self._forward_both(both, tun, udp)
                elif not self._ending:
                    self._transmit_stream()
                else:
                    self._take_back(one, tun)
            os.close(number)

    def _forward_both(self, both: select.poll, tun: int, udp: UdpSocket) -> None:
        largest = 0
        for fd, _ in self._wait(both):
            came = self._transmitter.transmit(os.RWF_NOWAIT) if fd == tun else self._receiver.receive(udp, DONTWAIT)
            largest = max(largest, came)
        if largest > LARGE:
            self._until = monotonic() + STREAM
            self._lent, self._ending = True, False
            self._wanted.release()

    def _transmit_stream(self) -> None:
        if self._transmitter.transmit(0) > LARGE:
            self._until = monotonic() + STREAM
        elif monotonic() > self._until:
            self._ending = True

    def _take_back(self, one: select.poll, tun: int) -> None:
        """UDP is the receive thread's until something comes there."""
        for fd, _ in one.poll():
            if fd == tun:
                self._transmitter.transmit(os.RWF_NOWAIT)
            else:
                os.eventfd_read(self._back)
                self._lent = False

    def receive(self) -> None:
        """Take UDP while a stream lasts, time and again."""
        while True:
            self._wanted.acquire()
            while not self._ending:
                if self._receiver.receive(self._state.udp, 0) > LARGE:
                    self._until = monotonic() + STREAM
            os.eventfd_write(self._back, 1)

    def _wait(self, both: select.poll) -> list[tuple[int, int]]:
        """Until something is there."""
        poll = both.poll
        ready = poll(0)
        if ready:
            return ready
        began = now = monotonic()
        if self._left <= 0:
            while now - began < LOOK:
                os.sched_yield()
                if ready := poll(0):
                    return ready
                before, now = now, monotonic()
                if now - before > _STOLEN:
                    self._left = CROWDED
                    return poll()
        ready = poll()
        if monotonic() - began < LOOK:
            self._left -= 1
        else:
            self._left = max(self._left, SHORT_WAITS)
        return ready
