"""Engines with WireGuard's cross-platform socket: ours, and wireguard-go. https://www.wireguard.com/xplatform/

One connection is kept and asked many times; an operation is `get=1` or `set=1` and key=value lines, an empty line
ends it and the answer, and `errno=` closes the answer. Our engine has keys that others refuse: a peer's `channel`
(which turns the endpoint before it into one through a relay), `pinned` and `framing`; the device's `rcvbuf` and
`sndbuf`. Whether it has them is asked once a connection, by a setting that changes nothing.

Invariants: `configure` writes differences only, so that sessions, routes and the UDP socket of what stays are not
touched; the private key is never in a message of an error; after an error the connection is made anew.
"""

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import trio

from tunnel.control.engine import DeviceConfig, DeviceState, EngineError, PeerConfig, PeerState
from tunnel.endpoint import Endpoint

FIRST_RETRY = 0.02
LAST_RETRY = 0.05
"""Seconds between looks for the socket: doubling from the first to the last.

Often, since a look costs next to nothing and TCP doubles its waiting: an engine that is back with its peers within
1.4 s costs a connection a gap of 1.6 s, a moment later it is 3.1 s.
"""

PATIENCE = 5.0
"""Seconds for one operation."""

MAX_ANSWER = 8 << 20
"""Bytes of an answer: thousands of peers."""


Lines: TypeAlias = list[tuple[str, str]]
"""An answer, in order."""


@dataclass(slots=True)
class _Peer:
    """A peer's lines of an answer."""

    fields: dict[str, str] = field(default_factory=dict)
    allowed_ips: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Device:
    """All of an answer."""

    fields: dict[str, str]
    peers: dict[bytes, _Peer]


