"""What any engine can be asked, whatever it is: ours, wireguard-go, or (later) the kernel's."""

from typing import Protocol

import msgspec

from tunnel.endpoint import Endpoint


class EngineError(Exception):
    """The engine can't be reached or refused a setting; the message says which, where and what to do."""


class PeerConfig(msgspec.Struct, frozen=True):
    """A WireGuard peer as it should be. `pinned` keeps our engine from following the peer's source address."""

    public_key: bytes
    allowed_ips: tuple[str, ...] = ()
    endpoint: Endpoint | None = None
    keepalive: int = 25
    pinned: bool = False


class DeviceConfig(msgspec.Struct, frozen=True):
    """The whole of an engine's configuration: peers that are not in it go."""

    private_key: bytes
    listen_port: int
    peers: tuple[PeerConfig, ...] = ()


class PeerState(msgspec.Struct, frozen=True):
    """A peer as the engine has it; `last_handshake` in Unix seconds, 0.0 for never."""

    public_key: bytes
    endpoint: Endpoint | None
    last_handshake: float
    rx_bytes: int
    tx_bytes: int
    framing: str = ""


class DeviceState(msgspec.Struct, frozen=True):
    """An engine's state; `buffers` are the receive and send buffer sizes it got, (0, 0) where it can't say."""

    listen_port: int
    peers: dict[bytes, PeerState]
    buffers: tuple[int, int] = (0, 0)


class Engine(Protocol):
    """Control of one engine. All raise EngineError when it is away: wait with `ready`, then set all again."""

    channels: bool
    """Whether it sends through relays by itself; known once it is `ready`."""

    async def ready(self) -> None:
        """Return once the engine answers; wait for it as long as it takes."""

    async def configure(self, device: DeviceConfig) -> None:
        """Make the engine's configuration this one; sessions of peers that stay are kept."""

    async def set_endpoint(self, public_key: bytes, endpoint: Endpoint, *, pinned: bool) -> None:
        """Move a peer to an endpoint; keys, session and counters stay. A peer that is gone is not re-made."""

    async def state(self) -> DeviceState:
        """Read counters, endpoints and handshake times."""
