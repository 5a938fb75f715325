"""Who this node is: its WireGuard key and the port of its tunnel, made once and kept in the state directory.

`node.key` is the private key in base64, as `wg genkey` writes it (so `wg pubkey < node.key` works); `node.port` is
the UDP port, chosen at random, since one fixed port for several nodes behind one NAT makes that NAT hard to cross.
Both are mode 0600, and appear whole or not at all; the TLS key of a node that joined is held to that mode too. A file
that can't be read is never overwritten: the key is what the other nodes know this one by.
"""

import base64
import binascii
import contextlib
import logging
import os
import secrets
import stat
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct

from edgemesh.config import Config
from sync.resources.kinds import MeshNode

KEY_SIZE = 32
PORTS = range(20000, 60001)
"""Where listen ports are chosen from."""

log = logging.getLogger(__name__)


class IdentityError(Exception):
    """The key or the port can't be read or made; the message says which file, why, and what to do."""


class Identity(Struct, frozen=True):
    """A node's keys (32 bytes each) and the UDP port of its tunnel."""

    private_key: bytes
    public_key: bytes
    listen_port: int

    def __repr__(self) -> str:
        return f"Identity({base64.b64encode(self.public_key).decode()}, port {self.listen_port})"


def load(state_dir: str) -> Identity:
    """The node's identity; what is missing of it is made. Raises IdentityError."""
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        private = _key(os.path.join(state_dir, "node.key"))
        port = _port(os.path.join(state_dir, "node.port"))
        with contextlib.suppress(FileNotFoundError), open(os.path.join(state_dir, "pki", "node.key"), "rb") as file:
            _close(file.fileno(), file.name)
    except OSError as error:
        where = error.filename or state_dir
        do = "run as root" if isinstance(error, PermissionError) else "it must be a directory that can be written"
        raise IdentityError(
            f"{where}: {error.strerror}: the node's key is kept there: {do}, or set commonConfig.stateDir"
        ) from None
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return Identity(private, public, port)


def _key(path: str) -> bytes:
    text = _kept(path, lambda: base64.b64encode(os.urandom(KEY_SIZE)))
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_SIZE:
        raise IdentityError(
            f"{path} is not a private key of 32 bytes in base64: restore it from a copy, or move it away to get a new "
            "one (the other nodes then need this node's new MeshNode)"
        )
    return key


def _port(path: str) -> int:
    text = _kept(path, lambda: str(secrets.choice(PORTS)).encode())
    try:
        port = int(text)
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise IdentityError(f"{path} has no port from 1 to 65535: write the port of this node's MeshNode into it")
    return port


def _kept(path: str, make: Callable[[], bytes]) -> bytes:
    """A small secret file's content, made if the file isn't there. Of several that make it at once the first wins."""
    while True:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            _close(file.fileno(), path)
            return file.read(1024)
        draft = f"{path}.{os.getpid()}.{secrets.token_hex(4)}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(make() + b"\n")
                file.flush()
                os.fsync(fd)
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            os.unlink(draft)


def _close(fd: int, path: str) -> None:
    """Take away what others may do with a secret file, and say it."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & 0o077:
        log.warning("%s could be read by others (mode %o): its mode is now 600", path, mode)
        os.fchmod(fd, 0o600)


def lan_addresses(config: Config) -> list[str]:
    """This node's IPv4 addresses inside its own network. Raises LinkError."""
    from tunnel.links import Links

    ranges = [ip_network(text) for text in (config.service_range, config.pod_range, config.mesh_range)]
    with contextlib.closing(Links()) as links:
        found = [text for text in links.lan_addresses() if ":" not in text]
    return [text for text in found if not any(ip_address(text) in network for network in ranges)]


def print_meshnode(
    name: str,
    identity: Identity,
    *,
    addresses: Sequence[str],
    relays: Sequence[str],
    mesh_addresses: Sequence[str],
    pod_ranges: Sequence[str],
) -> str:
    """This node's MeshNode as a manifest, to be copied to all nodes. Relays are "host:port", ranges CIDR text."""
    lines = [
        f"apiVersion: {MeshNode.api_version}",
        "kind: MeshNode",
        "metadata:",
        f"  name: {name}",
        "spec:",
        f"  publicKey: {base64.b64encode(identity.public_key).decode()}",
        f"  listenPort: {identity.listen_port}",
        *_list("  addresses", addresses, "this node's addresses inside its own network"),
        *_list("  relays", relays, "where this node can be reached from anywhere"),
        "status:",
        *_list("  meshAddresses", mesh_addresses, "this node's own address in the mesh"),
        *_list("  podRanges", pod_ranges, "the range of this node's pods, such as 10.244.1.0/24"),
    ]
    return "\n".join(lines) + "\n"


def _list(field: str, values: Sequence[str], meaning: str) -> list[str]:
    indent = " " * (len(field) - len(field.lstrip()))
    if not values:
        return [f"{field}: []  # {meaning}"]
    return [f"{field}:  # {meaning}", *(f'{indent}- "{value}"' for value in values)]
