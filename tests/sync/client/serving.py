"""A server on loopback that answers as a test tells it to, well or not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import h11
import msgspec
import trio

from sync.client.kubeconfig import Access


class Asked(NamedTuple):
    """A request; `connection` counts connections from 1, `peer` is the client certificate's common name."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    connection: int
    peer: str


Answer = Callable[[trio.abc.Stream, Asked], Awaitable[object]]
"""Writes an answer; the connection is kept if it returns None, and closed if it returns anything else."""


def response(body: object, code: int = 200, **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data


def status(code: int, reason: str = "As", message: str = "as the test says", **headers: str) -> bytes:
    return response({"kind": "Status", "code": code, "reason": reason, "message": message}, code, **headers)


WATCH_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Serving:
    """What runs: its `asked` so far, and `answer`, which may be exchanged at any time."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.connections = 0
        self.access = Access(server="")
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """End all connections at once."""
        for scope in list(self._scopes):
            scope.cancel()

    async def handle(self, stream: trio.abc.Stream) -> None:
        """One connection."""
        self.connections += 1
        number = self.connections
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._talk(stream, number)
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError, ssl.SSLError):
                pass
            finally:
                self._scopes.discard(scope)
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)

    async def _talk(self, stream: trio.abc.Stream, number: int) -> None:
        peer = ""
        if isinstance(stream, trio.SSLStream):
            await stream.do_handshake()
            subject = dict(part[0] for part in (stream.getpeercert() or {}).get("subject", ()))
            peer = subject.get("commonName", "")
        while True:
            http = h11.Connection(h11.SERVER)
            request, body = None, b""
            while not isinstance(event := http.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    data = await stream.receive_some(65536)
                    if not data:
                        return
                    http.receive_data(bytes(data))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
            assert request is not None
            path, _, query = request.target.decode().partition("?")
            headers = {name.decode(): value.decode() for name, value in request.headers}
            asked = Asked(request.method.decode(), path, query, headers, body, number, peer)
            self.asked.append(asked)
            if await self.answer(stream, asked) is not None:
                return


@asynccontextmanager
async def serving(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[Serving]:
    """Serve; the client's `access` is that of plain HTTP, or has the URL alone where there is TLS."""
    found = Serving(answer)
    async with trio.open_nursery() as nursery:
        listeners: list[trio.abc.Listener[trio.abc.Stream]] = list(await trio.open_tcp_listeners(0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]  # type: ignore[attr-defined]
        if context:
            listeners = [trio.SSLListener(each, context) for each in listeners]
        found.access = Access(server=f"http{'s' if context else ''}://127.0.0.1:{port}")
        nursery.start_soon(trio.serve_listeners, found.handle, listeners)
        yield found
        nursery.cancel_scope.cancel()


def saying(*answers: bytes) -> Answer:
    """Says these in turn, the last for ever; what ends with nothing closes the connection."""
    rest = list(answers)

    async def answer(stream: trio.abc.Stream, asked: Asked) -> object:
        await stream.send_all(rest.pop(0) if len(rest) > 1 else rest[0])
        return None

    return answer
