"""A Kubernetes API over HTTP/1.1 and TLS, on trio.

`Api` keeps idle connections for the next request, and opens another where none is idle; a watch has one to itself.
Redirects are not followed. Client certificates, keys and tokens are read again when their files change, for new
connections and requests.

Two errors: `ApiStatus` is the API's own word (a Status of 400 and above), `ApiUnreachable` is everything else, from a
name that does not resolve to an answer that is no JSON.

Source: RFC 9112; kubernetes.io, "Kubernetes API Concepts" and "Common definitions: Status".
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import h11
import msgspec
import trio

from sync.client import credentials
from sync.client.kubeconfig import Access
from sync.client.transport import (
    MAX_ERROR,
    ApiStatus,
    ApiUnreachable,
    ClosedError,
    Connection,
    Response,
    causes,
    connect,
    explain,
    tls_context,
)
from sync.client.wire import PAGE

__all__ = ["Api", "ApiStatus", "ApiUnreachable", "Response", "resource_path"]

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
"""Server-side apply; JSON is YAML."""

REQUEST_TIMEOUT = 30.0
"""Seconds for a whole answer, or for the head of one that goes on."""
IDLE = 30.0
"""Seconds that a connection is kept without use, and `KEPT` how many are: servers close theirs after 75 and more."""
KEPT = 4
MAX_RETRY_AFTER = 120.0
"""Seconds; a server that asks for more is asked again nevertheless."""

Query = Mapping[str, str]

_CLOSED = (ClosedError, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class _Status(msgspec.Struct):
    kind: str
    reason: str = ""
    message: str = ""


class Api:
    """One API and one client's credentials. Use it as a context manager: its end closes what is idle."""

    def __init__(self, access: Access, *, request_timeout: float = REQUEST_TIMEOUT) -> None:
        self.access = access
        self._timeout = request_timeout
        parts = urlsplit(access.server)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._host_header, self._prefix = parts.netloc, parts.path.rstrip("/")
        self._idle: list[Connection] = []
        self._context: ssl.SSLContext | None = None
        self._credentials: object = None
        self._end: tuple[object, float | None] | None = None
        self.refused = ""
        """Why the API does not take the client's credentials, as far as is known; empty while it does."""

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
        connection: Connection | None = None
        try:
            with self._in_time(head_within):
                connection, head = await self._ask(request, body or b"")
            response = Response(connection, head)
            if head.status_code >= 300:
                await self._refused(response)
            yield response
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
            raise ApiUnreachable(explain(error, self._host, self._port)) from None
        finally:
            if connection is not None:
                await self._release(connection)

    async def _ask(self, request: h11.Request, body: bytes) -> tuple[Connection, h11.Response]:
        """Send a request on an idle connection or a new one; the head of its answer."""
        while True:
            connection = await self._take() or await self._connect()
            try:
                await connection.send(request, body)
                head = await connection.head()
                if head.status_code != 401:
                    self.refused = ""
                return connection, head
            except (trio.BrokenResourceError, h11.ProtocolError) as error:
                await connection.close()
                if not connection.used:
                    raise await self._failed(error) from None
                # The server may have closed what was idle; only a read may be asked twice.
                if request.method != b"GET":
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
                    message = status.message
                    if response.code == 401:
                        self.refused = credentials.refused(self.access, await self._ends())
                        message = ": ".join(filter(None, (message, self.refused)))
                    raise ApiStatus(response.code, status.reason, message, whole, retry_after)
        if response.code == 404:  # of a group that it doesn't have, a kube-apiserver says so in plain text
            raise ApiStatus(404, "NotFound", "the server could not find the requested resource", {}, retry_after)
        what = "a redirect, which is not followed" if response.code < 400 else "no Kubernetes Status"
        raise ApiUnreachable(f"{self.access.server} answers {response.code} with {what}", retry_after)

    async def _failed(self, error: Exception) -> ApiUnreachable:
        """What it means that a new connection broke, or was closed, before anything was answered."""
        why = explain(error, self._host, self._port)
        found = causes(error)
        alerts = [text for each in found if isinstance(each, ssl.SSLError) and (text := credentials.alert(each))]
        closed = any(isinstance(each, _CLOSED) for each in found)
        if not (self.access.certificate or self.access.certificate_pem) or not (alerts or closed):
            return ApiUnreachable(why)
        end = await self._ends()
        told = f"{credentials.certificate(self.access, end)} is not accepted"
        if alerts or credentials.ended(end):
            self.refused = told
        else:
            told = f"perhaps {told}"
        # closed or reset is the server's timing: it makes no other reason
        parts = (told, alerts[0]) if alerts else ("the connection was closed without an answer", told)
        return ApiUnreachable(": ".join((f"{self._host}:{self._port}", *parts)))

    async def _ends(self) -> float | None:
        """When the client's certificate ends; of the one that connections are made with now."""
        if not (self.access.certificate or self.access.certificate_pem):
            return None
        if self._end is None or self._end[0] != self._credentials:
            of = self._credentials
            self._end = of, await trio.to_thread.run_sync(credentials.ends, self.access)
        return self._end[1]

    @contextlib.contextmanager
    def _in_time(self, seconds: float) -> Iterator[None]:
        with trio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise ApiUnreachable(f"{self._host}:{self._port} does not answer within {seconds:g} s")

    # connections

    async def _take(self) -> Connection | None:
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

    async def _release(self, connection: Connection) -> None:
        if connection.reusable and len(self._idle) < KEPT:
            connection.http.start_next_cycle()
            connection.used, connection.idle_since = True, trio.current_time()
            self._idle.append(connection)
        else:
            with trio.CancelScope(shield=True):
                await connection.close()

    async def _connect(self) -> Connection:
        context = self._tls() if self._secure else None
        try:
            connection = await connect(self._host, self._port, context, self.access.server_name or self._host)
        except trio.BrokenResourceError as error:
            raise await self._failed(error) from None
        connection.credentials = self._credentials
        return connection

    def _tls(self) -> ssl.SSLContext:
        """The TLS settings with the credentials as they are now."""
        access = self.access
        state = tuple(map(_stamp, (access.certificate, access.key)))
        if self._context is None or state != self._credentials:
            self._context, self._credentials = tls_context(access), state
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
