"""The server: HTTPS in front of the verbs.

A request is authenticated, counted, authorized, read and answered; what goes wrong is always a Status. Reads are from
memory and don't wait; writes wait for the disk.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import logging
import ssl
from pathlib import Path
from typing import cast

import msgspec

from sync.api import bootstrap, gate, nonresource, options, paths, rules, status, versions
from sync.api.access import Authenticator, User
from sync.api.allocation import Allocator
from sync.api.connections import Connection, Connections, refusal
from sync.api.emptying import Emptying
from sync.api.garbage import Garbage
from sync.api.http import web
from sync.api.inflight import Inflight
from sync.api.objects import Landed, Objects
from sync.api.registry import Registry
from sync.api.requests import Answer, Asked, Requests
from sync.api.status import ApiError
from sync.api.watch import Stream
from sync.store import Store, StoreFault

logger = logging.getLogger(__name__)

MAX_REQUEST = 3 << 20
"""Bytes of a request's body."""
BODY_WITHIN = 60.0
MAX_WATCHES = 4000
CAPS = gate.Caps(all=5000, of_address=500)
COMPRESSED_FROM = 128 * 1024
STOP_WITHIN = 5.0
TLS_BUFFER = 32 * 1024
"""Bytes of a connection's read buffer: asyncio's own 256 KB make up most of what a watcher costs."""
_READS = ("get", "list", "watch")


class Options(msgspec.Struct, kw_only=True):
    """`client_ca` may hold several certificates; `advertise` is where nodes reach this server, for its own service."""

    host: str = "127.0.0.1"
    port: int = 6443
    certificate: Path
    key: Path
    client_ca: Path
    database: Path
    service_range: str = "10.96.0.0/12"
    node_ports: tuple[int, int] = (30000, 32767)
    tokens: Path | None = None
    advertise: str = ""


