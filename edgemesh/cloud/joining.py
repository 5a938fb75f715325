"""The join endpoint's HTTPS: caps and time-outs here, what is answered in `edgemesh.join.endpoint`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from edgemesh.join.endpoint import Answer
from edgemesh.join.messages import MAX_BODY
from sync.api import gate
from sync.api.connections import Connections
from sync.api.http import web
from tunnel.endpoint import Address

WITHIN = 10.0
"""Seconds that a request's head, and then its body, may take to come."""
IDLE = 5.0
CAPS = gate.Caps(all=512, of_address=64)
MAX_REQUESTS = 64
"""Answered at a time; more wait."""

Handle = Callable[[str, str, bytes, str], Awaitable[Answer]]


class Joining:
    """Serves `handle(method, path, body, address)`."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._slots = asyncio.Semaphore(MAX_REQUESTS)
        self._connections: Connections | None = None
        self._gate: gate.Gate | None = None
        self._tls: ssl.SSLContext | None = None

    async def start(self, listen: Address, certificate: Path, key: Path) -> int:
        """Serve; gives the port. Raises OSError, ssl.SSLError."""
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.load_cert_chain(certificate, key)
        listener = gate.listen(listen.host, listen.port)
        self._connections = Connections(
            self._answer, head_within=WITHIN, idle=IDLE, lingering_time=1.0, auto_decompress=False
        )
        self._gate = gate.Gate(listener, self._connections, self._tls, CAPS)
        self._gate.open()
        port: int = listener.getsockname()[1]
        return port

    def reload(self, certificate: Path, key: Path) -> None:
        """New connections get the certificate that is there now."""
        if self._tls:
            self._tls.load_cert_chain(certificate, key)

    async def stop(self) -> None:
        """End it."""
        if self._gate and self._connections:
            await self._gate.close()
            self._connections.pre_shutdown()
            await self._connections.shutdown(1.0)
            self._connections.stop()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        try:
            async with asyncio.timeout(WITHIN):
                body = await request.content.read(MAX_BODY + 1)
                while len(body) <= MAX_BODY and (more := await request.content.read(MAX_BODY + 1 - len(body))):
                    body += more
        except TimeoutError:
            return web.Response(status=408)
        async with self._slots:
            answer = await self._handle(request.method, request.path, body, request.remote or "")
        return web.Response(
            status=answer.code, body=answer.body, headers=answer.headers, content_type="application/json"
        )
