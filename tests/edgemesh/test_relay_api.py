"""The relay on an API: it admits those whose proofs hold, and those it knew when the API is away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from edgemesh.vetting import REVOKED
from sync.client.connection import Api, ApiStatus
from sync.client.kubeconfig import load
from tests.edgemesh.crds import make_crds
from tests.edgemesh.running import ENVIRONMENT, command, until
from tests.edgemesh.test_agent_api import mesh_node
from tests.edgemesh.test_publish import MESH_NODES
from tests.edgemesh.test_vetting import Cluster
from tests.sync.client.apis import api as api  # a fixture

CONFIG_MAPS = "/api/v1/namespaces/edgemesh-system/configmaps"


@contextmanager
def relay(state: Path, kubeconfig: Path, log: Path) -> Iterator[Callable[[], str]]:
    """A running one; gives a function for what it has said."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    args = command("relay", "--listen", f"127.0.0.1:{port}", "--kubeconfig", str(kubeconfig), "--state-dir", str(state))
    with log.open("wb") as file:
        process = subprocess.Popen(args, stderr=file, env={**os.environ, **ENVIRONMENT})
    try:
        yield log.read_text
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_who_is_admitted(api: Path, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "ca")
    state = tmp_path / "state"
    (state / "pki").mkdir(parents=True)
    (state / "pki" / "ca.crt").write_bytes(cluster.authority.pem)
    b = cluster.node("b", 2, cluster.join("b")).spec.proof

    def do(*calls: tuple[str, str, dict[str, Any]]) -> None:
        async def main() -> None:
            async with Api(load(api)) as connection:
                await make_crds(connection)
                for method, path, body in calls:
                    try:
                        await getattr(connection, method)(path, body)
                    except ApiStatus as error:  # what an earlier run of this module's API left
                        if error.code not in (404, 409):
                            raise

        trio.run(main)

    do(("create", MESH_NODES, mesh_node("b", 2, b)), ("create", MESH_NODES, mesh_node("liar", 3, b)))
    with relay(state, api, tmp_path / "1.log") as said:
        until(lambda: "relaying on" in said(), 15, "relaying", said)
        assert "admitting 1 nodes: b\n" in said()
        assert "MeshNode liar: refused: its certificate is" in said()
        c = cluster.node("c", 4, cluster.join("c")).spec.proof
        do(("create", MESH_NODES, mesh_node("c", 4, c)))
        until(lambda: "admitting 2 nodes: b, c\n" in said(), 10, "c admitted", said)
        crl = {"metadata": {"name": REVOKED.name}, "data": cluster.revoked("b", number=1).data}
        do(("create", CONFIG_MAPS, crl))
        until(lambda: "admitting 1 nodes: c\n" in said(), 10, "b revoked", said)
    text = api.read_text()
    server = next(line.split()[1] for line in text.splitlines() if "server:" in line)
    away = tmp_path / "away.kubeconfig"
    away.write_text(text.replace(server, "https://127.0.0.1:1"))
    with relay(state, away, tmp_path / "2.log") as said:
        until(lambda: "relaying on" in said(), 15, "relaying", said)
        assert "admitting 1 nodes: c\n" in said()
        until(lambda: "Connection refused: what is known goes on being used" in said(), 10, "told", said)


def test_the_state_directory_is_the_kubeconfigs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgemesh import cli

    (tmp_path / "node.kubeconfig").write_text("kind: Config\n")
    assert cli.main(["relay", "--state-dir", str(tmp_path)]) == 2
    assert "node.kubeconfig: 'clusters' is missing" in capsys.readouterr().err
