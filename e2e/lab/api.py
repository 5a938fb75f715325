"""A small client of a Kubernetes API, by the standard library: what the kubelets, the scheduler and a user here need.

Run as a program (`python -m e2e.lab.api KUBECONFIG`) it carries out requests for somebody outside the bed: one JSON
object a line, `{"method", "path", "body", "type"}`, each answered by `{"code", "body", "at", "error"}`, `at` being the
time of CLOCK_MONOTONIC when the answer was there, `code` 0 where there was none.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

JSON, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH = (
    "application/json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
TIMEOUT = 10.0
WATCH_SECONDS = 300
"""How long a watch is asked for; it is begun again after that."""
SILENT_WATCH = 330.0

Object = dict[str, Any]


class Refused(Exception):
    """The API answered, and not with what was asked for; `code` is HTTP's, the message the Status'."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unreachable(Exception):
    """No answer, or none that can be read."""


class Answer(NamedTuple):
    """A whole answer, and when it was there."""

    code: int
    body: bytes
    at: float


class Api:
    """One API as one client; a connection is kept. Several threads may ask, one after another."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        parts = urlsplit(server)
        self.server = server
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = tls
        self._kept: http.client.HTTPSConnection | None = None
        self._lock = threading.Lock()

    def request(self, method: str, path: str, body: object = None, type: str = JSON) -> Object:
        """A JSON answer. Raises Refused, Unreachable."""
        answer = self.ask(method, path, None if body is None else json.dumps(body).encode(), type)
        try:
            found: Object = json.loads(answer.body or b"{}")
        except ValueError:
            raise Unreachable(f"{self.server} answers {method} {path} with what is no JSON") from None
        if answer.code >= 300:
            raise Refused(answer.code, str(found.get("message") or f"HTTP {answer.code}"))
        return found

    def ask(self, method: str, path: str, body: bytes | None = None, type: str = JSON) -> Answer:
        """Whatever the answer is. Raises Unreachable."""
        with self._lock:
            for again in (True, False):
                connection, used = self._kept or self._connection(TIMEOUT), self._kept is not None
                self._kept = None
                try:
                    connection.request(method, path, body, {"Content-Type": type, "Accept": JSON})
                    response = connection.getresponse()
                    answer = Answer(response.status, response.read(), time.monotonic())
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    # a kept connection may have ended meanwhile
                    if not (used and again):
                        raise Unreachable(f"{self.server}: {error or type_name(error)}") from None
                else:
                    self._kept = connection
                    return answer
        raise AssertionError("not reached")

    def watch(self, path: str, revision: str) -> Iterator[Object]:
        """Events from a revision on, until the API ends it. Raises Refused, Unreachable."""
        connection = self._connection(SILENT_WATCH)
        mark = "&" if "?" in path else "?"
        try:
            connection.request(
                "GET", f"{path}{mark}watch=true&resourceVersion={revision}&timeoutSeconds={WATCH_SECONDS}"
            )
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(response.status, response.read().decode(errors="replace")[:300])
            while line := response.readline():
                event: Object = json.loads(line)
                if event.get("type") == "ERROR":
                    status = event.get("object") or {}
                    raise Refused(int(status.get("code") or 500), str(status.get("message")))
                yield event
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.server}: {error or type_name(error)}") from None
        finally:
            connection.close()

    def close(self) -> None:
        """Let go of the connection that is kept."""
        with self._lock:
            if self._kept:
                self._kept.close()
            self._kept = None

    def _connection(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)


def type_name(error: BaseException) -> str:
    """For an error that says nothing itself."""
    return type(error).__name__


def load(path: Path) -> Api:
    """The API of a kubeconfig. Raises OSError, KeyError, ValueError."""
    return Api(*access(path))


def access(path: Path) -> tuple[str, ssl.SSLContext]:
    """Server and client certificate of a kubeconfig's current context. Raises OSError, KeyError, ValueError."""
    config = yaml.load(path.read_text(), yaml.CSafeLoader)
    named = {kind: {each["name"]: each[kind] for each in config[f"{kind}s"]} for kind in ("context", "cluster", "user")}
    context = named["context"][config["current-context"]]
    cluster, user = named["cluster"][context["cluster"]], named["user"][context["user"]]
    with _file(cluster, "certificate-authority") as ca:
        tls = ssl.create_default_context(cafile=ca)
    with _file(user, "client-certificate") as certificate, _file(user, "client-key") as key:
        tls.load_cert_chain(certificate, key)
    return cluster["server"], tls


@contextlib.contextmanager
def _file(where: Object, name: str) -> Iterator[str]:
    """A file that is named, or one for the time being with what is in the kubeconfig itself."""
    if data := where.get(f"{name}-data"):
        number, path = tempfile.mkstemp()
        try:
            with os.fdopen(number, "wb") as file:
                file.write(base64.b64decode(data))
            yield path
        finally:
            os.unlink(path)
    else:
        yield where[name]


RESOURCES = {
    "Namespace": ("api/v1", "namespaces", False),
    "Node": ("api/v1", "nodes", False),
    "Service": ("api/v1", "services", True),
    "Pod": ("api/v1", "pods", True),
    "ConfigMap": ("api/v1", "configmaps", True),
    "EndpointSlice": ("apis/discovery.k8s.io/v1", "endpointslices", True),
    "DestinationRule": ("apis/networking.istio.io/v1", "destinationrules", True),
}
"""Kinds of the examples and of benchmarks: where they are, and whether in a namespace."""


def path_of(item: Object) -> str:
    """An object's own path."""
    group, plural, namespaced = RESOURCES[item["kind"]]
    meta = item["metadata"]
    namespace = f"namespaces/{meta.get('namespace', 'default')}/" if namespaced else ""
    return f"/{group}/{namespace}{plural}/{meta['name']}"


def _json(body: bytes) -> Any:
    """None for what is none, such as the `ok` of /readyz."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def main(kubeconfig: str) -> None:
    api = load(Path(kubeconfig))
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        body = order.get("body")
        said: Object = {"code": 0, "body": None, "at": 0.0, "error": ""}
        try:
            answer = api.ask(
                order["method"],
                order["path"],
                None if body is None else json.dumps(body).encode(),
                order.get("type") or JSON,
            )
            said |= {"code": answer.code, "at": answer.at, "body": _json(answer.body)}
        except Unreachable as error:
            said["error"] = str(error)
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
