"""What goes over the wire between a node and the join endpoint: JSON over HTTPS. Refusals are Kubernetes' Status.

GET  /ca       the authority's certificate and the cloud's clock; before the node trusts anybody
POST /join     JoinRequest to JoinAnswer
POST /renew    RenewRequest to RenewAnswer; GONE for a node that was deleted, and to nobody else
"""

from __future__ import annotations

import struct
from typing import Annotated

from msgspec import Meta, Struct, field

from edgemesh.ranges import CLUSTER_DOMAIN, MESH_RANGE, POD_RANGE, SERVICE_RANGE

MAX_BODY = 16 << 10
"""Bytes of a request; answers are at most 64 KiB."""
MAX_ANSWER = 64 << 10
GONE = 410
"""RFC 9110, section 15.5.11."""
MAX_SKEW = 900.0
"""Seconds that the clock of a node that renews may be off."""

MAX_API_CA = 32 << 10
"""Bytes of the API's authorities."""

_Pem = Annotated[str, Meta(max_length=8192)]
_LABEL = b"edgemesh.kubeedge.io/renew/1\0"


class Cluster(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a node has to know of its cluster; relays are "host:port", ranges CIDR text."""

    api_server: str
    join: str
    relays: tuple[str, ...] = ()
    service_cidr: str = field(default=SERVICE_RANGE, name="serviceCIDR")
    pod_cidr: str = field(default=POD_RANGE, name="podCIDR")
    mesh_cidr: str = field(default=MESH_RANGE, name="meshCIDR")
    cluster_domain: str = CLUSTER_DOMAIN


class AuthorityAnswer(Struct, frozen=True):
    """The authority's certificate in PEM, and the cloud's time in seconds since the epoch."""

    ca: _Pem
    time: float


class JoinRequest(Struct, frozen=True, rename="camel"):
    """`csr` is PEM, `zone` the node's site or empty."""

    token: Annotated[str, Meta(max_length=128)]
    csr: _Pem
    node_name: Annotated[str, Meta(max_length=253)]
    zone: Annotated[str, Meta(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")] = ""

    def __repr__(self) -> str:
        return f"JoinRequest({self.node_name})"


class JoinAnswer(Struct, frozen=True):
    """The node's certificate and the authority's, in PEM.

    `api_ca` is whom the API's own certificate is of, PEM: that authority where it is left out, the system's authorities
    where it is empty.
    """

    certificate: _Pem
    ca: _Pem
    cluster: Cluster
    api_ca: Annotated[str, Meta(max_length=MAX_API_CA)] | None = None


class RenewRequest(Struct, frozen=True):
    """`signature` is the old key's, ECDSA with SHA-256, DER in base64, over `renewal`; certificate and CSR are PEM."""

    certificate: _Pem
    csr: _Pem
    time: float
    signature: Annotated[str, Meta(max_length=256)]


class RenewAnswer(Struct, frozen=True):
    """The new certificate and the authority's, in PEM."""

    certificate: _Pem
    ca: _Pem


def renewal(csr: str, time: float) -> bytes:
    """The bytes that a renewal's signature is over."""
    return _LABEL + struct.pack(">d", time) + csr.encode()
