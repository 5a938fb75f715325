"""The agent's socket, where it tells its status, and the lock by which there is one agent a node.

The lock is the kernel's (flock on a file beside the socket): it ends with the process that has it, however that
ends, and two that start at once can't both have it. So whoever has the lock may replace the socket that a killed agent
left. The socket is its owner's alone from the first moment.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType

import trio

from edgemesh import status
from edgemesh.config import Config

BACKLOG = 8

log = logging.getLogger("edgemesh.agent")


class AgentSocketError(Exception):
    """The socket can't be had; the message says why and what to do."""


class AgentSocket:
    """Open from when it is made to the end of its context. Raises AgentSocketError."""

    def __init__(self, config: Config) -> None:
        self._path = config.agent_socket
        try:
            os.makedirs(config.run_dir, exist_ok=True)
            self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._socket = self._listen()
            except BaseException:
                os.close(self._lock)
                raise
        except BlockingIOError:
            raise AgentSocketError(
                f"another agent runs on this node, it has {self._path}: end that one first"
            ) from None
        except OSError as error:
            denied = error.errno in (errno.EACCES, errno.EPERM)
            do = "run as root" if denied else "it needs a place for its socket"
            raise AgentSocketError(
                f"{self._path} can't be made ({error.strerror}): {do}, or set commonConfig.runDir"
            ) from None

    def _listen(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if os.path.lexists(self._path):
                os.unlink(self._path)
            before = os.umask(0o177)
            try:
                listening.bind(self._path)
            finally:
                os.umask(before)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
        return listening

    async def serve(self, compose: Callable[[], Awaitable[status.Status]]) -> None:
        """Tell everybody who connects how it stands, until cancelled."""

        async def answer(stream: trio.SocketStream) -> None:
            try:
                with trio.move_on_after(status.TIMEOUT):
                    await stream.send_all(status.encode(await compose()))
            except trio.BrokenResourceError:
                log.debug("who asked for the status is gone")
            finally:
                await trio.aclose_forcefully(stream)

        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        await trio.serve_listeners(answer, [listener])

    def __enter__(self) -> AgentSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        if os.path.lexists(self._path):
            os.unlink(self._path)
        os.close(self._lock)
