"""DNS over TCP (RFC 7766): messages behind two bytes of length, many at a time, answered as they are ready.

A connection is bounded in every direction: it ends when nothing moved for `IDLE` seconds, it is not read while
`MAX_OPEN` of its questions are unanswered or `MAX_UNSENT` bytes wait to be taken, and when there are too many
connections the one that has been quiet longest makes room.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from dns import wire
from dns.loop import Loop

IDLE = 10.0
MAX_CONNECTIONS = 128
MAX_OPEN = 64
MAX_UNSENT = 256 << 10
READ = 16384

Ask = Callable[[bytes, "Connection"], bytes | None]


class Connection:
    """One client's connection."""

    def __init__(self, server: TcpServer, sock: socket.socket, now: float) -> None:
        self._server = server
        self._sock = sock
        self._received = bytearray()
        self._unsent = bytearray()
        self._open = 0
        self._ended = False
        self._events = EPOLLIN
        self.closed = False
        self.quiet_since = now
        sock.setblocking(False)
        server.loop.watch(sock.fileno(), EPOLLIN, self._ready)

    def reply(self, message: bytes) -> None:
        """The answer to a question of this connection that was not answered at once."""
        if self.closed:
            return
        self._open -= 1
        self._put(message)
        self._work()

    def close(self) -> None:
        """End the connection."""
        if not self.closed:
            self.closed = True
            self._server.loop.forget(self._sock.fileno())
            self._sock.close()
            self._server.gone(self)

    def _put(self, message: bytes) -> None:
        self._unsent += len(message).to_bytes(2, "big") + message

    def _ready(self, events: int) -> None:
        self.quiet_since = self._server.loop.now
        self._server.moved(self)
        if events & (EPOLLERR | EPOLLHUP):
            self.close()
            return
        if events & EPOLLIN:
            try:
                data = self._sock.recv(READ)
            except BlockingIOError:
                data = None
            except OSError:
                self.close()
                return
            if data is not None:
                self._received += data
                self._ended = self._ended or not data
        self._work()

    def _work(self) -> None:
        """Send and answer as much as can be, and wait for the right thing."""
        while True:
            if self._unsent:
                try:
                    del self._unsent[: self._sock.send(self._unsent)]
                except BlockingIOError:
                    pass
                except OSError:
                    self.close()
                    return
            if not self._answer():
                break
        if self._ended and not self._open and not self._unsent:
            self.close()
            return
        reading = not self._ended and not self._full()
        events = (EPOLLIN if reading else 0) | (EPOLLOUT if self._unsent else 0)
        if events != self._events:
            self._events = events
            self._server.loop.change(self._sock.fileno(), events)

    def _answer(self) -> bool:
        """Answer the messages that are whole, while there is room; whether there were any."""
        at = 0
        while not self._full() and len(self._received) - at >= 2:
            end = at + 2 + int.from_bytes(self._received[at : at + 2], "big")
            if len(self._received) < end:
                break
            message = bytes(self._received[at + 2 : end])
            at = end
            if not wire.is_query(message):  # the client has lost its place in the stream
                self._ended = True
                self._received.clear()
                return False
            self._open += 1
            reply = self._server.ask(message, self)
            if reply is not None:
                self._open -= 1
                self._put(reply)
        del self._received[:at]
        return at > 0

    def _full(self) -> bool:
        return self._open >= MAX_OPEN or len(self._unsent) >= MAX_UNSENT


class TcpServer:
    """A listening socket and its connections; `ask` gives an answer, or None when it comes by `Connection.reply`."""

    def __init__(self, loop: Loop, sock: socket.socket, ask: Ask) -> None:
        self.loop = loop
        self.ask = ask
        self._sock = sock
        self._connections: dict[Connection, None] = {}
        sock.setblocking(False)
        loop.watch(sock.fileno(), EPOLLIN, self._accept)

    def __len__(self) -> int:
        return len(self._connections)

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return  # it has gone again, or there are no descriptors: the backlog keeps the others
        while len(self._connections) >= MAX_CONNECTIONS:
            next(iter(self._connections)).close()
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[Connection(self, sock, self.loop.now)] = None

    def moved(self, connection: Connection) -> None:
        """Something arrived or could be sent: it is the last to be closed for want of room."""
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.pop(connection, None)

    def deadline(self) -> float | None:
        """When the quietest connection has been quiet too long."""
        first = next(iter(self._connections), None)
        return None if first is None else first.quiet_since + IDLE

    def advance(self, now: float) -> None:
        """End the connections that have been quiet too long."""
        while (due := self.deadline()) is not None and due <= now:
            next(iter(self._connections)).close()

    def close(self) -> None:
        """End them all, and the listening."""
        for connection in list(self._connections):
            connection.close()
        self.loop.forget(self._sock.fileno())
        self._sock.close()
