"""The gate: who is silent takes no more than a share, and who has a certificate is counted otherwise."""

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
    """A connection that says nothing."""

    on_closed: Callable[[], None] | None = None

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


async def silent(port: int) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    return writer


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


def test_silent_ones_take_a_share_and_give_it_back(caplog: pytest.LogCaptureFixture) -> None:
    async def test(port: int, stranger: ssl.SSLContext, known: ssl.SSLContext, gate: Gate) -> None:
        writers = [await silent(port) for _ in range(6)]
        assert not await served(port, stranger)
        for writer in writers:
            writer.close()
        await soon(lambda: served(port, stranger))

    with caplog.at_level(logging.WARNING):
        run(Caps(all=100, of_address=4), test)
    told = [record.getMessage() for record in caplog.records]
    assert told == ["more than 4 connections without a certificate from 127.0.0.1: further ones are closed"]


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
        writers = [await silent(port) for _ in range(5)]
        assert not await served(port, known)
        for writer in writers:
            writer.close()
        await soon(lambda: served(port, known))

    with caplog.at_level(logging.WARNING):
        run(Caps(all=3, of_address=100), test)
    assert [record.getMessage() for record in caplog.records] == ["more than 3 connections: further ones are closed"]


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
