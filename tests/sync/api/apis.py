"""APIs to put the same requests to: the embedded one and, where it is built, Kubernetes' own.

A test that takes the fixture `api` runs on both, one that takes `embedded` or `kubernetes` on that alone. Each is
started once for all tests; a test makes a namespace of its own (`api.namespace()`).
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bench import apiserver
from bench.peers import find

JSON = "application/json"
STARTS_WITHIN = 20.0
IDLE = 30.0
"""Seconds after which a connection is not used again: either API ends it some time."""
_numbers = itertools.count()


class Reply(NamedTuple):
    """An answer; `object` is its JSON, None if it is something else."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def object(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Of a Status."""
        return str(self.object.get("reason", ""))

    @property
    def message(self) -> str:
        """Of a Status."""
        return str(self.object.get("message", ""))


@dataclass
class Api:
    """An API that runs, and its administrator's credentials."""

    name: str
    url: str
    ca: Path
    kubeconfig: Path
    client: ssl.SSLContext
    authority: trustme.CA | None = None
    folder: Path = Path()
    pid: int = 0
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)
    _used: float = 0.0

    @property
    def embedded(self) -> bool:
        return self.name == "embedded"

    def connect(self, context: ssl.SSLContext | None = None, timeout: float = 30) -> http.client.HTTPSConnection:
        """A connection of one's own, by default the administrator's."""
        place = urlsplit(self.url)
        host = place.hostname or ""
        return http.client.HTTPSConnection(host, place.port, context=context or self.client, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPSConnection | None = None,
    ) -> Reply:
        """`body`: bytes as they are, anything else as JSON."""
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"Accept": JSON, "User-Agent": "tests/1", **({"Content-Type": JSON} if sent is not None else {})}
        given.update(headers or {})
        connection = connection or self._kept()
        try:
            connection.request(method, path, sent, given)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers), answer.read())
        except (http.client.HTTPException, OSError):
            connection.close()
            raise

    def get(self, path: str, **options: Any) -> Reply:
        return self.request("GET", path, **options)

    def create(self, path: str, body: Any) -> Any:
        """A POST that has to work; gives the object."""
        reply = self.request("POST", path, body)
        assert reply.code == 201, reply
        return reply.object

    def patch(self, path: str, body: Any, kind: str = "merge-patch+json") -> Reply:
        return self.request("PATCH", path, body, {"Content-Type": f"application/{kind}"})

    def namespace(self) -> str:
        """A new namespace."""
        name = f"t{os.getpid()}-{next(_numbers)}"
        self.create("/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def as_user(self, name: str, *groups: str) -> ssl.SSLContext:
        """Credentials of another user, by certificate."""
        assert self.authority is not None
        return client_context(self.authority, self.ca, name, *groups)

    @contextlib.contextmanager
    def watch(self, path: str, timeout: float = 20) -> Iterator[Iterator[Any]]:
        """The events of a watch, as they come."""
        connection = self.connect(timeout=timeout)
        try:
            connection.request("GET", path, headers={"Accept": JSON})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield (json.loads(line) for line in iter(answer.readline, b""))
        finally:
            connection.close()

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """What kubectl prints."""
        peer = find("kubectl")
        if peer is None:
            pytest.skip("kubectl is not there: python -m bench.peers kubectl")
        command = [str(peer.path), f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.folder}/cache", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def close(self) -> None:
        """Its kept connection."""
        if self._connection is not None:
            self._connection.close()

    def _kept(self) -> http.client.HTTPSConnection:
        now = time.monotonic()
        if now - self._used > IDLE:
            self.close()
        self._connection, self._used = self._connection or self.connect(), now
        return self._connection


def client_context(authority: trustme.CA, ca: Path, name: str, *groups: str) -> ssl.SSLContext:
    """A client certificate: `name` is the user, `groups` its groups."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    signer = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.create_default_context(cafile=str(ca))
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(
            trustme.Blob(private + certificate.public_bytes(serialization.Encoding.PEM)).tempfile()
        )
        context.load_cert_chain(path)
    return context


def make_credentials(folder: Path) -> tuple[trustme.CA, ssl.SSLContext]:
    """The server's and the administrator's, in files; gives the authority, and what the administrator connects with."""
    authority = trustme.CA()
    ca, pair = folder / "ca.crt", folder / "server.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(pair))
    admin = authority.issue_cert("admin", common_name="admin", organization_name="system:masters")
    certificate, key = folder / "admin.crt", folder / "admin.key"
    admin.cert_chain_pems[0].write_to_path(str(certificate))
    admin.private_key_pem.write_to_path(str(key))
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(certificate, key)
    return authority, context


@contextlib.contextmanager
def running_embedded(folder: Path, *arguments: str) -> Iterator[Api]:
    """`python -m sync.api` in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, context = make_credentials(folder)
    ca, certificate, key = folder / "ca.crt", folder / "admin.crt", folder / "admin.key"
    process, url = start_embedded(folder, *arguments)
    try:
        kubeconfig = apiserver.write_kubeconfig(folder / "admin.kubeconfig", url, ca, certificate, key)
        with contextlib.closing(Api("embedded", url, ca, kubeconfig, context, authority, folder, process.pid)) as api:
            yield api
    finally:
        apiserver.end(process)


def start_embedded(folder: Path, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
    """The process on the files in `folder`, and its URL."""
    command = [sys.executable, "-m", "sync.api", "--certificate", str(folder / "server.pem")]
    command += ["--key", str(folder / "server.pem"), "--client-ca", str(folder / "ca.crt")]
    command += ["--database", str(folder / "api.db"), *arguments]
    with (folder / "api.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    deadline = time.monotonic() + STARTS_WITHIN
    line = process.stdout.readline().decode()
    if not line.startswith("ready ") or time.monotonic() > deadline:
        apiserver.end(process)
        raise AssertionError(f"the API did not start:\n{(folder / 'api.log').read_text()[-2000:]}")
    return process, line.split()[1]


def kubernetes_of(real: apiserver.ApiServer) -> Api:
    """Kubernetes' own, once its namespaces are there."""
    context = ssl.create_default_context(cafile=str(real.ca))
    context.load_cert_chain(real.certificate, real.key)
    api = Api("kubernetes", real.url, real.ca, real.kubeconfig, context, None, real.kubeconfig.parent, real.pids[1])
    deadline = time.monotonic() + STARTS_WITHIN
    while api.get("/api/v1/namespaces/default").code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return api
