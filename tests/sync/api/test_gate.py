"""The gate: who is silent makes room, who is answered stays, and who has a certificate is counted otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme

from sync.api.gate import Caps, Gate, listen


class Held(asyncio.Protocol):
    """A connection that is answered from its first byte on, and silent before."""

    on_closed: Callable[[], None] | None = None
    silent_since: float | None = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.silent_since = asyncio.get_running_loop().time()
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.silent_since = None
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.on_closed:
            self.on_closed()


def run(caps: Caps, test: Callable[[int, ssl.SSLContext, ssl.SSLContext, Gate], Awaitable[None]]) -> None:
    """`test` gets the port, the TLS of a stranger and of one with a certificate, and the gate."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_OPTIONAL
    stranger, known = (ssl.create_default_context() for _ in range(2))
    for context in (stranger, known):
        authority.configure_trust(context)
    authority.issue_cert("client").configure_cert(known)

    async def main() -> None:
        listener = listen("127.0.0.1", 0)
        gate = Gate(listener, Held, server, caps)
        gate.open()
        try:
            await asyncio.wait_for(test(listener.getsockname()[1], stranger, known, gate), 20)
        finally:
            await gate.close()

    asyncio.run(main())


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def silent(port: int, address: str = "127.0.0.1") -> Streams:
    """Not even TLS comes up."""
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))


async def answered(port: int, context: ssl.SSLContext) -> Streams:
    """One that is under way with something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(b"?")
    assert await reader.readexactly(1) == b"?"
    return reader, writer


async def end(streams: Streams) -> None:
    """Wait until the other side closes it."""
    with contextlib.suppress(OSError):
        assert await streams[0].read(1) == b""


async def open_still(streams: Streams) -> bool:
    try:
        await asyncio.wait_for(end(streams), 0.05)
    except TimeoutError:
        return True
    return False


async def served(port: int, context: ssl.SSLContext) -> bool:
    """Whether TLS comes up; the connection is closed then."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110  # what it looks at has no event
        await asyncio.sleep(0.01)


def test_the_one_that_is_silent_for_longest_makes_room(caplog: pytest.LogCaptureFixture) -> None:
    async def test(port: int, stranger: ssl.SSLContext, known: ssl.SSLContext, gate: Gate) -> None:
        busy = await answered(port, stranger)
        idle = await asyncio.open_connection("127.0.0.1", port, ssl=stranger)
        opened = [idle, *[await silent(port) for _ in range(4)]]
        assert await served(port, stranger)
        for each in opened[:3]:
            await end(each)
        assert [await open_still(each) for each in (busy, *opened[3:])] == [True] * 3
        for _, writer in (busy, *opened):
            writer.transport.abort()
        await soon(lambda: none_left(gate))

    with caplog.at_level(logging.WARNING):
        run(Caps(all=100, of_address=4), test)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["more than 4 connections without a certificate from 127.0.0.1: silent ones are closed"]


async def none_left(gate: Gate) -> bool:
    return not gate._places and not gate._strangers


def test_who_is_answered_stays() -> None:
    async def test(port: int, stranger: ssl.SSLContext, known: ssl.SSLContext, gate: Gate) -> None:
        busy = [await answered(port, stranger) for _ in range(3)]
        assert not await served(port, stranger)
        for _, writer in busy:
            writer.write(b"?")
        assert [await reader.readexactly(1) for reader, _ in busy] == [b"?"] * 3
        busy[0][1].transport.abort()
        await soon(lambda: served(port, stranger))
        for _, writer in busy:
            writer.transport.abort()

    run(Caps(all=100, of_address=3), test)


def test_at_the_cap_of_all_the_address_with_the_most_makes_room() -> None:
    """And who has a certificate only where there is nobody else."""

    async def test(port: int, stranger: ssl.SSLContext, known: ssl.SSLContext, gate: Gate) -> None:
        friend = await asyncio.open_connection("127.0.0.1", port, ssl=known)
        other = await silent(port, "127.0.0.3")
        many = [await silent(port, "127.0.0.2") for _ in range(6)]
        assert await served(port, known)
        for each in many[:4]:
            await end(each)
        assert [await open_still(each) for each in (friend, other, *many[4:])] == [True] * 4
        for _, writer in (friend, other, *many):
            writer.transport.abort()

    run(Caps(all=5, of_address=100), test)


def test_those_with_a_certificate_are_no_strangers() -> None:
    async def test(port: int, stranger: ssl.SSLContext, known: ssl.SSLContext, gate: Gate) -> None:
        kept = []
        for _ in range(10):
            kept.append((await asyncio.open_connection("127.0.0.1", port, ssl=known))[1])
            await soon(lambda: known_so_far(gate))
        assert await served(port, stranger)
        for writer in kept:
            writer.close()

    async def known_so_far(gate: Gate) -> bool:
        return not gate._strangers

    run(Caps(all=100, of_address=2), test)


def test_there_is_an_end_to_all_of_them_together(caplog: pytest.LogCaptureFixture) -> None:
    async def test(port: int, stranger: ssl.SSLContext, known: ssl.SSLContext, gate: Gate) -> None:
        busy = [await answered(port, context) for context in (known, stranger, known)]
        assert not await served(port, known)
        busy[0][1].transport.abort()
        await soon(lambda: served(port, known))
        for _, writer in busy:
            writer.transport.abort()

    with caplog.at_level(logging.WARNING):
        run(Caps(all=3, of_address=100), test)
    assert [record.getMessage() for record in caplog.records] == ["more than 3 connections: silent ones are closed"]


def test_without_a_descriptor_left_it_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(port: int, stranger: ssl.SSLContext, known: ssl.SSLContext, gate: Gate) -> None:
        loop = asyncio.get_running_loop()
        accept, failures = loop.sock_accept, 5

        async def failing(sock: socket.socket) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return await accept(sock)

        monkeypatch.setattr(loop, "sock_accept", failing)
        assert await served(port, stranger)  # what the gate waited for before
        assert await served(port, stranger)
        assert not failures

    with caplog.at_level(logging.WARNING):
        run(Caps(all=100, of_address=100), test)
    told = "no connection can be accepted: Too many open files"
    assert [record.getMessage() for record in caplog.records] == [told]
