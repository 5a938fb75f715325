"""The process: asyncio has the servers, in the main thread; trio has the controllers, in the other.

Each is ended by the other's end: a cloud that does half its work is not up. The API comes first: it serves before the
controllers' modules, trio among them, are imported.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import ipaddress
import logging
import signal
import ssl
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgemesh.address import host_port
from edgemesh.authority import AuthorityError, utc
from edgemesh.cloud import state
from edgemesh.cloud.options import Options, names
from edgemesh.cloud.state import State, StateError
from edgemesh.join.messages import MAX_API_CA
from sync.api.gate import more_descriptors
from sync.client import kubeconfig
from sync.client.kubeconfig import Access, KubeconfigError
from sync.store import StoreFault
from tunnel.endpoint import Address

if TYPE_CHECKING:
    from edgemesh.cloud.joining import Joining
    from sync.api.server import Server

CERTIFICATES_EVERY = 6 * 3600.0
"""Seconds between looks at the age of certificates."""

log = logging.getLogger("edgemesh.cloud")


class CloudError(Exception):
    """The cloud can't run, or a part of it failed; the message says why and what to do."""


def run(options: Options) -> None:
    """Until SIGTERM or SIGINT. Raises CloudError."""
    more_descriptors()
    try:
        there = _there(options.kubeconfig) if options.kubeconfig else None  # before anything is made
        asyncio.run(Cloud(options, state.load(options, utc(time.time())), there).run())
    except (StateError, AuthorityError, KubeconfigError, StoreFault, ssl.SSLError) as error:
        raise CloudError(str(error)) from None


def _there(path: Path) -> Access:
    """The API of a cluster that is there. Raises CloudError, KubeconfigError."""
    access = kubeconfig.load(path)
    if len(access.ca) > MAX_API_CA:
        raise CloudError(
            f"{path}: the certificate authorities have {len(access.ca)} bytes, and nodes are given {MAX_API_CA} at "
            "most: name the API server's own CA"
        )
    return access


class Cloud:
    """One cloud; `run` it. `there` is the API of the cluster that is there, None for one of the cloud's own."""

    def __init__(self, options: Options, found: State, there: Access | None = None) -> None:
        self._options = options
        self._state = found
        self._names = names(options, str(ipaddress.ip_network(options.service_range)[1]))
        self._server: Server | None = None
        self._access = self._reached = there
        self._loop: asyncio.AbstractEventLoop

    async def run(self) -> None:
        """Until a signal, or until a part fails. Raises CloudError and what `run` expects."""
        self._loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, stopping.set)
        here = self._state
        first = not here.admin.exists()
        here.keep_server(self._names, utc(time.time()))
        try:
            if self._reached is None:
                await self._serve_api()
            await self._control(first, stopping)
        finally:
            if self._server:
                await self._server.stop()

    async def _control(self, first: bool, stopping: asyncio.Event) -> None:
        """Let nodes join, and keep what should be kept."""
        with ThreadPoolExecutor(1) as importer:  # the API answers meanwhile
            await self._loop.run_in_executor(importer, importlib.import_module, "edgemesh.cloud.controllers")
        from edgemesh.cloud.controllers import Controllers
        from edgemesh.cloud.joining import Joining
        from edgemesh.cloud.thread import TrioThread

        options, here = self._options, self._state
        assert self._access is not None
        assert self._reached is not None
        controllers = Controllers(options, here, self._access, self._reached, self._cut)
        thread = TrioThread(controllers.run)
        joining = Joining(partial(thread.call, controllers.join))
        tasks: list[asyncio.Task[Any]] = []
        try:
            start = joining.start(options.join_listen, here.certificate, here.key)
            port = await _listening(start, options.join_listen, "--join-listen")
            log.info("nodes join at %s", state.url(options.host, port))
            thread.start()
            if first and options.embedded:
                self._welcome()
            ends = (stopping.wait(), thread.ended(), self._keep_certificates(joining))
            tasks = [asyncio.create_task(each) for each in ends]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if error := task.exception():
                    raise CloudError(f"a part of the cloud failed: {type(error).__name__}: {error}") from error
        finally:
            for task in tasks:
                task.cancel()
            await joining.stop()
            await thread.stop()

    async def _serve_api(self) -> None:
        options, here = self._options, self._state
        from sync.api import server as api  # beside a cluster that is there it is not needed

        server = api.Server(
            api.Options(
                host=options.listen.host,
                port=options.listen.port,
                certificate=here.certificate,
                key=here.key,
                client_ca=here.ca,
                database=here.database,
                service_range=options.service_range,
                advertise=options.host,
            )
        )
        server.revoke(here.revoked_serials())  # before anybody connects; then the controllers say what is new
        port = await _listening(server.start(), options.listen, "--listen")
        self._server = server
        self._reached = Access(server=state.url(options.host, port), ca=here.authority.pem.decode())
        self._access = here.access(self._loopback(port))
        here.keep_clients(self._reached.server, utc(time.time()))

    def _loopback(self, port: int) -> str:
        listened = self._options.listen.host
        return state.url("127.0.0.1" if listened in ("0.0.0.0", "::") else listened, port)

    def _welcome(self) -> None:
        log.info(
            "this is a new cluster. As root on this machine:\n"
            "  export KUBECONFIG=%s\n"
            "  edgemesh token create     # prints the command by which a machine joins\n"
            "  kubectl get nodes",
            self._state.admin,
        )

    async def _keep_certificates(self, joining: Joining) -> None:
        """Make certificates anew when they get old."""
        while True:
            await asyncio.sleep(CERTIFICATES_EVERY)
            here = self._state
            if here.keep_server(self._names, utc(time.time())):
                joining.reload(here.certificate, here.key)
                if self._server:
                    self._server.reload_certificate()
            if self._server and self._reached:
                here.keep_clients(self._reached.server, utc(time.time()))

    def _cut(self, serials: frozenset[int]) -> None:
        """Called by the controllers' thread."""
        if self._server:
            self._loop.call_soon_threadsafe(self._server.revoke, serials)


async def _listening(start: Awaitable[int], listen: Address, option: str) -> int:
    try:
        return await start
    except OSError as error:
        do = "stop what listens there, or " if error.errno == errno.EADDRINUSE else ""
        where = host_port(listen.host, listen.port)
        raise CloudError(f"{where}: {error.strerror or error}: {do}choose another address with {option}") from None
