"""Accepting connections, with caps that count from the first byte on: of all, and of one address without a certificate.

asyncio's own listener counts nothing, and tells of a connection only when TLS is up: whoever connects and is silent
then takes file descriptors until there are none, also for those who may ask, and each attempt to accept another logs a
traceback. Here one that is too many takes the place of the one that is silent for longest: of the same address; at the
cap of all, of the address that has most without a certificate. Where none is silent the new one is closed. It is said
once a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol

HANDSHAKE_WITHIN = 10.0
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE = 0.1
"""Seconds until the next look where the machine has no more to give."""
SAY_EVERY = 60.0
DESCRIPTORS = 65536

logger = logging.getLogger(__name__)


class Caps(NamedTuple):
    """`of_address`: of one IP address, those without a client certificate, or before it is known."""

    all: int
    of_address: int


class Held(Protocol):
    """What a connection's protocol has for the gate."""

    on_closed: Callable[[], None] | None
    """Called when the connection is gone."""
    silent_since: float | None
    """The loop's time since when nothing is asked; None while something is answered."""


class Gate:
    """Accepts on `listener` from `open` to `close`; `factory` makes an asyncio.Protocol with `Held`.

    Of the file descriptors that this process may have it takes half at most.
    """

    def __init__(
        self, listener: socket.socket, factory: Callable[[], Held], context: ssl.SSLContext, caps: Caps
    ) -> None:
        self._listener = listener
        self._factory = factory
        self._context = context
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._caps = caps if allowed == resource.RLIM_INFINITY else caps._replace(all=min(caps.all, allowed // 2))
        self._places: set[_Place] = set()
        self._strangers: dict[str, set[_Place]] = {}
        self._beginning: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}
        self._accepting: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin, on the loop that runs."""
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Listen no more, and end the handshakes that are under way."""
        tasks = [*self._beginning, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._say(f"no connection can be accepted: {error.strerror}")
                    await asyncio.sleep(PAUSE)
                continue  # all else is the connection's, which is gone already
            self._take(connection, address[0])
            await asyncio.sleep(0)  # what is accepted at once gives the loop no turn

    def _take(self, connection: socket.socket, address: str) -> None:
        strangers = self._strangers.get(address, set())
        room = True
        if len(strangers) >= self._caps.of_address:
            most = self._caps.of_address
            self._say(f"more than {most} connections without a certificate from {address}: silent ones are closed")
            room = _make_room(strangers)
        elif len(self._places) >= self._caps.all:
            self._say(f"more than {self._caps.all} connections: silent ones are closed")
            room = _make_room(max(self._strangers.values(), key=len, default=set())) or _make_room(self._places)
        if not room:
            connection.close()
            return
        place = _Place(self, address, asyncio.get_running_loop().time())
        place.beginning = asyncio.create_task(self._begin(connection, place))
        self._beginning.add(place.beginning)
        place.beginning.add_done_callback(lambda task: self._begun(task, connection, place))

    def _begun(self, task: asyncio.Task[None], connection: socket.socket, place: _Place) -> None:
        self._beginning.discard(task)
        if place.held is None:  # cancelled before its first step
            place.leave()
            connection.close()

    async def _begin(self, connection: socket.socket, place: _Place) -> None:
        def make() -> asyncio.BaseProtocol:
            made = place.held = self._factory()
            made.on_closed = place.leave
            assert isinstance(made, asyncio.BaseProtocol)
            return made

        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                make, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_WITHIN
            )
        except BaseException as error:
            place.leave()
            if not isinstance(error, OSError):  # ssl.SSLError is one: who is no client of ours is nobody's trouble
                raise
        else:
            place.transport = transport
            if transport.get_extra_info("peercert"):
                place.identify()

    def enter(self, place: _Place) -> None:
        """One more."""
        self._places.add(place)
        self._strangers.setdefault(place.address, set()).add(place)

    def leave(self, place: _Place) -> None:
        """One less."""
        self._places.discard(place)
        if not place.known:
            self.forget(place)

    def forget(self, place: _Place) -> None:
        """One of an address's is no stranger, or is gone."""
        strangers = self._strangers[place.address]
        strangers.discard(place)
        if not strangers:
            del self._strangers[place.address]

    def _say(self, what: str) -> None:
        now = asyncio.get_running_loop().time()
        self._said = {text: when for text, when in self._said.items() if now - when < SAY_EVERY}
        if what not in self._said and len(self._said) < 16:
            self._said[what] = now
            logger.warning("%s", what)


class _Place:
    """One connection's place among those that are counted."""

    def __init__(self, gate: Gate, address: str, now: float) -> None:
        self.address = address
        self.known = False
        """Whether it has a certificate."""
        self.held: Held | None = None
        self.beginning: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        """None until TLS is up."""
        self._gate = gate
        self._since = now
        self._left = False
        gate.enter(self)

    @property
    def silent_since(self) -> float | None:
        """As `Held`'s; before TLS is up, since when it is there."""
        return self.held.silent_since if self.held is not None and self.transport is not None else self._since

    def identify(self) -> None:
        """It has a certificate."""
        if not (self._left or self.known):
            self.known = True
            self._gate.forget(self)

    def leave(self) -> None:
        """It is gone; may be said twice."""
        if not self._left:
            self._left = True
            self._gate.leave(self)

    def close(self) -> None:
        """End it at once, wherever it is."""
        self.leave()
        if self.transport is not None:
            self.transport.abort()
        elif self.beginning is not None:
            self.beginning.cancel()


def _make_room(places: set[_Place]) -> bool:
    """Close the one that is silent for longest; whether there was one."""
    silent = [(since, place) for place in places if (since := place.silent_since) is not None]
    if silent:
        min(silent, key=lambda each: each[0])[1].close()
    return bool(silent)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket, not blocking; on :: it takes IPv4 too. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


def more_descriptors() -> None:
    """Each connection is a file descriptor: allow as many as may be had."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, DESCRIPTORS)
    if wanted > allowed:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
