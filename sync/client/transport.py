"""One connection to an API, its TLS, and the two ways a request fails.

Everything that comes from the other side is bounded: header, body, line. No error has a secret in it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import h11
import trio

from sync.client.kubeconfig import Access

CONNECT_TIMEOUT = 10.0
"""Seconds until a connection is up, TLS included."""
MAX_BODY = 64 << 20
MAX_ERROR = 1 << 20
MAX_LINE = 4 << 20
"""Bytes of an answer, of one that is an error, of a watch's line: objects are below 1.5 MB."""
MAX_HEADER = 64 << 10
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 15),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 20_000),
)
"""A host that went silent is noticed within 30 s, while nothing is sent too; the last is in ms."""


class ApiStatus(Exception):
    """The API refused: HTTP code, its reason ("NotFound"), its message, the whole Status. Times in seconds."""

    def __init__(self, code: int, reason: str, message: str, status: dict[str, Any], retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.status = status
        self.retry_after = retry_after


class ApiUnreachable(Exception):
    """There was no answer, or none that an API gives; the message says why."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class ClosedError(h11.RemoteProtocolError):
    """The server closed the connection in place of an answer."""


class Response:
    """An answer whose head has come; its body is read by one of the two ways."""

    def __init__(self, connection: Connection, head: h11.Response) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self.code = head.status_code
        self.reason = head.reason.decode("latin-1")
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        self.ended = False

    async def read(self, limit: int = MAX_BODY) -> bytes:
        """All of it."""
        while not self.ended:
            self._buffer += await self._receive()
            if len(self._buffer) > limit:
                raise ApiUnreachable(f"the answer has more than {limit} bytes")
        return bytes(self._buffer)

    async def lines(self) -> list[bytes]:
        """The next whole lines, at least one; none when the body has ended. Cancelling it loses nothing."""
        while True:
            end = self._buffer.rfind(b"\n")
            if end >= 0:
                found = bytes(memoryview(self._buffer)[:end])
                del self._buffer[: end + 1]
                if lines := [line for line in found.split(b"\n") if line.strip()]:
                    return lines
            if self.ended:
                if self._buffer:
                    raise ApiUnreachable("the answer ended amid a line")
                return []
            if len(self._buffer) > MAX_LINE:
                raise ApiUnreachable(f"a line has more than {MAX_LINE} bytes")
            self._buffer += await self._receive()

    async def _receive(self) -> bytes:
        event = await self._connection.next_event()
        if isinstance(event, h11.Data):
            return event.data
        self.ended = True
        return b""


class Connection:
    """HTTP/1.1 on a stream, one exchange at a time. `credentials` are those it was opened with."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.credentials: object = None
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER)
        self.idle_since = 0.0
        self.used = False

    async def send(self, request: h11.Request, body: bytes) -> None:
        data = self.http.send(request) or b""
        if body:
            data += self.http.send(h11.Data(body)) or b""
        data += self.http.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(data)

    async def head(self) -> h11.Response:
        while not isinstance(event := await self.next_event(), h11.Response):
            pass  # 1xx
        return event

    async def next_event(self) -> h11.Event:
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                data = bytes(await self.stream.receive_some(1 << 16))
                if not data and self.http.their_state is h11.SEND_RESPONSE:
                    raise ClosedError("the connection was closed without an answer")
                self.http.receive_data(data)
            elif isinstance(event, h11.Event):
                return event
            else:
                raise h11.RemoteProtocolError("the connection was closed")

    @property
    def reusable(self) -> bool:
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


class _Tcp(trio.abc.Stream):
    """TCP whose failure to send is told by the next read, after what the server said before it closed.

    A server that closes with bytes unread resets the connection, while its alert or answer waits to be read.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._failed: trio.BrokenResourceError | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._failed:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            self._failed = error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if not data and self._failed:
            raise self._failed
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def connect(host: str, port: int, context: ssl.SSLContext | None, name: str) -> Connection:
    """Connect, by TLS where there is a context; `name` is what the server's certificate must be for."""
    with trio.move_on_after(CONNECT_TIMEOUT):
        stream = await trio.open_tcp_stream(host, port)
        for option, value in _KEEPALIVE:
            stream.socket.setsockopt(socket.IPPROTO_TCP, option, value)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        tcp = _Tcp(stream)
        if context is None:
            return Connection(tcp)
        secure = trio.SSLStream(tcp, context, server_hostname=name, https_compatible=True)
        try:
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(tcp)
            raise
        return Connection(secure)
    raise ApiUnreachable(f"{host}:{port} can't be connected to within {CONNECT_TIMEOUT:g} s")


def tls_context(access: Access) -> ssl.SSLContext:
    """TLS as `access` has it, with the files as they are now. Raises ApiUnreachable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if access.ca:
            context.load_verify_locations(cadata=access.ca)
        else:
            context.load_default_certs()
    except (ssl.SSLError, ValueError):
        raise ApiUnreachable("the kubeconfig's certificate authority is no certificate in PEM") from None
    if not (access.certificate or access.certificate_pem):
        return context
    with contextlib.ExitStack() as stack:
        certificate = access.certificate or stack.enter_context(_in_memory(access.certificate_pem))
        key = access.key or stack.enter_context(_in_memory(access.key_pem))
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # never asks on a terminal
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else "no pair"
            raise ApiUnreachable(f"the client certificate {access.certificate or '(inline)'}: {why}") from None
    return context


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A file's name for text that is on no disk, since OpenSSL reads files only."""
    fd = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(fd, text.encode())
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def causes(error: BaseException) -> list[BaseException]:
    """A failure and what it came from, the first cause first."""
    found = [error]
    while (inner := found[-1].__cause__) is not None:
        found.append(inner.exceptions[-1] if isinstance(inner, BaseExceptionGroup) else inner)
    return found[::-1]


def explain(error: BaseException, host: str, port: int) -> str:
    """A failure in a user's words."""
    where = f"{host}:{port}"
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{where}: its certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return f"{where}: TLS: the connection was closed"
        if isinstance(cause, ssl.SSLError):
            return f"{where}: TLS: {(cause.reason or str(cause)).lower().replace('_', ' ')}"
        if isinstance(cause, OSError) and cause.strerror:
            # trio's texts repeat the address; getaddrinfo's numbers are below zero
            return f"{where}: {os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror}"
    return f"{where}: HTTP: {error}" if isinstance(error, h11.ProtocolError) else f"{where}: {error or repr(error)}"
