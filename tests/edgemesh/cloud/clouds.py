"""A running cloud: of its own API, or beside Kubernetes' own, there with the rights of deploy/rbac and no others."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from bench import apiserver
from bench.peers import find
from sync.client import kubeconfig
from sync.client.connection import Api, ApiStatus, ApiUnreachable
from tests.docs.pages import ROOT

WITHIN = 30.0


@dataclass
class Cloud:
    """`admin` is the kubeconfig of an administrator, `log` what the cloud wrote."""

    process: subprocess.Popen[bytes]
    state: Path
    admin: Path
    join: str
    log: Path
    embedded: bool

    def edgemesh(self, *words: str | Path) -> str:
        """Run a command as the administrator; its output."""
        command = [sys.executable, "-m", "edgemesh", *map(str, words)]
        environment = {**os.environ, "KUBECONFIG": str(self.admin)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, cwd=ROOT)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, function: str, *arguments: Any, kubeconfig_file: Path | None = None) -> Any:
        """One request by the product's own client."""

        async def main() -> Any:
            async with Api(kubeconfig.load(kubeconfig_file or self.admin)) as api:
                return await getattr(api, function)(*arguments)

        return trio.run(main)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = WITHIN) -> Any:
        """Wait until something holds; errors of the API mean not yet."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(ApiStatus, ApiUnreachable):
                if found := condition():
                    return found
            assert self.process.poll() is None, f"the cloud ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"{what} not within {seconds:g} s:\n{self.log.read_text()}"
            time.sleep(0.05)


@contextlib.contextmanager
def embedded(folder: Path, *options: str) -> Iterator[Cloud]:
    """A cloud with its own API; started again on the same folder it is the same one."""
    state = folder / "cloud"
    listen = ["--listen", f"127.0.0.1:{apiserver.free_ports(1)[0]}"]
    with _running(folder, state, state / "admin.kubeconfig", True, [*listen, *options]) as cloud:
        yield cloud


@contextlib.contextmanager
def beside_kubernetes(folder: Path) -> Iterator[Cloud]:
    """Raises apiserver.ApiServerError where Kubernetes is not built."""
    with apiserver.running(folder / "kubernetes") as api:
        kubectl = [str(found.path) if (found := find("kubectl")) else "kubectl", "--kubeconfig", str(api.kubeconfig)]
        subprocess.run([*kubectl, "apply", "-f", ROOT / "deploy/rbac/cloud.yaml"], check=True, capture_output=True)
        subject = ["-n", "edgemesh-system", "edgemesh-cloud"]
        said = subprocess.run([*kubectl, "create", "token", *subject], check=True, capture_output=True, text=True)
        token = folder / "cloud.token"
        token.touch(mode=0o600)
        token.write_text(said.stdout)
        config = folder / "cloud.kubeconfig"
        config.touch(mode=0o600)
        config.write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
            f"clusters: [{{name: c, cluster: {{server: '{api.url}', certificate-authority: '{api.ca}'}}}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
            f"users: [{{name: u, user: {{tokenFile: '{token}'}}}}]\n"
        )
        signer = ["--ca-cert", str(api.client_ca), "--ca-key", str(api.client_ca_key)]
        options = ["--kubeconfig", str(config), *signer]
        with _running(folder, folder / "cloud", api.kubeconfig, False, options) as cloud:
            yield cloud


@contextlib.contextmanager
def _running(folder: Path, state: Path, admin: Path, embedded: bool, options: list[str]) -> Iterator[Cloud]:
    port = apiserver.free_ports(1)[0]
    words = ["cloud", "--state-dir", str(state), "--join-listen", f"127.0.0.1:{port}", "--advertise", "127.0.0.1"]
    command = [sys.executable, "-m", "edgemesh", *words, "--relay", "192.0.2.7:20006", *options]
    with apiserver.process("cloud", command, folder, cwd=ROOT) as process:
        cloud = Cloud(process, state, admin, f"https://127.0.0.1:{port}", folder / "cloud.log", embedded)
        cloud.wait(admin.exists, "the administrator's kubeconfig")
        config = "/api/v1/namespaces/edgemesh-system/configmaps/edgemesh-revoked"
        cloud.wait(lambda: cloud.ask("get", config), "the cluster is set up")
        yield cloud
