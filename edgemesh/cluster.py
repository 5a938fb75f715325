"""The Kubernetes API as a role's source of objects: connected, followed, vetted.

It imports TLS, HTTP and YAML, so a role imports it after its first decision, in a thread. A kubeconfig that is not
there or has a mistake is tried again: joining may be under way.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import trio

from edgemesh import files
from edgemesh.proof import Verifier
from edgemesh.publish import Publisher
from edgemesh.renewal import Renewal
from edgemesh.vetting import FOLLOWED as REVOKED
from edgemesh.vetting import LOOK_AGAIN, Vetting
from sync.client import kubeconfig, objects
from sync.client.connection import Api
from sync.client.kubeconfig import Access, KubeconfigError
from sync.client.manifests import Changes
from sync.client.objects import ApiObjects, SourceState
from sync.client.wire import Followed
from sync.resources.kinds import Key, MeshNode, Resource

RETRY = 5.0
"""Seconds between looks at a kubeconfig that can't be used."""
NODE = (*objects.FOLLOWED, REVOKED)
"""What a node follows, and what a relay does."""
RELAY = (Followed(MeshNode, "meshnodes"), REVOKED)

log = logging.getLogger(__name__)


class Location(NamedTuple):
    """Where the API is: a kubeconfig, a URL in place of its own (one of them may be empty), and the state directory.

    In the latter is `pki/ca.crt`, the CA of nodes' certificates; without it that of the kubeconfig is.
    """

    kubeconfig: str
    master: str
    state_dir: str

    def access(self) -> Access:
        """Raises KubeconfigError."""
        if self.kubeconfig:
            return kubeconfig.load(self.kubeconfig, master=self.master)
        return kubeconfig.of_master(self.master)

    def authorities(self, access: Access) -> bytes:
        """The CA certificates that nodes' proofs are checked with, in PEM. Raises KubeconfigError."""
        path = Path(self.state_dir, "pki", "ca.crt")
        try:
            return files.read(path) or access.ca.encode()
        except OSError as error:
            raise KubeconfigError(f"{path}: can't be read: {error.strerror}") from None


class Cluster:
    """One API. `known` and `serials` are what a snapshot held; `publish` makes what writes to the API, if anything.

    What publishes is a node: its certificate is renewed too.
    """

    def __init__(
        self,
        location: Location,
        known: Mapping[Key, Resource],
        serials: Mapping[str, int],
        *,
        followed: Iterable[Followed] = NODE,
        service_range: str = "",
        own: str = "",
        publish: Callable[[Api], Publisher] | None = None,
    ) -> None:
        self._location = location
        self._known = dict(known)
        self._kept_serials = dict(serials)
        self._followed = tuple(followed)
        self._service_range = service_range
        self._own = own
        self._publish = publish
        self._began = time.time()
        self._trouble = ""
        self._api: Api | None = None
        self._objects: ApiObjects | None = None
        self._vetting: Vetting | None = None
        self._publisher: Publisher | None = None
        self._renewal = Renewal(location.state_dir, own) if publish else None
        self.server = location.master or f"that of {location.kubeconfig}"

    async def run(self, take: Callable[[Changes], None]) -> None:
        """Follow until cancelled; `take` gets what is to be believed. Its first call may be with no changes."""
        access, authorities = await self._find()
        self.server = access.server
        vetting = self._vetting = Vetting(Verifier(authorities, self._kept_serials), self._known.values())
        async with Api(access) as api:
            self._api = api
            found = self._objects = ApiObjects(
                api,
                self._known,
                followed=self._followed,
                service_range=self._service_range,
            )
            self._publisher = publisher = self._publish(api) if self._publish else None
            self._known = {}
            async with trio.open_nursery() as nursery:
                nursery.start_soon(found.run)
                if self._renewal:
                    nursery.start_soon(self._renewal.run)
                nursery.start_soon(_look_again, vetting, take)
                first = True
                async for changes in found:
                    if publisher:
                        self._tell(publisher, changes)
                    take(vetting.take(changes, time.time()))
                    if first and publisher:  # now it is known whether there is anything to write
                        nursery.start_soon(publisher.run)
                    first = False

    def state(self) -> SourceState:
        """How the API stands."""
        if not self._objects:
            return SourceState(False, self._began, self._trouble)
        state = self._objects.state()
        if state.reachable and self._publisher and self._publisher.unanswered:
            since, reason = self._publisher.unanswered
            state = state._replace(reachable=False, since=since, reason=reason)
        refused = not state.reachable and self._api and self._api.refused
        if refused and self._renewal and self._renewal.advice:
            state = state._replace(reason=f"{state.reason}; {self._renewal.advice}")
        return state

    @property
    def serials(self) -> Mapping[str, int]:
        """The highest serials of nodes' proofs, for the snapshot."""
        return self._vetting.serials if self._vetting else self._kept_serials

    @property
    def problems(self) -> list[str]:
        """What an operator should mend: objects that are refused or can't be used, what can't be written."""
        parts = (self._vetting, self._objects, self._publisher, self._renewal)
        return [problem for part in parts if part for problem in part.problems]

    def _tell(self, publisher: Publisher, changes: Changes) -> None:
        """Tell what the API has as this node's MeshNode, believed or not."""
        for resource in changes.changed:
            if isinstance(resource, MeshNode) and resource.metadata.name == self._own:
                publisher.seen(resource)
        if any(key.kind == "MeshNode" and key.name == self._own for key in changes.gone):
            publisher.seen(None)

    async def _find(self) -> tuple[Access, bytes]:
        while True:
            try:
                access = self._location.access()
                return access, self._location.authorities(access)
            except KubeconfigError as error:
                if str(error) != self._trouble:
                    log.error("%s", error)
                self._trouble = str(error)
            await trio.sleep(RETRY)


async def _look_again(vetting: Vetting, take: Callable[[Changes], None]) -> None:
    """Certificates end, and clocks are set, while nothing else changes."""
    while True:
        await trio.sleep(LOOK_AGAIN + 1)
        take(vetting.take(Changes([], []), time.time()))


def location(api: tuple[str, str], state_dir: str) -> Location:
    """From the configuration's `api`."""
    return Location(*api, os.path.abspath(state_dir))
