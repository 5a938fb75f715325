"""The text that `wg` and the agent speak with an engine (wireguard.com/xplatform, version 1), without its socket.

    get=1                     private_key=..., listen_port=..., then each peer from its public_key= on; errno=0
    set=1 and the same keys   errno=0, or what was wrong

Each request and answer ends with an empty line; keys are in hexadecimal, errors numbers of errno.h. Keys of our own,
which `wg` neither sends nor minds:

    device  framing=segments|packets       whether frames are sent to and offered to engines of ours
            ciphers=NAME[,NAME]            what frames may be sealed with (aes-256-gcm, chacha20-poly1305)
            rcvbuf, sndbuf                 answers only: bytes of socket buffer the kernel granted
    peer    channel=N                      the relay channel of the endpoint before it
            pinned=true|false              whether the endpoint stays when packets come from elsewhere
            framing=TEXT                   answer only: packets, or segments/CIPHER/DATAGRAMS

Invariants: a request is read whole before anything of it is applied; whatever is in it, `parse` gives a request or
raises BadRequest; a request has at most LARGEST_REQUEST bytes.
"""

import errno
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from tunnel.endpoint import Endpoint
from tunnel.engine.agreement import Cipher
from tunnel.wireguard.peer import Peer

LARGEST_REQUEST = 4 << 20
"""Bytes: some 10,000 peers."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CIPHERS = {cipher.text: cipher for cipher in (Cipher.CHACHA20_POLY1305, Cipher.AES_256_GCM)}


class BadRequest(Exception):
    """A request that is not followed: `number` for the answer's errno, and why, for the log."""

    def __init__(self, why: str, number: int = errno.EINVAL) -> None:
        super().__init__(why)
        self.number = number


@dataclass(slots=True)
class PeerChange:
    """What a request sets of one peer; None where it says nothing."""

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    preshared_key: bytes | None = None
    endpoint: Endpoint | None = None
    keepalive: int | None = None
    replace_allowed_ips: bool = False
    allowed_ips: list[Network] = field(default_factory=list)
    pinned: bool | None = None


@dataclass(slots=True)
class DeviceChange:
    """What a `set` request sets; None where it says nothing, a key of zeros where it takes the key away."""

    private_key: bytes | None = None
    listen_port: int | None = None
    mark: int | None = None
    replace_peers: bool = False
    framed: bool | None = None
    ciphers: Cipher | None = None
    peers: list[PeerChange] = field(default_factory=list)


class Get:
    """The request for everything."""


def parse(request: bytes) -> Get | DeviceChange:
    """Read a request, without the empty line at its end. Raises BadRequest."""
    try:
        lines = request.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise BadRequest("a request that is no ASCII text") from None
    if lines == ["get=1"]:
        return Get()
    if lines[0] != "set=1":
        # a line may have the private key in it, and what is refused is logged: so only its name is told
        raise BadRequest(f"a request that begins with {lines[0].partition('=')[0][:16]!r}, expected get=1 or set=1")
    change = DeviceChange()
    peer: PeerChange | None = None
    for number, line in enumerate(lines[1:], 2):
        key, equals, value = line.partition("=")
        if not equals:
            raise BadRequest(f"line {number} has no '='")
        if key == "public_key":
            peer = PeerChange(_key(key, value))
            change.peers.append(peer)
        elif peer is None:
            _find(_DEVICE, key, "device")(change, key, value)
        else:
            _find(_PEER, key, "peer")(peer, key, value)
    return change


def failure(number: int) -> str:
    """The answer to a request that was not followed; 0 for one that was and has nothing to tell."""
    return f"errno={number}\n\n"


def describe(
    *,
    private_key: bytes | None,
    listen_port: int,
    mark: int,
    framed: bool,
    ciphers: Cipher,
    buffers: tuple[int, int],
    peers: Iterable[tuple[Peer, Iterable[Network]]],
) -> str:
    """The answer to `get`."""
    lines = [f"private_key={private_key.hex()}"] if private_key else []
    lines.append(f"listen_port={listen_port}")
    if mark:
        lines.append(f"fwmark={mark}")
    lines.append(f"framing={'segments' if framed else 'packets'}")
    lines.append("ciphers=" + ",".join(name for name, cipher in CIPHERS.items() if cipher in ciphers))
    lines += [f"rcvbuf={buffers[0]}", f"sndbuf={buffers[1]}"]
    for peer, networks in peers:
        lines += _describe_peer(peer, networks)
    return "\n".join(lines) + "\nerrno=0\n\n"


def _describe_peer(peer: Peer, networks: Iterable[Network]) -> Iterator[str]:
    yield f"public_key={peer.public_key.hex()}"
    yield f"preshared_key={peer.preshared_key.hex()}"
    yield "protocol_version=1"
    if peer.endpoint is not None:
        host, port, channel = peer.endpoint
        yield f"endpoint=[{host}]:{port}" if ":" in host else f"endpoint={host}:{port}"
        yield f"channel={channel}"
    seconds, part = divmod(int(peer.last_handshake * 1e9), 10**9)
    yield f"last_handshake_time_sec={seconds}"
    yield f"last_handshake_time_nsec={part}"
    yield f"tx_bytes={peer.tx_bytes}"
    yield f"rx_bytes={peer.rx_bytes}"
    yield f"persistent_keepalive_interval={peer.keepalive}"
    for network in networks:
        yield f"allowed_ip={network}"
    yield f"pinned={'true' if peer.pinned else 'false'}"
    session = peer.current.frames if peer.current else None
    yield f"framing={session.text if session else 'packets'}"


