"""What the mesh is told of this node and of its peers, and what it tells of their paths."""

from enum import StrEnum

import msgspec

from tunnel.endpoint import Address, Endpoint


class LocalNode(msgspec.Struct, frozen=True):
    """This node. `private_key` is 32 bytes; `mesh_address` is the source of the node's own calls."""

    name: str
    private_key: bytes
    listen_port: int
    mesh_address: str = ""
    relays: tuple[Address, ...] = ()


class Peer(msgspec.Struct, frozen=True):
    """Another node, by its WireGuard key (32 bytes).

    `allowed_ips` are its pod ranges and mesh addresses, as CIDR text; `lan` its addresses inside its own
    network with its listen port; `relays` those it can be reached through.
    """

    name: str
    public_key: bytes
    allowed_ips: tuple[str, ...] = ()
    lan: tuple[Address, ...] = ()
    relays: tuple[Address, ...] = ()


class PathKind(StrEnum):
    """Kinds of path, best first; NONE when there is no way at present."""

    LAN = "lan"
    DIRECT = "direct"
    RELAYED = "relayed"
    NONE = "none"


class PeerPath(msgspec.Struct, frozen=True):
    """The state of the way to one peer. Times are Unix seconds, `round_trip` seconds; None where unknown."""

    name: str
    public_key: bytes
    kind: PathKind
    endpoint: Endpoint | None = None
    round_trip: float | None = None
    last_handshake: float | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    framing: str = ""
    since: float | None = None
    reason: str = ""
    silent: float | None = None
    """Since when nothing has come by it, answers or data, although it was asked for: a relay has no other to give way
    to."""
