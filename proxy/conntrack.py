"""Connections the kernel remembers, where they no longer lead anywhere (linux/netfilter/nfnetlink_conntrack.h).

Translation is decided by a connection's first packet. TCP notices that its endpoint went; a UDP client that keeps its
socket, and SCTP, would be sent to it for as long as it goes on. So after a change entries are dropped whose answers
come from anything but a present endpoint: an endpoint that went, or, of flows begun before the service had one (or
before there were rules), the service's own address. The next packet is then a first one again. The same goes for
the SYN of a TCP client that called before there were rules: its repetitions would else never be translated.
"""

import errno
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from .address import Prefix
from .layout import Endpoint, Target
from .netlink import Message, Netfilter, attribute, attributes, nested, number

SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_ORIGINAL, _REPLY, _STATUS, _ID, _ZONE, _FILTER, _STATUS_MASK = 1, 2, 3, 12, 18, 25, 26
_IP, _PROTO = 1, 2
_V4_SRC, _V4_DST = 1, 2
_NUM, _SRC_PORT, _DST_PORT = 1, 2, 3
_BY_PROTOCOL = 1 << 3

CLEANED = (17, 132)
"""UDP and SCTP."""
_TCP = 6
_SEEN_REPLY = 2


class Entry(msgspec.Struct, frozen=True):
    """A connection as its first packet was, who answers, and the attributes that name it to the kernel."""

    target: Target
    answers: Endpoint
    identity: bytes


def parse(body: bytes) -> Entry | None:
    """An entry from a dump; None when it lacks what an IPv4 entry with ports has."""
    parts = dict(attributes(body))
    called = _ends(parts.get(_ORIGINAL, b""))
    answering = _ends(parts.get(_REPLY, b""))
    if not called or not answering:
        return None
    protocol, _, target = called
    identity = b"".join(
        attribute(kind | (0x8000 if kind == _ORIGINAL else 0), parts[kind])
        for kind in (_ORIGINAL, _ID, _ZONE)
        if kind in parts
    )
    return Entry(Target(target.address, protocol, target.port), answering[1], identity)


def _ends(body: bytes) -> tuple[int, Endpoint, Endpoint] | None:
    """Protocol, source and destination of a tuple."""
    parts = dict(attributes(body))
    address = dict(attributes(parts.get(_IP, b"")))
    proto = dict(attributes(parts.get(_PROTO, b"")))
    source, target = address.get(_V4_SRC, b""), address.get(_V4_DST, b"")
    ports = proto.get(_SRC_PORT, b""), proto.get(_DST_PORT, b"")
    if (
        len(source) != 4
        or len(target) != 4
        or not all(len(port) == 2 for port in ports)
        or len(proto.get(_NUM, b"")) != 1
    ):
        return None
    first, second = (struct.unpack("!H", port)[0] for port in ports)
    return proto[_NUM][0], Endpoint(source, first), Endpoint(target, second)


def stale(
    entries: Iterable[Entry], endpoints: Mapping[Target, Collection[Endpoint]], services: Prefix | None = None
) -> Iterator[Entry]:
    """Entries of the given targets that are answered by none of the target's endpoints.

    With `services` (the range of service addresses) targets in it that are not given count as having none.
    """
    for entry in entries:
        present = endpoints.get(entry.target)
        if present is None and services and entry.target.address in services:
            present = ()
        if present is not None and entry.answers not in present:
            yield entry


def untranslated(entries: Iterable[Entry], services: Prefix) -> Iterator[Entry]:
    """Entries of calls into the range of service addresses that went to the service's address itself."""
    for entry in entries:
        if entry.target.address in services and entry.answers == (entry.target.address, entry.target.port):
            yield entry


def clean(
    netfilter: Netfilter, endpoints: Mapping[Target, Collection[Endpoint]], services: Prefix | None = None
) -> int:
    """Drop stale entries of UDP and SCTP, and with `services` untranslated ones of TCP that nobody answered.

    Gives their number. Raises NetlinkError.
    """
    found: list[Entry] = []
    for protocol in CLEANED:
        if services or any(target.protocol == protocol for target in endpoints):
            found += stale(_listed(netfilter, protocol), endpoints, services)
    if services:
        found += untranslated(_listed(netfilter, _TCP, unanswered=True), services)
    requests = [Message(SUBSYSTEM << 8 | _DELETE, 0, entry.identity, "dropping a connection") for entry in found]
    netfilter.each(requests, ignore=errno.ENOENT)
    return len(found)


def _listed(netfilter: Netfilter, protocol: int, unanswered: bool = False) -> Iterator[Entry]:
    """Entries of a protocol; with `unanswered` only those that saw no reply, where the kernel can tell them apart.

    Kernels before 5.8 don't filter, so the answer is filtered again.
    """
    only = nested(_ORIGINAL, nested(_PROTO, attribute(_NUM, bytes((protocol,)))))
    flags = nested(_FILTER, attribute(1, struct.pack("=I", _BY_PROTOCOL)), attribute(2, struct.pack("=I", 0)))
    status = number(_STATUS, 0) + number(_STATUS_MASK, _SEEN_REPLY) if unanswered else b""
    for body in netfilter.dump(Message(SUBSYSTEM << 8 | _GET, 0, only + flags + status)):
        entry = parse(body)
        if entry and entry.target.protocol == protocol:
            yield entry
