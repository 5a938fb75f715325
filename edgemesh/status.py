"""What the agent says of its node, and how a person or a program is shown it.

The agent writes one MessagePack document to whoever connects to `agent.sock`, and closes; so a question needs no
message of its own. `healthy` means that this node does its work: its resolver, engine, rules and devices are in
order, and it has its address in the mesh. A peer without a path is a problem that is shown, and not this node's
illness: a ship may be at sea.
"""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

VERSION = 1
TIMEOUT = 5.0
"""Seconds that an answer may take."""
WIDTH = 160
"""Columns that a person is shown at least, wherever it goes: a narrow terminal folds lines, nothing is cut."""


class StatusError(Exception):
    """There is no status to be had; the message says why and what to do."""


class PeerStatus(msgspec.Struct, frozen=True):
    """The way to one peer: `path` is a `tunnel.peer.PathKind`; times in Unix seconds, round trip in ms."""

    name: str
    path: str
    endpoint: str = ""
    round_trip_ms: float | None = None
    last_handshake: float | None = None
    rx_bytes: int = 0
    tx_bytes: int = 0
    framing: str = ""
    since: float | None = None
    reason: str = ""


class ServiceStatus(msgspec.Struct, frozen=True):
    """What is in the kernel."""

    ports: int = 0
    backends: int = 0
    error: str = ""


class UpstreamStatus(msgspec.Struct, frozen=True):
    """A DNS server of the rest of the world."""

    address: str
    ok: bool
    error: str = ""


class ResolverStatus(msgspec.Struct, frozen=True):
    """The resolver as it answers itself; `connected` says whether it does."""

    connected: bool
    names: int = 0
    queries: int = 0
    upstreams: tuple[UpstreamStatus, ...] = ()


class EngineStatus(msgspec.Struct, frozen=True):
    """The engine as its control socket answers; `buffers` are the receive and send sizes that it got, in bytes."""

    connected: bool
    listen_port: int = 0
    buffers: tuple[int, int] = (0, 0)


class ApiStatus(msgspec.Struct, frozen=True):
    """The API that objects come from; `since` (Unix seconds) it is reachable or not, and if not why."""

    server: str
    reachable: bool
    since: float
    reason: str = ""


class Status(msgspec.Struct, frozen=True):
    """The whole of it. `problems` are what an operator should mend, `notices` what he may want to know."""

    node: str
    healthy: bool
    since: float
    mesh_address: str
    pod_range: str
    identity: str
    peers: tuple[PeerStatus, ...]
    services: ServiceStatus
    resolver: ResolverStatus
    engine: EngineStatus
    source: str
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    version: int = VERSION
    api: ApiStatus | None = None


def encode(status: Status) -> bytes:
    """The document for the socket."""
    return msgspec.msgpack.encode(status)


def ask(path: Path) -> Status:
    """Ask the agent behind a socket; raises StatusError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(path))
            document = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        except FileNotFoundError:
            raise StatusError(f"no agent runs here: {path} does not exist. Start it: edgemesh agent") from None
        except PermissionError:
            raise StatusError(f"{path} is not yours to read: run this as root") from None
        except TimeoutError:
            raise StatusError(f"the agent behind {path} does not answer within {TIMEOUT:g} s") from None
        except ConnectionRefusedError:
            raise StatusError(f"no agent runs here: nobody listens on {path}. Start it: edgemesh agent") from None
        except OSError as error:
            raise StatusError(f"the agent behind {path} ended while it was asked: {error.strerror}") from None
    try:
        return msgspec.msgpack.decode(document, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StatusError(f"the agent behind {path} is of another version: {error}") from None


def to_json(status: Status) -> str:
    """One JSON document, indented."""
    return msgspec.json.format(msgspec.json.encode(status), indent=2).decode()


def show(status: Status, now: float) -> None:
    """Print it for a person; `now` in Unix seconds."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)

    def say(word: str, style: str, rest: str) -> None:
        console.print(Text.assemble((word, style), rest))

    mark = "healthy" if status.healthy else "not healthy"
    where = f"mesh {status.mesh_address or 'none'}, pods {status.pod_range or 'none'}"
    say(f"{status.node}: {mark}", "green" if status.healthy else "red", f", up {age(now - status.since)}; {where}")
    peers = Table("peer", "path", box=None, pad_edge=False)
    for whole in ("endpoint", "round trip", "handshake", "received", "sent", "framing"):
        peers.add_column(whole, no_wrap=True)
    peers.add_column("why")
    for peer in status.peers:
        peers.add_row(
            peer.name,
            peer.path,
            peer.endpoint,
            "" if peer.round_trip_ms is None else f"{peer.round_trip_ms:.2f} ms",
            "never" if not peer.last_handshake else f"{age(now - peer.last_handshake)} ago",
            size(peer.rx_bytes),
            size(peer.tx_bytes),
            peer.framing,
            peer.reason,
        )
    if status.peers:
        console.print(peers, soft_wrap=False)
    services, resolver, engine = status.services, status.resolver, status.engine
    console.print(f"services: {services.ports} ports, {services.backends} endpoints")
    answers = f"{resolver.names} names, {resolver.queries} questions" if resolver.connected else "no answer from it"
    upstreams = ", ".join(f"{u.address} ({'ok' if u.ok else u.error or 'failing'})" for u in resolver.upstreams)
    console.print(f"resolver: {answers}" + (f"; upstreams {upstreams}" if upstreams else ""))
    buffers = "receive {}, send {}".format(*map(size, engine.buffers))
    console.print(
        f"engine: port {engine.listen_port}, buffers {buffers}" if engine.connected else "engine: no answer from it"
    )
    console.print(f"objects: {status.source}{_reached(status.api, now)}")
    console.print(f"identity: {status.identity}")
    for problem in status.problems:
        say("problem:", "red", f" {problem}")
    for notice in status.notices:
        say("notice:", "yellow", f" {notice}")


def _reached(api: ApiStatus | None, now: float) -> str:
    """How the API stands, after its name."""
    if api is None:
        return ""
    if api.reachable:
        return f", followed for {age(now - api.since)}"
    return f", not followed for {age(now - api.since)} ({api.reason}): what was known is served"


def age(seconds: float) -> str:
    """A span for people: `12 s`, `3 min`, `5 h`, `2 d`."""
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172800.0, 3600.0, "h")):
        if seconds < limit:
            return f"{max(0.0, seconds) / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def size(count: int) -> str:
    """A number of bytes for people: `12 B`, `3.4 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError
