"""All controllers: one view of the objects, and each told of what touches it. Clients of the API, on trio.

API ─► ApiObjects ─► Snapshot ─┬─ Endpoints     EndpointSlices        (embedded API)
                               ├─ Addresses     ranges, mesh addresses
        leases ────────────────┼─ Heartbeats    Ready or not          (embedded API)
        records, tokens ───────┴─ Housekeeping  the revoked, rights, clones
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import trio

from edgemesh.authority import utc
from edgemesh.cloud import setup
from edgemesh.cloud.endpoints import Endpoints
from edgemesh.cloud.housekeeping import Housekeeping
from edgemesh.cloud.nodes import Addresses, Heartbeats
from edgemesh.cloud.options import Options
from edgemesh.cloud.state import State
from edgemesh.join.endpoint import Answer, Endpoint
from edgemesh.snapshot import Snapshot
from sync.client.connection import Api, ApiStatus, ApiUnreachable
from sync.client.kubeconfig import Access
from sync.client.objects import ApiObjects
from sync.client.wire import Followed
from sync.controllers.slices import MANAGER
from sync.resources.kinds import MANAGED_BY, EndpointSlice, MeshNode, Node, Pod, Service

RETRY = 2.0
"""Seconds between attempts to make what must be there."""

NODES = (Followed(Node, "nodes"), Followed(MeshNode, "meshnodes"))
OWN_SLICES = Followed(EndpointSlice, "endpointslices", labels=f"{MANAGED_BY}={MANAGER}")
"""Those that others make are none of the controller's: they would be most of what it holds."""
ENDPOINTS = (Followed(Service, "services"), Followed(Pod, "pods"), OWN_SLICES)

log = logging.getLogger("edgemesh.cloud")


class Controllers:
    """`access` is the controllers' way to the API, `reached` the nodes'; `cut` gets the serials of all revoked
    certificates, in this thread."""

    def __init__(
        self, options: Options, state: State, access: Access, reached: Access, cut: Callable[[frozenset[int]], None]
    ) -> None:
        self._options = options
        self._state = state
        self._api_server = reached.server
        self._cut = cut
        self._api = Api(access)
        api_ca = None if options.embedded else reached.ca
        self._endpoint = Endpoint(
            state.authority, self._api, grace=options.renewal_grace, nodes=options.embedded, api_ca=api_ca
        )

    async def run(self) -> None:
        """Until cancelled."""
        options, here = self._options, self._state
        async with self._api as api:
            await _set_up(api, options, here, self._api_server)
            await _control(api, options, here, self._cut)

    async def join(self, method: str, path: str, body: bytes, address: str) -> Answer:
        """Answer a request to the join endpoint."""
        return await self._endpoint.handle(method, path, body, address)


async def _control(api: Api, options: Options, state: State, cut: Callable[[frozenset[int]], None]) -> None:
    snapshot = Snapshot()
    addresses = Addresses(
        api, snapshot, pod_range=options.pod_range, mesh_range=options.mesh_range, embedded=options.embedded
    )
    endpoints = Endpoints(api, snapshot) if options.embedded else None
    found = ApiObjects(api, followed=(*NODES, *ENDPOINTS) if endpoints else NODES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.run)
        nursery.start_soon(addresses.work.run)
        if endpoints:
            nursery.start_soon(endpoints.work.run)
            nursery.start_soon(Heartbeats(api, snapshot, options.node_grace).run)
        nursery.start_soon(Housekeeping(api, state, cut, embedded=options.embedded).run)
        async for changes in found:
            # a service without a selector is none of the controllers': to them it is not there
            others = {each.key for each in changes.changed if isinstance(each, Service) and not each.spec.selector}
            changed = [each for each in changes.changed if each.key not in others]
            affected = snapshot.apply(changed, [*changes.gone, *others])
            addresses.changed(affected)
            if endpoints:
                endpoints.changed(affected)


async def _set_up(api: Api, options: Options, state: State, api_server: str) -> None:
    told = ""
    while True:
        try:
            await setup.run(api, options.cluster(api_server), state.authority.pem)
            if not options.embedded and not await setup.believes(api.access, state.authority, utc(time.time())):
                log.error(
                    "the API at %s does not believe clients of the CA that --ca-cert names: no node can use it. Name "
                    "the CA of its --client-ca-file, or set the clocks of both machines",
                    api_server,
                )
            return
        except (ApiStatus, ApiUnreachable) as error:
            if str(error) != told:
                log.warning("the cluster can't be set up: %s: tried again", error)
            told = str(error)
        await trio.sleep(RETRY)
