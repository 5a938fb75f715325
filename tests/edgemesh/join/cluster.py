"""A cloud for tests: an API in memory, as far as joining asks one, and the join endpoint over HTTPS on it."""

from __future__ import annotations

import contextlib
import copy
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trio

from edgemesh import authority, nodes
from edgemesh.authority import Authority
from edgemesh.join.endpoint import Endpoint
from edgemesh.join.objects import CONFIG_MAPS, Object
from sync.client.connection import ApiStatus

NOW = 1_750_000_000.0


def at(seconds: float = NOW) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class Memory:
    """Objects by path; versions, conflicts and finalizers as Kubernetes has them. `broken` is raised by every call."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.broken: Exception | None = None
        self.writes: list[str] = []
        self.before_create: Callable[[str], None] = lambda path: None
        self._version = 0

    async def get(self, path: str) -> Object:
        self._check()
        if path not in self.objects:
            raise ApiStatus(404, "NotFound", f"{path} not found", {})
        return copy.deepcopy(self.objects[path])

    async def list(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        self._check()
        found = [obj for name, obj in self.objects.items() if name.rpartition("/")[0] == path]
        for wanted in (query or {}).get("labelSelector", "").split(","):
            label, _, value = wanted.partition("=")
            labels = [obj["metadata"].get("labels") or {} for obj in found]
            found = [
                obj
                for obj, has in zip(found, labels, strict=True)
                if not label or (label in has and value in ("", has[label]))
            ]
        if kind := (query or {}).get("fieldSelector", "").removeprefix("type="):
            found = [obj for obj in found if obj.get("type") == kind]
        return {"items": copy.deepcopy(found)}

    async def create(self, path: str, obj: Mapping[str, Any]) -> Object:
        self._check()
        whole = f"{path}/{obj['metadata']['name']}"
        self.before_create(whole)
        if whole in self.objects:
            raise ApiStatus(409, "AlreadyExists", f"{whole} already exists", {})
        return self._put(whole, obj)

    async def update(self, path: str, obj: Mapping[str, Any]) -> Object:
        self._check()
        path = path.removesuffix("/approval").removesuffix("/status")
        version = obj["metadata"].get("resourceVersion")
        if version and version != (await self.get(path))["metadata"]["resourceVersion"]:
            raise ApiStatus(409, "Conflict", "the object has been modified", {})
        found = self._put(path, obj)
        if found["metadata"].get("deletionTimestamp") and not found["metadata"].get("finalizers"):
            del self.objects[path]
        return found

    async def patch(self, path: str, patch: object) -> Object:
        found = await self.get(path)
        assert isinstance(patch, dict)
        found["metadata"]["labels"] = {**found["metadata"].get("labels", {}), **patch["metadata"]["labels"]}
        return self._put(path, found)

    async def delete(self, path: str) -> Object:
        found = await self.get(path)
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = "2025-06-15T15:06:40Z"
            return self._put(path, found)
        self.writes.append(path)
        del self.objects[path]
        return found

    def names(self, word: str) -> Sequence[str]:
        return sorted(path.rpartition("/")[2] for path in self.objects if f"/{word}/" in path)

    def _check(self) -> None:
        if self.broken:
            raise self.broken

    def _put(self, path: str, obj: Mapping[str, Any]) -> Object:
        self._version += 1
        self.writes.append(path)
        kept = copy.deepcopy(dict(obj))
        kept["metadata"] = {**kept["metadata"], "resourceVersion": str(self._version)}
        self.objects[path] = kept
        return copy.deepcopy(kept)


def config_map(authority: Authority, join: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "edgemesh", "namespace": "edgemesh-system"},
        "data": {
            "ca.crt": authority.pem.decode(),
            "apiServer": "https://192.0.2.1:6443",
            "join": join,
            "relays": "192.0.2.1:20006, [2001:db8::1]:20006",
            "serviceCIDR": "10.97.0.0/16",
            "podCIDR": "10.245.0.0/16",
            "meshCIDR": "10.223.0.0/16",
            "clusterDomain": "site.example",
        },
    }


class Cloud:
    """An authority, an API and the endpoint, on a clock that stands still."""

    def __init__(self, folder: Path, now: float = NOW, *, join: str = "https://127.0.0.1:10002") -> None:
        self.now = now
        self.folder = folder
        self.authority = authority.load_or_make(folder, at(now))
        self.api = Memory()
        self.api.objects[f"{CONFIG_MAPS}/edgemesh"] = config_map(self.authority, join)
        self.endpoint = Endpoint(self.authority, self.api, clock=lambda: self.now)

    def token(self, node: str = "") -> str:
        async def create() -> str:
            return (await nodes.create_token(self.api, at(self.now), node=node)).command

        return trio.run(create).split(" --token ")[1].split()[0]


@contextlib.contextmanager
def https(cloud: Cloud, folder: Path) -> Iterator[str]:
    """The endpoint over HTTPS on loopback; its URL."""
    credentials = cloud.authority.server(["127.0.0.1"], at(cloud.now))
    both = folder / "server.pem"
    both.write_bytes(credentials.certificate + credentials.key)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = trio.run(cloud.endpoint.handle, self.command, self.path, body, self.client_address[0])
            self.send_response(answer.code)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that trust nobody hang up

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            url = f"https://127.0.0.1:{server.server_address[1]}"
            cloud.api.objects[f"{CONFIG_MAPS}/edgemesh"]["data"]["join"] = url
            yield url
        finally:
            server.shutdown()
            thread.join()
