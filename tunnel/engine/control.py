"""The control thread: handshakes, timers, and the socket that `wg` and the agent speak to.

Invariants: no client makes another, or a handshake, wait: sockets do not block, at most CLIENTS are open (the one
idle longest makes room), and each has at most one request under way and one answer unread. The socket's file belongs
to whoever is alive behind it: one left by a process that ended is replaced, a live one is an error.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
from pathlib import Path
from time import monotonic

from tunnel.engine import EngineTrouble, uapi
from tunnel.engine.configure import Configuration
from tunnel.engine.state import State
from tunnel.engine.uapi import BadRequest

log = logging.getLogger("edgemesh.engine")

CLIENTS = 16
"""Connections open at a time."""

_CHUNK = 65_536


class _Client:
    """One connection: what it has said and not yet been answered, and what of the answer it has not yet taken."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.request = bytearray()
        self.answer = b""
        self.since = monotonic()


def listen(path: Path) -> socket.socket:
    """Open the control socket, for its owner only; raises EngineTrouble."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        listener.listen(CLIENTS)
    except OSError as error:
        raise EngineTrouble(
            f"the control socket {path} can't be made: {error.strerror}; run as root, or make its directory writable"
        ) from error
    return listener


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ask:
        try:
            ask.connect(os.fspath(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise EngineTrouble(f"{path} is answered by another process: an engine for this device is already running")


class Control:
    """The thread's loop. `stop`, from a signal handler or another thread, ends it."""

    def __init__(self, state: State, configuration: Configuration, listener: socket.socket) -> None:
        self._state = state
        self._configuration = configuration
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(state.wake, selectors.EVENT_READ)
        self._selector.register(listener, selectors.EVENT_READ)
        self._clients: list[_Client] = []
        self._stopped = False

    def stop(self) -> None:
        """Make `run` return."""
        self._stopped = True
        self._state.call()

    def run(self) -> None:
        """Serve until stopped."""
        while not self._stopped:
            deadline = self._state.tick()
            timeout = None if deadline is None else max(deadline - monotonic(), 0.0)
            for key, _ in self._selector.select(timeout):
                if key.fileobj == self._state.wake:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._state.wake)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._serve(key.data)
            self._state.take_handshakes()

    def close(self) -> None:
        """Close all connections."""
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            return
        if len(self._clients) >= CLIENTS:
            self._drop(min(self._clients, key=lambda client: client.since))
        connection.setblocking(False)
        client = _Client(connection)
        self._clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.connection)
            client.connection.close()

    def _serve(self, client: _Client) -> None:
        """Take or give what the connection has room for."""
        client.since = monotonic()
        try:
            if client.answer:
                client.answer = client.answer[client.connection.send(client.answer) :]
            else:
                said = client.connection.recv(_CHUNK)
                client.request += said
                if not said:
                    self._drop(client)
                    return
            self._answer(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)

    def _answer(self, client: _Client) -> None:
        """Follow the requests that are whole, as long as their answers are taken at once."""
        while not client.answer:
            end = client.request.find(b"\n\n")
            if end < 0:
                break
            request = bytes(client.request[:end])
            del client.request[: end + 2]
            answer = self._follow(request).encode()
            try:
                client.answer = answer[client.connection.send(answer) :]
            except BlockingIOError:
                client.answer = answer
        if len(client.request) > uapi.LARGEST_REQUEST:
            self._drop(client)
            return
        wanted = selectors.EVENT_WRITE if client.answer else selectors.EVENT_READ
        if self._selector.get_key(client.connection).events != wanted:
            self._selector.modify(client.connection, wanted, client)

    def _follow(self, request: bytes) -> str:
        try:
            asked = uapi.parse(request)
            if isinstance(asked, uapi.Get):
                return self._configuration.describe()
            self._configuration.apply(asked)
        except BadRequest as error:
            log.warning("a request on the control socket was refused: %s", error)
            return uapi.failure(error.number)
        return uapi.failure(0)
