"""A Kubernetes API over HTTP/1.1 and TLS, on trio.

`Api` keeps idle connections for the next request, and opens another where none is idle; a watch has one to itself.
Redirects are not followed. Client certificates, keys and tokens are read again when their files change, for new
connections and requests. Everything that comes from the other side is bounded: header, body, line.

Two errors: `ApiStatus` is the API's own word (a Status of 400 and above), `ApiUnreachable` is everything else, from a
name that does not resolve to an answer that is no JSON. Neither has a secret in it.

Source: RFC 9112; kubernetes.io, "Kubernetes API Concepts" and "Common definitions: Status".
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import h11
import msgspec
import trio

from sync.client.kubeconfig import Access

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply; JSON is YAML."""

CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
"""Seconds for a whole answer, or for the head of one that goes on."""
IDLE = 30.0
"""Seconds that a connection is kept without use, and `KEPT` how many are: servers close theirs after 75 and more."""
KEPT = 4
MAX_BODY = 64 << 20
MAX_ERROR = 1 << 20
MAX_LINE = 4 << 20
"""Bytes of an answer, of one that is an error, of a watch's line: objects are below 1.5 MB."""
MAX_HEADER = 64 << 10
PAGE = 500
MAX_RETRY_AFTER = 120.0
"""Seconds; a server that asks for more is asked again nevertheless."""

Query = Mapping[str, str]


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


class _Status(msgspec.Struct):
    kind: str
    reason: str = ""
    message: str = ""


class Response:
    """An answer whose head has come; its body is read by one of the two ways."""

    def __init__(self, connection: _Connection, head: h11.Response) -> None:
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


class _Connection:
    def __init__(self, stream: trio.abc.Stream, credentials: object) -> None:
        self.stream = stream
        self.credentials = credentials
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
                self.http.receive_data(await self.stream.receive_some(1 << 16))
            elif isinstance(event, h11.Event):
                return event
            else:
                raise h11.RemoteProtocolError("the connection was closed")

    @property
    def reusable(self) -> bool:
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


