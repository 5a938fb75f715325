"""What `edgemesh cloud` is told."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from edgemesh.join.messages import Cluster
from sync.controllers.nodes import GRACE
from tunnel.endpoint import Address

STATE_DIR = Path("/var/lib/edgemesh-cloud")
API_PORT = 6443
JOIN_PORT = 10002


class Options(Struct, frozen=True, kw_only=True):
    """Addresses to listen on and to be reached at, ranges as CIDR text, times in seconds.

    With `kubeconfig` the cloud serves a cluster that is there; `authority` are then the files of the CA that its
    API believes (certificate, key), or None for a CA of the cloud's own.
    """

    state_dir: Path = STATE_DIR
    listen: Address = Address("0.0.0.0", API_PORT)
    join_listen: Address = Address("0.0.0.0", JOIN_PORT)
    advertise: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    service_range: str = "10.96.0.0/12"
    pod_range: str = "10.244.0.0/16"
    mesh_range: str = "10.222.0.0/16"
    cluster_domain: str = "cluster.local"
    kubeconfig: Path | None = None
    authority: tuple[Path, Path] | None = None
    node_grace: float = GRACE
    renewal_grace: float = 30 * 86400.0

    @property
    def embedded(self) -> bool:
        """Whether the API is this process's own."""
        return self.kubeconfig is None

    @property
    def host(self) -> str:
        """Where nodes reach this machine: what is advertised first, else the host's name."""
        if self.advertise:
            return self.advertise[0]
        return self.listen.host if self.listen.host not in ("0.0.0.0", "::") else socket.gethostname()

    def cluster(self, api_server: str) -> Cluster:
        """What a node that joins is told."""
        return Cluster(
            api_server=api_server,
            join=f"https://{bracketed(self.host)}:{self.join_listen.port}",
            relays=self.relays,
            service_cidr=self.service_range,
            pod_cidr=self.pod_range,
            mesh_cidr=self.mesh_range,
            cluster_domain=self.cluster_domain,
        )


def names(options: Options, first_service_address: str) -> Sequence[str]:
    """What the server's certificate is for."""
    here = socket.gethostname()
    inside = [f"kubernetes.default.svc.{options.cluster_domain}", "kubernetes.default.svc", "kubernetes.default"]
    found = [options.host, *options.advertise, here, "localhost", "127.0.0.1", first_service_address, *inside]
    listened = [each.host for each in (options.listen, options.join_listen) if each.host not in ("0.0.0.0", "::")]
    return tuple(dict.fromkeys((*found, *listened)))


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