def _find(table: dict[str, Callable[..., None]], key: str, what: str) -> Callable[..., None]:
    try:
        return table[key]
    except KeyError:
        raise BadRequest(f"a {what} has no {key[:16]!r}") from None


def _number(key: str, value: str, most: int) -> int:
    if not value.isdecimal() or len(value) > 10 or int(value) > most:
        raise BadRequest(f"{key} must be a number up to {most}")
    return int(value)


def _key(key: str, value: str) -> bytes:
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        raw = b""
    if len(raw) != 32 or len(value) != 64:
        raise BadRequest(f"{key} must be 64 hexadecimal digits")
    return raw


def _true(key: str, value: str) -> bool:
    if value != "true":
        raise BadRequest(f"{key} must be true where it is given")
    return True


def _choice(key: str, value: str, choices: dict[str, bool]) -> bool:
    if value not in choices:
        raise BadRequest(f"{key} must be one of {', '.join(choices)}")
    return choices[value]


def _private_key(change: DeviceChange, key: str, value: str) -> None:
    change.private_key = _key(key, value)


def _listen_port(change: DeviceChange, key: str, value: str) -> None:
    change.listen_port = _number(key, value, 65_535)


def _mark(change: DeviceChange, key: str, value: str) -> None:
    change.mark = _number(key, value or "0", 0xFFFF_FFFF)


def _replace_peers(change: DeviceChange, key: str, value: str) -> None:
    change.replace_peers = _true(key, value)


def _framing(change: DeviceChange, key: str, value: str) -> None:
    change.framed = _choice(key, value, {"segments": True, "packets": False})


def _ciphers(change: DeviceChange, key: str, value: str) -> None:
    names = value.split(",")
    if not all(name in CIPHERS for name in names):
        raise BadRequest(f"{key} must be of {', '.join(CIPHERS)}")
    change.ciphers = reduce(or_, (CIPHERS[name] for name in names))


def _remove(peer: PeerChange, key: str, value: str) -> None:
    peer.remove = _true(key, value)


def _update_only(peer: PeerChange, key: str, value: str) -> None:
    peer.update_only = _true(key, value)


def _preshared_key(peer: PeerChange, key: str, value: str) -> None:
    peer.preshared_key = _key(key, value)


def _endpoint(peer: PeerChange, key: str, value: str) -> None:
    host, colon, port = value.rpartition(":")
    six = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if six else host)
    except ValueError:
        raise BadRequest(f"{key} must be an address and a port, not {value[:60]!r}") from None
    number = _number(key, port, 65_535)
    if not colon or not number or (address.version == 6) != six or getattr(address, "scope_id", None):
        raise BadRequest(f"{key} must be an address and a port, not {value[:60]!r}")
    peer.endpoint = Endpoint(str(address), number)


def _channel(peer: PeerChange, key: str, value: str) -> None:
    if peer.endpoint is None:
        raise BadRequest(f"{key} must follow an endpoint")
    peer.endpoint = peer.endpoint._replace(channel=_number(key, value, 0xFFFF_FFFF))


def _keepalive(peer: PeerChange, key: str, value: str) -> None:
    peer.keepalive = _number(key, value, 65_535)


def _replace_allowed_ips(peer: PeerChange, key: str, value: str) -> None:
    peer.replace_allowed_ips = _true(key, value)


def _allowed_ip(peer: PeerChange, key: str, value: str) -> None:
    try:
        peer.allowed_ips.append(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise BadRequest(f"{key} must be a prefix, not {value[:60]!r}") from None


def _protocol_version(peer: PeerChange, key: str, value: str) -> None:
    if value != "1":
        raise BadRequest(f"{key} must be 1", errno.EPROTONOSUPPORT)


def _pinned(peer: PeerChange, key: str, value: str) -> None:
    peer.pinned = _choice(key, value, {"true": True, "false": False})


_DEVICE: dict[str, Callable[..., None]] = {
    "private_key": _private_key,
    "listen_port": _listen_port,
    "fwmark": _mark,
    "replace_peers": _replace_peers,
    "framing": _framing,
    "ciphers": _ciphers,
}
_PEER: dict[str, Callable[..., None]] = {
    "remove": _remove,
    "update_only": _update_only,
    "preshared_key": _preshared_key,
    "endpoint": _endpoint,
    "channel": _channel,
    "persistent_keepalive_interval": _keepalive,
    "replace_allowed_ips": _replace_allowed_ips,
    "allowed_ip": _allowed_ip,
    "protocol_version": _protocol_version,
    "pinned": _pinned,
}