class Server:
    """A Kubernetes API. `start` raises OSError, ssl.SSLError, StoreFault, TokenFileError."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.store = Store(options.database)
        self.registry = Registry()
        self.port = 0
        self._authenticator = Authenticator(options.tokens)
        allocator = Allocator(self.store, options.service_range, options.node_ports)
        self._objects = Objects(self.store, self.registry, allocator)
        self._requests = Requests(self._objects)
        self._streams: set[Stream] = set()
        self._inflight = Inflight()
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: Connections | None = None
        self._gate: gate.Gate | None = None
        self._tls: ssl.SSLContext | None = None
        self._stopping = False

    async def start(self) -> int:
        """Serve; gives the port."""
        asyncio.sslproto.SSLProtocol.max_size = TLS_BUFFER
        self._tls = _tls(self.options)
        listener = gate.listen(self.options.host, self.options.port)
        try:
            self.port = listener.getsockname()[1]
            await self.store.open()
            await self._begin()
            self._connections = Connections(
                self._handle, max_line_size=16384, max_field_size=32768, auto_decompress=False
            )
            self._gate = gate.Gate(listener, self._connections, self._tls, CAPS)
            self._gate.open()
        except BaseException:
            listener.close()
            await self._end()
            raise
        logger.info("serving https://%s:%d from %s", self.options.host, self.port, self.options.database)
        return self.port

    async def stop(self) -> None:
        """Take no more, end watches, finish writes."""
        self._stopping = True
        if self._gate is not None:
            await self._gate.close()
        for stream in tuple(self._streams):
            stream.close()
        if self._connections is not None:
            self._connections.pre_shutdown()
            await self._connections.shutdown(STOP_WITHIN)
            self._connections.stop()
        await self._end()

    def revoke(self, serials: frozenset[int]) -> None:
        """Certificates of these serial numbers count no more, and connections that use one end now."""
        self._authenticator.revoke(serials)
        if self._connections is not None:
            self._connections.cut(lambda transport: self._authenticator.revoked(transport.get_extra_info("peercert")))

    def reload_certificate(self) -> None:
        """New connections get the certificate that is in the files now. Raises OSError, ssl.SSLError."""
        if self._tls is not None:
            self._tls.load_cert_chain(self.options.certificate, self.options.key)

    async def _begin(self) -> None:
        self._serve_definitions()
        garbage, emptying = Garbage(self._objects), Emptying(self._objects)
        self._objects.followers += [self._landed, garbage.landed, emptying.landed]
        garbage.load()
        emptying.load()
        self._tasks = [asyncio.create_task(each.run()) for each in (garbage, emptying)]
        for task in self._tasks:
            task.add_done_callback(_said)
        advertise = self.options.advertise or self.options.host
        await bootstrap.make(self._objects, "" if advertise in ("0.0.0.0", "::") else advertise, self.port)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    def _landed(self, write: Landed) -> None:
        if write.type.plural == "customresourcedefinitions" and not write.type.custom:
            self._serve_definitions()
            for stream in tuple(self._streams):
                if self.registry.find(stream.type.group, stream.type.version, stream.type.plural) is None:
                    stream.close()

    def _serve_definitions(self) -> None:
        type = self.registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert type is not None
        entries = self.store.list(type.storage).entries
        if entries or self.registry.generation:
            self.registry.set_crds([versions.read(type, entry.data) for entry in entries])

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request, cast(Connection, request.protocol))
        except ApiError as error:
            return refusal(error)
        except StoreFault as error:
            logger.error("%s %s: %s", request.method, request.rel_url.raw_path, error)
            return refusal(status.unavailable(f"the store can't write: {error}"))
        except RecursionError:
            return refusal(status.bad_request("the request is too deeply nested"))
        except Exception:
            logger.exception("%s %s", request.method, request.rel_url.raw_path)
            return refusal(status.internal("see the server's log"))

    async def _answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        if self._stopping:
            raise status.unavailable("the server is stopping")
        path = request.rel_url.raw_path
        user = self._user(request, connection)
        if path in rules.HEALTH or path.startswith(("/livez/", "/readyz/", "/healthz/")):
            return await self._open(request, path)
        if user is None:
            raise status.unauthorized()
        if any(name.lower().startswith("impersonate-") for name in request.headers):
            raise status.forbidden(
                status.GroupResource("", ""), "", "nobody is impersonated here: use their certificate"
            )
        target = paths.target(path)
        query = options.query(request.rel_url.raw_query_string)
        if target is None:
            verb = "get" if request.method in ("GET", "HEAD") else request.method.lower()
            decision = rules.authorize(user, rules.Request(verb, path=path), self.store)
            if not decision.allowed:
                raise status.forbidden(status.GroupResource("", ""), "", decision.reason)
            with self._inflight.counted(user.name, reads=True):
                return await connection.send(request, await _response(request, self._nonresource(request, path)))
        watching = query.get("watch", "false").lower() not in ("false", "0")
        asked = Asked(
            user,
            paths.verb(request.method, target, watching),
            target,
            query,
            request.headers.get("Accept", ""),
            request.headers.get("User-Agent", ""),
            request.headers.get("Content-Type", ""),
            lambda: _body(request),
        )
        with self._inflight.counted(user.name, reads=asked.verb in _READS):
            answer = await self._requests.answer(asked)
            if isinstance(answer, Answer):
                return await connection.send(request, await _response(request, answer))
        return await self._stream(request, connection, answer)

    async def _stream(self, request: web.BaseRequest, connection: Connection, stream: Stream) -> web.StreamResponse:
        if len(self._streams) >= MAX_WATCHES:
            raise status.too_many("Too many watches, please try again later.")
        self._streams.add(stream)
        connection.on_lost = stream.close
        try:
            return await stream.run(request)
        finally:
            connection.on_lost = None
            self._streams.discard(stream)

    def _user(self, request: web.BaseRequest, connection: Connection) -> User | None:
        """By certificate, else by token."""
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport is not None else None
        user = self._authenticator.certified(certificate)
        if user is None and "Authorization" in request.headers:
            user = self._authenticator.bearer(request.headers["Authorization"])
            if user is None:
                raise status.unauthorized()
        return user

    async def _open(self, request: web.BaseRequest, path: str) -> web.Response:
        """What anybody may ask for: health and the version."""
        if path == "/version":
            return await _response(request, self._nonresource(request, path))
        _reads_only(request)
        fault = self.store.status().fault
        if fault:
            raise status.unavailable(f"the store can't write: {fault}")
        return web.Response(text="ok")

    def _nonresource(self, request: web.BaseRequest, path: str) -> Answer:
        _reads_only(request)
        address = f"{self.options.advertise or self.options.host}:{self.port}"
        return nonresource.answer(self.registry, path, request.headers.get("Accept", ""), address)


def _reads_only(request: web.BaseRequest) -> None:
    if request.method not in ("GET", "HEAD"):
        raise status.method_not_allowed()


async def _body(request: web.BaseRequest) -> bytes:
    """A request's body. Raises ApiError."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise status.bad_request("a body with a Content-Encoding is not read: send it as it is")
    length = request.content_length
    if length is not None and length > MAX_REQUEST:
        raise status.too_large(MAX_REQUEST)
    if request.content.is_eof() and request.content.exception() is None:  # it came with the head: no clock is needed
        whole = request.content.read_nowait()
        if len(whole) > MAX_REQUEST:
            raise status.too_large(MAX_REQUEST)
        return whole
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WITHIN):
            while part := await request.content.readany():
                size += len(part)
                if size > MAX_REQUEST:
                    raise status.too_large(MAX_REQUEST)
                parts.append(part)
    except TimeoutError:
        raise status.timeout(f"the request's body did not come within {BODY_WITHIN:.0f} s") from None
    except web.RequestPayloadError as error:
        raise status.bad_request(f"the request's body can't be read: {error}") from None
    return b"".join(parts)


async def _response(request: web.BaseRequest, answer: Answer) -> web.Response:
    headers = {"Cache-Control": "no-cache, private", "Content-Type": answer.media, **dict(answer.headers)}
    body = answer.body
    fits = len(body) >= COMPRESSED_FROM and "Content-Encoding" not in headers
    if fits and "gzip" in request.headers.get("Accept-Encoding", ""):
        import gzip

        body = await asyncio.to_thread(gzip.compress, body, 1)
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    response = web.Response(body=body, status=answer.code, headers=headers)
    for text in answer.warnings:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\r", " ")
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def _tls(options: Options) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(options.certificate, options.key)
    context.load_verify_locations(options.client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _said(task: asyncio.Task[None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        if error := task.exception():
            logger.error("a task of the API ended", exc_info=error)
