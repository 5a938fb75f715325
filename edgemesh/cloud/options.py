"""What `edgemesh cloud` is told."""

from __future__ import annotations

import argparse
import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from edgemesh import token
from edgemesh.address import host_port
from edgemesh.join.messages import Cluster
from edgemesh.ranges import CLUSTER_DOMAIN, MESH_RANGE, POD_RANGE, SERVICE_RANGE, Setting, normal, wrong
from sync.controllers.nodes import GRACE
from sync.resources.validate import split_host_port
from tunnel.endpoint import Address

API_PORT = 6443
JOIN_PORT = 10002


class OptionError(Exception):
    """An option can't be used; the message names it and says what would be right."""


class Options(Struct, frozen=True, kw_only=True):
    """Addresses to listen on and to be reached at, ranges as CIDR text, times in seconds.

    With `kubeconfig` the cloud serves a cluster that is there; `authority` are then the files of the CA whose clients
    its API believes (certificate, key). Without, both are None, and API and CA the cloud's own.
    """

    state_dir: Path
    listen: Address = Address("0.0.0.0", API_PORT)
    join_listen: Address = Address("0.0.0.0", JOIN_PORT)
    advertise: tuple[str, ...] = ()
    relays: tuple[str, ...] = ()
    service_range: str = SERVICE_RANGE
    pod_range: str = POD_RANGE
    mesh_range: str = MESH_RANGE
    cluster_domain: str = CLUSTER_DOMAIN
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
            join=f"https://{host_port(self.host, self.join_listen.port)}",
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


def read(words: argparse.Namespace) -> Options:
    """From the command line. Raises OptionError."""
    _check_ranges(words)
    _check_authority(words)
    return Options(
        state_dir=words.state_dir,
        listen=_address("--listen", words.listen, API_PORT),
        join_listen=_address("--join-listen", words.join_listen, JOIN_PORT),
        advertise=tuple(_host("--advertise", text) for text in words.advertise),
        relays=tuple(_relay(text) for text in words.relay),
        service_range=words.service_range,
        pod_range=words.pod_range,
        mesh_range=words.mesh_range,
        cluster_domain=normal(words.cluster_domain),
        kubeconfig=words.kubeconfig,
        authority=(words.ca_cert, words.ca_key) if words.kubeconfig else None,
        node_grace=_seconds("--node-grace", words.node_grace),
        renewal_grace=_seconds("--renewal-grace", words.renewal_grace),
    )


def _check_authority(words: argparse.Namespace) -> None:
    """A cluster's API believes its own CA's clients alone, so nodes' certificates must be of that."""
    given = {"--ca-cert": words.ca_cert, "--ca-key": words.ca_key}
    if not words.kubeconfig:
        for option in (option for option, path in given.items() if path):
            raise OptionError(f"{option} is for a cluster that is there: name its --kubeconfig, too")
    elif missing := [option for option, path in given.items() if not path]:
        raise OptionError(
            f"--kubeconfig needs {' and '.join(missing)}, too: nodes' certificates are signed by the CA whose clients "
            "the cluster's API believes (its --client-ca-file). On a control plane's machine these are, of kubeadm, "
            "/etc/kubernetes/pki/ca.crt and ca.key, of k3s /var/lib/rancher/k3s/server/tls/client-ca.crt and "
            "client-ca.key"
        )


def _check_ranges(words: argparse.Namespace) -> None:
    """What the agents would refuse, and ranges that are too small to give nodes anything of."""
    domain = Setting("--cluster-domain", words.cluster_domain)
    ranges = [
        Setting("--service-range", words.service_range),
        Setting("--pod-range", words.pod_range),
        Setting("--mesh-range", words.mesh_range),
    ]
    if found := list(wrong(domain, *ranges)):
        raise OptionError("\n".join(f"{name}: {what}; {right}" for name, what, right in found))
    for name, text in ranges:
        if ipaddress.IPv4Network(text).prefixlen > 24:
            raise OptionError(f"{name}: {text} is too small; a range of /24 or larger")


def _address(option: str, text: str, port: int) -> Address:
    host, found = split_host_port(text, port)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise OptionError(f"{option} {text}: an address and a port, such as 0.0.0.0:{port}") from None
    return Address(host, found)


def _host(option: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?", text):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise OptionError(f"{option} {text}: a host's name or an address, without port") from None
    return text


def _relay(text: str) -> str:
    host, port = split_host_port(text, 20006)
    _host("--relay", host)
    return host_port(host, port)


def _seconds(option: str, text: str) -> float:
    try:
        return token.duration(text).total_seconds()
    except token.TokenError as error:
        raise OptionError(f"{option}: {error}") from None
