"""The sockets towards upstreams: one for each attempt, so that each has a port of its own (RFC 5452, 9.2).

The sockets are connected: the kernel then drops what comes from elsewhere, and says at once when nobody listens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT

from dns import wire
from dns.forward import Send
from dns.loop import Loop

PORT = 53


class _Attempt:
    """One socket; `answer` and `fail` are called with what came of it."""

    def __init__(self, outbound: Outbound, send: Send) -> None:
        family = socket.AF_INET6 if ":" in send.address else socket.AF_INET
        self._outbound = outbound
        self._number = send.attempt
        self._tcp = send.tcp
        self._sock = socket.socket(
            family, (socket.SOCK_STREAM if send.tcp else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK
        )
        self._unsent = send.message
        self._received = bytearray()
        try:
            # numeric: no look-up, but the interface of fe80::1%eth0 becomes a number
            address = socket.getaddrinfo(send.address, PORT, family, flags=socket.AI_NUMERICHOST)[0][4]
            if send.tcp:
                self._unsent = len(send.message).to_bytes(2, "big") + send.message
                self._sock.connect_ex(address)
            else:
                self._sock.connect(address)
                self._sock.send(send.message)
        except OSError:
            self._sock.close()
            raise
        outbound.loop.watch(self._sock.fileno(), EPOLLOUT if send.tcp else EPOLLIN, self._ready)

    def close(self) -> None:
        self._outbound.loop.forget(self._sock.fileno())
        self._sock.close()

    def _ready(self, events: int) -> None:
        try:
            if code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            if self._tcp:
                self._ready_tcp(events)
            else:
                self._outbound.received(self._number, self._sock.recv(wire.MAX_MESSAGE))
        except BlockingIOError:
            return
        except OSError as fault:
            self._outbound.failed(self._number, fault.strerror or str(fault))

    def _ready_tcp(self, events: int) -> None:
        if self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]
            if not self._unsent:
                self._outbound.loop.change(self._sock.fileno(), EPOLLIN)
            return
        data = self._sock.recv(wire.MAX_MESSAGE)
        if not data:
            raise ConnectionError("it closed the connection without an answer")
        self._received += data
        if len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) >= end:
                self._outbound.received(self._number, bytes(self._received[2:end]))


class Outbound:
    """All attempts under way; `received(attempt, message)` and `failed(attempt, reason)` are told what happens."""

    def __init__(self, loop: Loop, received: Callable[[int, bytes], None], failed: Callable[[int, str], None]) -> None:
        self.loop = loop
        self.received = received
        self.failed = failed
        self._attempts: dict[int, _Attempt] = {}

    def send(self, send: Send) -> None:
        """Begin an attempt."""
        try:
            self._attempts[send.attempt] = _Attempt(self, send)
        except OSError as fault:
            self.failed(send.attempt, fault.strerror or str(fault))

    def close(self, number: int) -> None:
        """End an attempt."""
        if (attempt := self._attempts.pop(number, None)) is not None:
            attempt.close()

    def close_all(self) -> None:
        """End all."""
        for number in list(self._attempts):
            self.close(number)
