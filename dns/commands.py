"""The Unix socket on which the agent tells names and asks for the status (`control` has the messages)."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from dns.control import Codec, Malformed, Message, encode
from dns.loop import Loop

MAX_CONNECTIONS = 8
MAX_UNSENT = 1 << 20
READ = 1 << 18

log = logging.getLogger("edgemesh.resolver")


class Unavailable(Exception):
    """The socket can't be had; the message says why and what to do."""


class _Connection:
    """One client: what it asks is done and answered in order."""

    def __init__(self, commands: Commands, sock: socket.socket) -> None:
        self._commands = commands
        self._sock = sock
        self._codec = Codec()
        self._unsent = bytearray()
        sock.setblocking(False)
        commands.loop.watch(sock.fileno(), EPOLLIN, self._ready)

    def close(self) -> None:
        self._commands.loop.forget(self._sock.fileno())
        self._sock.close()
        self._commands.connections.pop(self, None)

    def _ready(self, events: int) -> None:
        try:
            if events & EPOLLIN:
                data = self._sock.recv(READ)
                for message in self._codec.feed(data):
                    self._unsent += encode(self._commands.handle(message))
                if not data or len(self._unsent) > MAX_UNSENT:
                    self.close()
                    return
            elif events & (EPOLLERR | EPOLLHUP):
                self.close()
                return
            if self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            pass
        except Malformed as fault:
            log.warning("a client of the resolver's socket sent %s; its connection is closed", fault)
            self.close()
            return
        except OSError:
            self.close()
            return
        self._commands.loop.change(self._sock.fileno(), EPOLLIN | (EPOLLOUT if self._unsent else 0))


class Commands:
    """Listens at a path; `handle` does what a message asks and gives the answer."""

    def __init__(self, loop: Loop, path: Path, handle: Callable[[Message], Message]) -> None:
        self.loop = loop
        self.path = path
        self.handle = handle
        self.connections: dict[_Connection, None] = {}
        self._sock = listen(path)
        loop.watch(self._sock.fileno(), EPOLLIN, self._accept)

    def _accept(self, _events: int) -> None:
        with contextlib.suppress(OSError):
            sock, _ = self._sock.accept()
            while len(self.connections) >= MAX_CONNECTIONS:
                next(iter(self.connections)).close()
            self.connections[_Connection(self, sock)] = None

    def close(self) -> None:
        """End all connections and take the socket away."""
        for connection in list(self.connections):
            connection.close()
        self.loop.forget(self._sock.fileno())
        self._sock.close()
        self.path.unlink(missing_ok=True)


def listen(path: Path) -> socket.socket:
    """A listening Unix socket for this user alone; one that a dead process left is replaced. Raises Unavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            try:
                other.connect(str(path))
            except FileNotFoundError:
                pass
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            else:
                raise Unavailable(f"a resolver is running already: {path} is answered; end it, or set another path")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
        sock.listen(MAX_CONNECTIONS)
        return sock
    except OSError as fault:
        raise Unavailable(
            f"{path} can't be made ({fault.strerror or fault}): run as root, or set another path"
        ) from None
