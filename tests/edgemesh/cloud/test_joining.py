"""The join endpoint's HTTPS, asked by who has nothing to lose: anybody may reach it."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgemesh import authority
from edgemesh.cloud import joining
from edgemesh.cloud.joining import Joining
from edgemesh.join.endpoint import Answer
from tests.edgemesh.join.cluster import at
from tunnel.endpoint import Address


def run(folder: Path, test: Callable[[int], Awaitable[None]]) -> None:
    async def handle(method: str, path: str, body: bytes, address: str) -> Answer:
        return Answer(200, b"%d" % len(body), {})

    async def main() -> None:
        made = authority.load_or_make(folder, at()).server(["127.0.0.1"], at())
        (folder / "server.crt").write_bytes(made.certificate)
        (folder / "server.key").write_bytes(made.key)
        served = Joining(handle)
        port = await served.start(Address("127.0.0.1", 0), folder / "server.crt", folder / "server.key")
        try:
            await asyncio.wait_for(test(port), 30)
        finally:
            await served.stop()

    asyncio.run(main())


async def said(port: int, request: bytes) -> bytes:
    """All that is answered until the end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


def test_who_sends_no_head_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "WITHIN", 0.2)
    monkeypatch.setattr("sync.api.connections.SWEEP_EVERY", 0.1)

    async def test(port: int) -> None:
        assert await said(port, b"") == b""
        assert await said(port, b"GET /ca HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
        half = b"POST /join HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\nab"
        assert (await said(port, half)).startswith(b"HTTP/1.1 408 ")
        good = b"GET /ca HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await said(port, good)).startswith(b"HTTP/1.1 200 ")

    run(tmp_path, test)


def test_rubbish_is_answered_and_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(port: int) -> None:
        heads = (b"GET http://[ HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n")
        for rubbish in (b"\0" * 100, *heads):
            answer = await said(port, rubbish)
            assert b" 400 " in answer.splitlines()[0]

    run(tmp_path, test)
    assert not caplog.records


def test_a_body_that_is_packed_is_not_unpacked(tmp_path: Path) -> None:
    packed = zlib.compress(bytes(10_000_000))
    head = "POST /join HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: deflate\r\n"
    head += f"Content-Length: {len(packed)}"

    async def test(port: int) -> None:
        answer = await said(port, head.encode() + b"\r\n\r\n" + packed)
        assert answer.endswith(b"\r\n\r\n%d" % len(packed))

    run(tmp_path, test)