class Api:
    """One API and one client's credentials. Use it as a context manager: its end closes what is idle."""

    def __init__(self, access: Access, *, request_timeout: float = REQUEST_TIMEOUT) -> None:
        self.access = access
        self._timeout = request_timeout
        parts = urlsplit(access.server)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._host_header, self._prefix = parts.netloc, parts.path.rstrip("/")
        self._idle: list[_Connection] = []
        self._context: ssl.SSLContext | None = None
        self._credentials: object = None

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        idle, self._idle = self._idle, []
        with trio.CancelScope(shield=True):
            for connection in idle:
                await connection.close()

    # requests

    async def request(
        self, method: str, path: str, query: Query | None = None, body: bytes | None = None, content_type: str = JSON
    ) -> bytes:
        """The body of an answer of 200 to 299. Raises ApiStatus, ApiUnreachable."""
        with self._in_time(self._timeout):
            async with self._exchange(method, path, query, body, content_type) as response:
                return await response.read()
        raise AssertionError

    @contextlib.asynccontextmanager
    async def stream(self, path: str, query: Query) -> AsyncIterator[Response]:
        """An answer that goes on, such as a watch's, once its head is there. Raises as `request`."""
        async with self._exchange("GET", path, query, None, JSON, head_within=self._timeout) as response:
            yield response

    async def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """One object."""
        return _object(await self.request("GET", path, query))

    async def list(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """A whole list, asked for in pages of `PAGE`; begun again where its snapshot expired meanwhile."""
        pages: dict[str, Any] = {}
        after = ""
        while True:
            asked = {**(query or {}), "limit": str(PAGE)} | ({"continue": after} if after else {})
            try:
                page = await self.get(path, asked)
            except ApiStatus as error:
                if error.code != 410 or not after:
                    raise
                pages, after = {}, ""
                continue
            items = [*pages.get("items", ()), *(page.get("items") or ())]
            pages = {**page, "items": items}
            metadata = page.get("metadata")
            after = metadata.get("continue", "") if isinstance(metadata, dict) else ""
            if not after:
                return pages

    async def create(self, path: str, obj: Mapping[str, Any], query: Query | None = None) -> dict[str, Any]:
        """POST to a collection; the object as it was made."""
        return _object(await self.request("POST", path, query, msgspec.json.encode(obj)))

    async def update(self, path: str, obj: Mapping[str, Any], query: Query | None = None) -> dict[str, Any]:
        """PUT an object; the object as it is now."""
        return _object(await self.request("PUT", path, query, msgspec.json.encode(obj)))

    async def patch(
        self, path: str, patch: object, content_type: str = MERGE_PATCH, query: Query | None = None
    ) -> dict[str, Any]:
        """PATCH an object; the object as it is now. `APPLY_PATCH` needs `fieldManager` in the query."""
        return _object(await self.request("PATCH", path, query, msgspec.json.encode(patch), content_type))

    async def delete(
        self, path: str, query: Query | None = None, options: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """DELETE; the object, or a Status."""
        body = (
            None if options is None else msgspec.json.encode({"apiVersion": "v1", "kind": "DeleteOptions", **options})
        )
        return _object(await self.request("DELETE", path, query, body))

    # exchanges

    @contextlib.asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: bytes | None,
        content_type: str,
        head_within: float = float("inf"),
    ) -> AsyncIterator[Response]:
        target = self._prefix + quote(path, safe="/:@-._~") + (f"?{urlencode(query)}" if query else "")
        headers = [("Host", self._host_header), ("Accept", JSON), ("User-Agent", "edgemesh")]
        headers += [("Authorization", f"Bearer {token}")] if (token := self._token()) else []
        if body is not None:
            headers += [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        request = h11.Request(method=method, target=target, headers=headers)
        connection: _Connection | None = None
        try:
            with self._in_time(head_within):
                connection, head = await self._ask(request, body or b"")
            response = Response(connection, head)
            if head.status_code >= 300:
                await self._refused(response)
            yield response
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
            raise ApiUnreachable(self._why(error)) from None
        finally:
            if connection is not None:
                await self._release(connection)

    async def _ask(self, request: h11.Request, body: bytes) -> tuple[_Connection, h11.Response]:
        """Send a request on an idle connection or a new one; the head of its answer."""
        while True:
            connection = await self._take() or await self._connect()
            try:
                await connection.send(request, body)
                return connection, await connection.head()
            except (trio.BrokenResourceError, h11.ProtocolError):
                await connection.close()
                # The server may have closed what was idle; only a read may be asked twice.
                if not connection.used or request.method != b"GET":
                    raise
            except BaseException:
                await connection.close()
                raise

    async def _refused(self, response: Response) -> None:
        """Raise what an answer of 300 and above means."""
        wait = response.headers.get("retry-after", "")
        retry_after = min(float(wait), MAX_RETRY_AFTER) if wait.isdecimal() else 0.0
        with self._in_time(self._timeout):
            body = await response.read(MAX_ERROR)
        if response.code >= 400:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                status = msgspec.json.decode(body, type=_Status)
                if status.kind == "Status":
                    whole = _object(body)
                    raise ApiStatus(response.code, status.reason, status.message, whole, retry_after)
        what = "a redirect, which is not followed" if response.code < 400 else "no Kubernetes Status"
        raise ApiUnreachable(f"{self.access.server} answers {response.code} with {what}", retry_after)

    @contextlib.contextmanager
    def _in_time(self, seconds: float) -> Iterator[None]:
        with trio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise ApiUnreachable(f"{self._host}:{self._port} does not answer within {seconds:g} s")

    # connections

    async def _take(self) -> _Connection | None:
        """An idle connection that is still good."""
        if self._secure:
            self._tls()
        now = trio.current_time()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < IDLE and connection.credentials == self._credentials:
                return connection
            await connection.close()
        return None

    async def _release(self, connection: _Connection) -> None:
        if connection.reusable and len(self._idle) < KEPT:
            connection.http.start_next_cycle()
            connection.used, connection.idle_since = True, trio.current_time()
            self._idle.append(connection)
        else:
            with trio.CancelScope(shield=True):
                await connection.close()

    async def _connect(self) -> _Connection:
        with trio.move_on_after(CONNECT_TIMEOUT):
            stream: trio.abc.Stream = (tcp := await trio.open_tcp_stream(self._host, self._port))
            for option, value in (
                (socket.TCP_KEEPIDLE, 15),
                (socket.TCP_KEEPINTVL, 5),
                (socket.TCP_KEEPCNT, 3),
                (socket.TCP_USER_TIMEOUT, 20_000),
            ):
                tcp.socket.setsockopt(socket.IPPROTO_TCP, option, value)
            tcp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            try:
                if self._secure:
                    name = self.access.server_name or self._host
                    secure = trio.SSLStream(tcp, self._tls(), server_hostname=name, https_compatible=True)
                    await secure.do_handshake()
                    stream = secure
            except BaseException:
                await trio.aclose_forcefully(tcp)
                raise
            return _Connection(stream, self._credentials)
        raise ApiUnreachable(f"{self._host}:{self._port} can't be connected to within {CONNECT_TIMEOUT:g} s")

    def _tls(self) -> ssl.SSLContext:
        """The TLS settings with the credentials as they are now."""
        access = self.access
        state = tuple(map(_stamp, (access.certificate, access.key)))
        if self._context is None or state != self._credentials:
            self._context, self._credentials = _tls_context(access), state
        return self._context

    def _token(self) -> str:
        token, file = self.access.token, self.access.token_file
        if file:
            try:
                with open(file, encoding="utf-8") as opened:
                    token = opened.read(1 << 16).strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "is not text"
                raise ApiUnreachable(f"the token in {file}: {why}") from None
        if not (token.isascii() and token.isprintable()):  # h11 would say it with the token
            raise ApiUnreachable(f"the token {f'in {file}' if file else '(inline)'} is not one line of text")
        return token

    def _why(self, error: BaseException) -> str:
        """A failure in a user's words."""
        where = f"{self._host}:{self._port}"
        causes = [error]
        while (inner := causes[-1].__cause__) is not None:
            causes.append(inner.exceptions[-1] if isinstance(inner, BaseExceptionGroup) else inner)
        for cause in reversed(causes):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"{where}: its certificate is not accepted: {cause.verify_message}"
            if isinstance(cause, ssl.SSLError):
                return f"{where}: TLS: {(cause.reason or str(cause)).lower().replace('_', ' ')}"
            if isinstance(cause, OSError) and cause.strerror:
                known = cause.errno and cause.errno > 0  # trio's texts repeat the address
                return f"{where}: {os.strerror(cause.errno) if known else cause.strerror}"
        return f"{where}: {error or type(error).__name__}"


def _tls_context(access: Access) -> ssl.SSLContext:
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


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path) if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiUnreachable(f"the answer is no JSON object: {error}") from None


def resource_path(
    group: str, version: str, plural: str, namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    """The path of a collection, an object or its subresource; `group` is empty for the core."""
    parts = [f"/apis/{group}/{version}" if group else f"/api/{version}"]
    parts += ["namespaces", namespace] if namespace else []
    return "/".join((*parts, plural, *filter(None, (name, subresource))))
