"""The two APIs that are compared: the cloud role's, and Kubernetes' own with etcd; each alone, on loopback."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import apiserver
from e2e.lab.api import Unreachable, load
from e2e.lab.topology import ENVIRONMENT, program

READY_WITHIN = 20.0
LOOK = 0.005


@dataclass(frozen=True, slots=True)
class Served:
    """An API that is up: how to get in, its processes, and the seconds from its start until it was ready."""

    kubeconfig: Path
    pids: tuple[int, ...]
    ready: float


class ServerError(Exception):
    """It did not start; the message has its last lines."""


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[Served]:
    """`edgemesh cloud`, new. Raises ServerError."""
    folder.mkdir(parents=True)
    admin, log = folder / "state" / "admin.kubeconfig", folder / "cloud.log"
    ports = apiserver.free_ports(2)
    where = [f"--listen=127.0.0.1:{ports[0]}", f"--join-listen=127.0.0.1:{ports[1]}", "--advertise=127.0.0.1"]
    command = program("cloud", f"--state-dir={folder / 'state'}", *where)
    began = time.monotonic()
    with apiserver.process("cloud", command, folder, {**os.environ, **ENVIRONMENT}) as process:
        while not (admin.exists() and _is_ready(admin)):
            if process.poll() is not None or time.monotonic() - began > READY_WITHIN:
                raise ServerError("the cloud is not ready:\n" + "\n".join(log.read_text().splitlines()[-5:]))
            time.sleep(LOOK)
        yield Served(admin, (process.pid,), time.monotonic() - began)


@contextlib.contextmanager
def kubernetes(folder: Path) -> Iterator[Served]:
    """etcd and kube-apiserver, new. Raises bench.apiserver.ApiServerError."""
    with apiserver.running(folder) as found:
        yield Served(found.kubeconfig, found.pids, found.ready)


def _is_ready(kubeconfig: Path) -> bool:
    try:
        api = load(kubeconfig)
    except (OSError, KeyError, ValueError, TypeError):
        return False  # it is just being written
    try:
        return api.ask("GET", "/readyz").code == 200
    except Unreachable:
        return False
    finally:
        api.close()