class UapiEngine:
    """`tunnel.control.engine.Engine` over a UAPI socket."""

    def __init__(self, path: Path) -> None:
        """`path` is the socket's, for example /run/wireguard/edgemesh-wg.sock."""
        self._path = path
        self.channels = False
        self._stream: trio.socket.SocketType | None = None
        self._lock = trio.Lock()
        self._keepalives: dict[bytes, int] = {}

    async def ready(self) -> None:
        """Return once the engine answers; wait for it as long as it takes."""
        pause = FIRST_RETRY
        while True:
            try:
                await self._ask("get=1")
                return
            except EngineError:
                await trio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY)

    async def configure(self, device: DeviceConfig) -> None:
        """Make the engine's configuration this one; sessions of peers that stay are kept."""
        present = await self._get()
        lines = []
        private = device.private_key.hex()
        if present.fields.get("private_key") != private:
            lines.append(f"private_key={private}")
        if present.fields.get("listen_port") != str(device.listen_port):
            lines.append(f"listen_port={device.listen_port}")
        wanted = {peer.public_key for peer in device.peers}
        for public_key in present.peers.keys() - wanted:
            lines += [f"public_key={public_key.hex()}", "remove=true"]
        for peer in device.peers:
            lines += self._peer_lines(peer, present.peers.get(peer.public_key))
        self._keepalives = {peer.public_key: peer.keepalive for peer in device.peers}
        if lines:
            await self._set(lines)

    async def set_endpoint(self, public_key: bytes, endpoint: Endpoint, *, pinned: bool) -> None:
        """Move a peer to an endpoint; keys, session and counters stay. A peer that is gone is not re-made.

        The keepalive interval is switched off and on again, which makes an engine send a keepalive at once (and a
        handshake where there is no session): so the new way is tried even when the tunnel is idle.
        """
        peer = [f"public_key={public_key.hex()}", "update_only=true"]
        endpoint_lines = self._endpoint_lines(endpoint, pinned)
        keepalive = f"persistent_keepalive_interval={self._keepalives.get(public_key, 0)}"
        # two changes of one peer, as only the last value of a key in one change counts
        await self._set([*peer, "persistent_keepalive_interval=0", *peer, *endpoint_lines, keepalive])

    async def state(self) -> DeviceState:
        """Read counters, endpoints and handshake times."""
        device = await self._get()
        try:
            peers = {public_key: _state(peer, public_key) for public_key, peer in device.peers.items()}
            buffers = int(device.fields.get("rcvbuf", 0)), int(device.fields.get("sndbuf", 0))
            return DeviceState(int(device.fields.get("listen_port", 0)), peers, buffers)
        except ValueError as error:
            raise self._broken(f"gives an answer that makes no sense ({error})") from None

    async def aclose(self) -> None:
        """Close the connection."""
        self._close()

    def _peer_lines(self, peer: PeerConfig, present: _Peer | None) -> list[str]:
        lines = []
        if present is None or set(present.allowed_ips) != set(peer.allowed_ips):
            lines += ["replace_allowed_ips=true", *(f"allowed_ip={cidr}" for cidr in peer.allowed_ips)]
        if peer.endpoint is not None and (peer.endpoint.channel == 0 or self.channels):
            lines += self._endpoint_lines(peer.endpoint, peer.pinned)
        elif self.channels:
            lines.append(f"pinned={_bool(peer.pinned)}")
        kept = present.fields.get("persistent_keepalive_interval") if present else None
        if kept != str(peer.keepalive):
            lines.append(f"persistent_keepalive_interval={peer.keepalive}")
        return [f"public_key={peer.public_key.hex()}", *lines] if lines or present is None else []

    def _endpoint_lines(self, endpoint: Endpoint, pinned: bool) -> list[str]:
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        line = f"endpoint={host}:{endpoint.port}"
        if self.channels:
            return [line, f"channel={endpoint.channel}", f"pinned={_bool(pinned)}"]
        if endpoint.channel:
            raise EngineError(
                f"the engine at {self._path} can't send through a relay: use `edgemesh engine`, or a direct path"
            )
        return [line]

    async def _get(self) -> _Device:
        device = _Device({}, {})
        peer: _Peer | None = None
        try:
            for key, value in await self._ask("get=1"):
                if key == "public_key":
                    peer = device.peers[bytes.fromhex(value)] = _Peer()
                elif key == "allowed_ip" and peer is not None:
                    peer.allowed_ips.append(value)
                else:
                    (device.fields if peer is None else peer.fields)[key] = value
        except ValueError as error:
            raise self._broken(f"gives an answer that makes no sense ({error})") from None
        return device

    async def _set(self, lines: Iterable[str]) -> None:
        await self._ask("set=1", *lines)

    async def _ask(self, *lines: str) -> Lines:
        """One operation, on the connection that is open or a new one; raises EngineError."""
        async with self._lock:
            try:
                if self._stream is None:
                    await self._open()
                answer = await self._exchange(lines)
            except OSError as error:
                raise EngineError(f"the engine at {self._path} can't be reached: {error.strerror or error}") from None
        number = dict(answer).get("errno", "")
        if number != "0":
            self._close()
            known = number.removeprefix("-").isdigit()
            raise self._broken(f"refused a setting ({os.strerror(abs(int(number))) if known else 'no errno'})")
        return answer

    async def _open(self) -> None:
        """Connect, and find out whether the engine has our keys: set them on a peer that is not there."""
        await self._dial()
        nobody = (f"public_key={os.urandom(32).hex()}", "update_only=true")
        probe = ("set=1", *nobody, "endpoint=127.0.0.1:9", "channel=0", "pinned=false")
        self.channels = ("errno", "0") in await self._exchange(probe)
        if not self.channels:
            # the rest of a refused operation may be read as another one
            self._close()
            await self._dial()

    async def _dial(self) -> None:
        dialled = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await dialled.connect(os.fspath(self._path))
        except BaseException:
            dialled.close()
            raise
        self._stream = dialled

    async def _exchange(self, lines: Iterable[str]) -> Lines:
        stream = self._stream
        assert stream is not None
        answer = bytearray()
        done = False
        try:
            with trio.move_on_after(PATIENCE):
                left = memoryview("".join(f"{line}\n" for line in (*lines, "")).encode())
                while left:
                    left = left[await stream.send(left) :]
                while not answer.endswith(b"\n\n") and len(answer) <= MAX_ANSWER:
                    part = await stream.recv(65536)
                    if not part:
                        raise ConnectionResetError("it has closed the connection")
                    answer += part
                done = True
        finally:
            if not done:
                self._close()
        if not done or len(answer) > MAX_ANSWER:
            self._close()
            raise self._broken(f"has not answered in {PATIENCE:.0f} s" if not done else "answers without end")
        pairs = (line.partition("=") for line in answer.decode(errors="replace").split("\n") if line)
        return [(key, value) for key, _, value in pairs]

    def _broken(self, what: str) -> EngineError:
        return EngineError(f"the engine at {self._path} {what}: see its log, or restart it")

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _state(peer: _Peer, public_key: bytes) -> PeerState:
    """A peer's state from its lines; raises ValueError."""
    fields = peer.fields
    endpoint = None
    if "endpoint" in fields:
        host, _, port = fields["endpoint"].rpartition(":")
        endpoint = Endpoint(host.strip("[]"), int(port), int(fields.get("channel", 0)))
    handshake = int(fields.get("last_handshake_time_sec", 0)) + int(fields.get("last_handshake_time_nsec", 0)) / 1e9
    received, sent = int(fields.get("rx_bytes", 0)), int(fields.get("tx_bytes", 0))
    return PeerState(public_key, endpoint, handshake, received, sent, fields.get("framing", ""))


def _bool(value: bool) -> str:
    return "true" if value else "false"
