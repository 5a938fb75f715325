"""A real Kubernetes API, kube-apiserver and etcd, on loopback: a peer of tests and benchmarks.

Nothing runs but these two: no controller manager, so nobody makes service accounts (their admission is off), endpoint
slices or node ranges. The client of the kubeconfig is `system:masters`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trustme

from bench.peers import Peer, find

PROGRAMS = ("etcd", "kube-apiserver")
SERVICE_RANGE = "10.96.0.0/12"
STARTS_WITHIN = 60.0


class ApiServerError(Exception):
    """A program is missing, or did not start; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where it is and how to get in; `pids` are etcd's and kube-apiserver's, `ready` the seconds that they took.

    Its own certificate is of `ca`; it believes clients whose certificate the other CA, `client_ca`, signed.
    """

    url: str
    ca: Path
    client_ca: Path
    client_ca_key: Path
    certificate: Path
    key: Path
    kubeconfig: Path
    pids: tuple[int, int]
    ready: float


def missing() -> str:
    """Which of the programs are not there, and how to bring them; empty if all are."""
    absent = [name for name in PROGRAMS if find(name) is None]
    return f"{', '.join(absent)} not there: python -m bench.peers {' '.join(absent)}" if absent else ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Command lines, with files and credentials in place."""

    etcd: list[str]
    server: list[str]
    url: str
    ca: Path
    client_ca: Path
    client_ca_key: Path
    certificate: Path
    key: Path
    kubeconfig: Path


def prepare(folder: Path, *arguments: str, host: str = "127.0.0.1") -> Prepared:
    """Write what both need into `folder`, for an API at `host`; `arguments` are added to kube-apiserver's.

    Raises ApiServerError when a program is missing.
    """
    if problem := missing():
        raise ApiServerError(problem)
    folder.mkdir(parents=True, exist_ok=True)
    serving, clients = trustme.CA(), trustme.CA()
    ca, certificate, key = folder / "ca.crt", folder / "admin.crt", folder / "admin.key"
    client_ca, client_ca_key = folder / "client-ca.crt", folder / "client-ca.key"
    serving.cert_pem.write_to_path(str(ca))
    clients.cert_pem.write_to_path(str(client_ca))
    clients.private_key_pem.write_to_path(str(client_ca_key))
    _write_pair(serving.issue_cert(host, "localhost", common_name="kube-apiserver"), folder / "server")
    _write_pair(clients.issue_cert("admin", common_name="admin", organization_name="system:masters"), folder / "admin")
    (store, peers), api = free_ports(2), free_ports(1)[0]
    urls = [f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peers}"]
    url = f"https://{host}:{api}"
    kubeconfig = write_kubeconfig(folder / "admin.kubeconfig", url, ca, certificate, key)
    server = [*_kube_apiserver(folder, host, api, urls[0], client_ca), *arguments]
    return Prepared(
        _command("etcd", _etcd(folder, *urls)),
        _command("kube-apiserver", server),
        url,
        ca,
        client_ca,
        client_ca_key,
        certificate,
        key,
        kubeconfig,
    )


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[ApiServer]:
    """Run both, with their data in `folder`; `arguments` are added to kube-apiserver's. Raises ApiServerError."""
    made = prepare(folder, *arguments)
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        etcd = stack.enter_context(process("etcd", made.etcd, folder))
        server = stack.enter_context(process("kube-apiserver", made.server, folder))
        context = ssl.create_default_context(cafile=str(made.ca))
        context.load_cert_chain(made.certificate, made.key)
        _wait(made.url, context, server, folder)
        ready = time.monotonic() - began
        yield ApiServer(
            made.url,
            made.ca,
            made.client_ca,
            made.client_ca_key,
            made.certificate,
            made.key,
            made.kubeconfig,
            (etcd.pid, server.pid),
            ready,
        )


def _command(name: str, arguments: Sequence[str]) -> list[str]:
    """With the environment that the program needs."""
    peer: Peer | None = find(name)
    assert peer is not None
    return ["/usr/bin/env", *(f"{key}={value}" for key, value in peer.env.items()), str(peer.path), *arguments]


def write_kubeconfig(path: Path, url: str, ca: Path, certificate: Path, key: Path) -> Path:
    """A kubeconfig for a client certificate; mode 0600."""
    text = f"""apiVersion: v1
kind: Config
current-context: test
clusters:
- name: test
  cluster:
    server: {url}
    certificate-authority: {ca}
contexts:
- name: test
  context:
    cluster: test
    user: test
users:
- name: test
  user:
    client-certificate: {certificate}
    client-key: {key}
"""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _write_pair(issued: trustme.LeafCert, path: Path) -> None:
    issued.private_key_pem.write_to_path(f"{path}.key")
    Path(f"{path}.key").chmod(0o600)
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(f"{path}.crt", append=index > 0)


def free_ports(count: int) -> list[int]:
    """TCP ports of loopback that nobody has."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _etcd(folder: Path, clients: str, peers: str) -> list[str]:
    return [
        *("--name", "test", "--data-dir", str(folder / "etcd")),
        *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"test={peers}"),
        *("--log-level", "warn"),
    ]


def _kube_apiserver(folder: Path, host: str, port: int, store: str, client_ca: Path) -> list[str]:
    server = folder / "server"
    return [
        f"--etcd-servers={store}",
        f"--bind-address={host}",
        f"--advertise-address={host}",
        f"--secure-port={port}",
        f"--cert-dir={folder}",
        f"--tls-cert-file={server}.crt",
        f"--tls-private-key-file={server}.key",
        f"--client-ca-file={client_ca}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={server}.key",
        f"--service-account-signing-key-file={server}.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
    ]


@contextlib.contextmanager
def process(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in `cwd`, by default `folder`, that adds to NAME.log in `folder` and is ended at the end."""
    with (folder / f"{name}.log").open("ab") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd or folder, env=env)
    try:
        yield running
    finally:
        end(running)


def end(running: subprocess.Popen[bytes]) -> None:
    """Stop a process, by force after 10 s; one that is over already is none the worse."""
    running.terminate()
    try:
        running.wait(10)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    if running.stdout is not None:
        running.stdout.close()


def _wait(url: str, context: ssl.SSLContext, server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        with contextlib.suppress(OSError, urllib.error.HTTPError):
            if urllib.request.urlopen(f"{url}/readyz", context=context, timeout=5).status == 200:
                return
        if server.poll() is not None or time.monotonic() > deadline:
            last = (folder / "kube-apiserver.log").read_text(errors="replace").splitlines()[-5:]
            raise ApiServerError("kube-apiserver is not ready:\n" + "\n".join(last))
        time.sleep(0.05)
