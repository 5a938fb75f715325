"""An engine and a path socket in memory."""

import os

import trio

from tunnel.control.engine import DeviceConfig, DeviceState, EngineError, PeerState
from tunnel.endpoint import Address, Endpoint
from tunnel.links import LinkError


class FakeEngine:
    """Remembers its configuration and moves; `up` says whether it is there."""

    def __init__(self) -> None:
        self.channels = True
        self.up = trio.Event()
        self.configs: list[DeviceConfig] = []
        self.moves: list[tuple[bytes, Endpoint, bool]] = []
        self.polls = 0
        self.port = 0
        self.peers: dict[bytes, PeerState] = {}

    async def ready(self) -> None:
        await self.up.wait()

    def stop(self) -> None:
        """Go away, and forget all."""
        self.up = trio.Event()
        self.peers = {}

    def _check(self) -> None:
        if not self.up.is_set():
            raise EngineError("the engine is away")

    async def configure(self, device: DeviceConfig) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.configs.append(device)
        self.port = device.listen_port
        self.peers = {
            peer.public_key: self.peers.get(peer.public_key, PeerState(peer.public_key, None, 0.0, 0, 0))
            for peer in device.peers
        }

    async def set_endpoint(self, public_key: bytes, endpoint: Endpoint, *, pinned: bool) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.moves.append((public_key, endpoint, pinned))
        before = self.peers[public_key]
        # a keepalive each way, as if the other engine answered
        self.peers[public_key] = PeerState(
            public_key, endpoint, before.last_handshake, before.rx_bytes + 32, before.tx_bytes + 32, "packets"
        )

    async def state(self) -> DeviceState:
        await trio.lowlevel.checkpoint()
        self._check()
        self.polls += 1
        return DeviceState(self.port, dict(self.peers), (1, 2))


class Wire:
    """Two path sockets joined to each other, by their addresses."""

    def __init__(self) -> None:
        self.ends: dict[Address, WireSocket] = {}

    def open(self, address: Address) -> "WireSocket":
        """The socket at an address."""
        self.ends[address] = WireSocket(self, address)
        return self.ends[address]


class WireSocket:
    """One end; readable through an eventfd, as a socket would be."""

    def __init__(self, wire: Wire, address: Address) -> None:
        self._wire = wire
        self._address = address
        self._queue: list[tuple[bytes, Address]] = []
        self._event = os.eventfd(0, os.EFD_NONBLOCK)

    def send(self, data: bytes, to: Address) -> bool:
        other = self._wire.ends.get(to)
        if other is not None:
            other._queue.append((data, self._address))
            os.eventfd_write(other._event, 1)
        return other is not None

    def receive(self) -> tuple[bytes, Address] | None:
        if self._queue:
            return self._queue.pop(0)
        os.eventfd_write(self._event, 1)
        os.eventfd_read(self._event)
        return None

    def fileno(self) -> int:
        return self._event

    def close(self) -> None:
        os.close(self._event)
        self._wire.ends.pop(self._address, None)


class FakeLinks:
    """Remembers routes; `device` says whether the device is there."""

    def __init__(self) -> None:
        self.device = True
        self.routes: list[dict[str, str]] = []

    def apply_routes(self, device: str, desired: "dict[str, str]") -> int:
        if not self.device:
            raise LinkError(f"{device}: there is no such device (now)")
        self.routes.append(dict(desired))
        return len(desired)
