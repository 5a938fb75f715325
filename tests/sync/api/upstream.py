"""Kubernetes' own API with one definition, for tests that ask it the same."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from bench import apiserver
from tests.sync.api.kinds import definition

Json = dict[str, Any]

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Kubernetes:
    """Kubernetes' own, with the definition of shirts."""

    def __init__(self, server: apiserver.ApiServer) -> None:
        context = ssl.create_default_context(cafile=str(server.ca))
        context.load_cert_chain(server.certificate, server.key)
        place = urlsplit(server.url)
        self._connection = http.client.HTTPSConnection(place.hostname or "", place.port, context=context, timeout=30)
        self._wait(lambda: self.request("GET", "/api/v1/namespaces/default")[0] == 200)
        self.serve(True)

    def serve(self, shirts: bool, crd: Json | None = None) -> None:
        """Have the definition, or not."""
        if shirts:
            self.request("POST", CRDS, crd or definition())
        else:
            self.request("DELETE", f"{CRDS}/shirts.example.com")
        wanted = 200 if shirts else 404
        self._wait(lambda: self.request("GET", "/apis/example.com/v1/shirts")[0] == wanted)
        if shirts:  # the old definition may have been served for a moment more
            self._wait(self._established)
        else:
            self._wait(lambda: self.request("GET", f"{CRDS}/shirts.example.com")[0] == 404)

    def _established(self) -> bool:
        conditions = self.request("GET", f"{CRDS}/shirts.example.com")[1].get("status", {}).get("conditions", ())
        return any((each["type"], each["status"]) == ("Established", "True") for each in conditions)

    def request(
        self, method: str, where: str, body: Json | None = None, accept: str = "application/json"
    ) -> tuple[int, Json]:
        sent = json.dumps(body).encode() if body is not None else None
        self._connection.request(method, where, sent, {"Content-Type": "application/json", "Accept": accept})
        answer = self._connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else {}

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def _wait(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.05)
