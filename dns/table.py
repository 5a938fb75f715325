"""Names and zones as the resolver keeps them, and the answer to a question, worked out from them.

A name is kept as the MessagePack of its `Name`, a fifth of the memory of its objects, under its wire form; an answer
is worked out when it is first asked for (`compiled` keeps its bytes). `revision` changes with every change.

Invariants: everything kept is valid (a bad name is reported and skipped, the others are taken); `_below` has, for
every name with others below it, how many stand directly below, so that an empty non-terminal is known to exist
(RFC 8020).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from struct import Struct, error
from typing import NamedTuple

import msgspec

from dns import wire
from dns.records import Name, Zone
from dns.wire import Malformed, Record, WireName

ABSENT_TTL = 5
"""Seconds a client may remember that a name of ours is absent (RFC 2308, 5): a new service is soon seen."""
POD_TTL = 30
SOA_TTL = 30
MAX_CHAIN = 8
"""CNAMEs followed for one answer."""
MAX_NAMES = 262_144
"""Names kept; what comes above that is refused."""

_SRV = Struct("!HHH")
_SOA = Struct("!IIIII")
_ANY = (wire.A, wire.AAAA, wire.SRV, wire.PTR, wire.CNAME)
"""The types there are, in the order of the fields of `Name`."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Name).decode


class Answer(NamedTuple):
    """What the table says: `flags` are AA and the response code.

    `chase` is a name outside the table at which the answer goes on (ExternalName): upstream has the rest.
    """

    flags: int
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    chase: WireName | None = None


class Table:
    """Zones and names; see the module."""

    def __init__(self) -> None:
        self.zones: dict[WireName, Zone] = {}
        self.names: dict[WireName, bytes] = {}
        self.revision = 0
        self._below: dict[WireName, int] = {}

    def replace(self, zones: Iterable[Zone], names: Iterable[Name]) -> list[str]:
        """Become these zones and names; returns what is wrong with those that were skipped."""
        faults = []
        kept: dict[WireName, Zone] = {}
        for zone in zones:
            try:
                kept[wire.to_wire(zone.name)] = zone
            except Malformed as fault:
                faults.append(f"zone {zone.name!r}: {fault}")
        if kept != self.zones:
            self.zones = kept
            self.revision += 1
        gone = set(self.names)
        for name in names:
            key, fault_text = self._put(name)
            if fault_text:
                faults.append(fault_text)
            if key:
                gone.discard(key)
        for key in gone:
            self._drop(key)
        return faults

    def update(self, changed: Iterable[Name], gone: Iterable[str]) -> list[str]:
        """Take changed names whole and forget those gone; returns what is wrong with those that were skipped."""
        faults = []
        for text in gone:
            try:
                self._drop(wire.to_wire(text))
            except Malformed as fault:
                faults.append(str(fault))
        for name in changed:
            _, fault_text = self._put(name)
            if fault_text:
                faults.append(fault_text)
        return faults

    def _put(self, name: Name) -> tuple[WireName | None, str]:
        """Keep a name; returns its key, where it has one, and what is wrong with it (nothing kept then)."""
        key = None
        try:
            key = wire.to_wire(name.name)
            packed = _encode(name)
            before = self.names.get(key)
            if before == packed:
                return key, ""
            _check(name, key)
        except Malformed as fault:
            if key in self.names:
                self._drop(key)
            return key, str(fault)
        if before is None:
            if len(self.names) >= MAX_NAMES:
                return key, f"name {name.name!r}: {MAX_NAMES} names are kept already"
            if key not in self._below:
                self._hang(key)
        self.names[key] = packed
        self.revision += 1
        return key, ""

    def _drop(self, key: WireName) -> None:
        if self.names.pop(key, None) is None:
            return
        self.revision += 1
        if key in self._below:
            return
        for above in _strictly_above(key):
            if self._below[above] > 1:
                self._below[above] -= 1
                return
            del self._below[above]
            if above in self.names:
                return

    def _hang(self, key: WireName) -> None:
        """Count a name that begins to exist below the one above it, which may begin to exist by that."""
        for above in _strictly_above(key):
            known = self._below.get(above, 0)
            self._below[above] = known + 1
            if known or above in self.names:
                return

    def find(self, name: WireName, kind: int) -> Answer | None:
        """The answer to a question, None when it is upstream's to give."""
        chain: list[Record] = []
        while True:
            kept = self.names.get(name)
            zone = self._zone_of(name)
            if kept is None and zone is None:
                return Answer(wire.AA, tuple(chain), chase=name) if chain else None
            if kept is not None:
                data = _decode(kept)
                if data.cname and kind not in (wire.CNAME, wire.ANY):
                    if len(chain) == MAX_CHAIN:
                        return Answer(wire.SERVFAIL)
                    chain += _records(data, name, wire.CNAME)
                    name = wire.target(chain[-1])
                    continue
                found = _records_for(data, name, kind)
            else:
                found = self._synthetic(name, kind)
            if zone is not None and kind in (wire.SOA, wire.ANY) and zone == name and not found:
                found = (self._soa(zone, SOA_TTL),)
            if found:
                additional = tuple(self._additional(found)) if kind == wire.SRV else ()
                return Answer(wire.AA, (*chain, *found), additional=additional)
            rcode = wire.NOERROR if kept is not None or self._exists(name) else wire.NXDOMAIN
            soa = self._soa(name if zone is None else zone, ABSENT_TTL)
            return Answer(wire.AA | rcode, tuple(chain), (soa,))

    def _zone_of(self, name: WireName) -> WireName | None:
        """The closest zone that holds the name."""
        return next((above for above in wire.parents(name) if above in self.zones), None)

    def _exists(self, name: WireName) -> bool:
        return name in self._below or name in self.zones or self._pod_address(name) is not None

    def _soa(self, zone: WireName, ttl: int) -> Record:
        """A zone's SOA; as TTL the one that its use wants (RFC 2308, 3)."""
        names = b"\2ns\3dns" + zone + b"\12hostmaster" + zone
        numbers = _SOA.pack(self.revision & 0xFFFFFFFF, 7200, 1800, 86400, ABSENT_TTL)
        return Record(zone, wire.SOA, ttl, names + numbers)

    def _additional(self, services: Iterable[Record]) -> Iterator[Record]:
        """Addresses of SRV targets, each once, so that the client need not ask again (RFC 2782)."""
        for name in dict.fromkeys(map(wire.target, services)):
            if kept := self.names.get(name):
                data = _decode(kept)
                yield from _records(data, name, wire.A)
                yield from _records(data, name, wire.AAAA)

    def _synthetic(self, name: WireName, kind: int) -> tuple[Record, ...]:
        address = self._pod_address(name)
        if not address or kind not in (wire.ANY, wire.A if len(address) == 4 else wire.AAAA):
            return ()
        return (Record(name, wire.A if len(address) == 4 else wire.AAAA, POD_TTL, address),)

    def _pod_address(self, name: WireName) -> bytes | None:
        """The address that `a-b-c-d.NAMESPACE.pod.<zone>` stands for, empty bytes for the names above such ones."""
        above = list(wire.parents(name))
        for zone in above:
            if (found := self.zones.get(zone)) is not None:
                break
        else:
            return None
        depth = above.index(zone)
        if not found.pods or not 1 <= depth <= 3 or above[depth - 1] != b"\3pod" + zone:
            return None
        if depth < 3:
            return b""
        label = name[1 : 1 + name[0]].decode("latin-1")
        v4 = label.count("-") == 3 and "--" not in label
        try:
            text = label.replace("-", "." if v4 else ":")
            return socket.inet_pton(socket.AF_INET if v4 else socket.AF_INET6, text)
        except (OSError, UnicodeEncodeError, ValueError):
            return None


def _strictly_above(key: WireName) -> Iterator[WireName]:
    names = iter(wire.parents(key))
    next(names)
    return names


def _check(name: Name, key: WireName) -> None:
    """Raise Malformed where the data of a name are not what they should be."""
    given = (name.a, name.aaaa, name.srv, name.ptr)
    if name.cname:
        if any(given):
            raise Malformed(f"name {name.name!r}: a CNAME excludes other data (RFC 1034, 3.6.2)")
        _records(name, key, wire.CNAME)
    for kind, values in zip(_ANY, given, strict=False):
        if values:
            _records(name, key, kind)
    if not 0 <= name.ttl < 1 << 31:
        raise Malformed(f"name {name.name!r}: a TTL of {name.ttl}")


def _records_for(data: Name, owner: WireName, kind: int) -> tuple[Record, ...]:
    """Records of a type; for ANY those of the first type there is (RFC 8482, 4.1)."""
    if kind != wire.ANY:
        return _records(data, owner, kind)
    return next((found for each in _ANY if (found := _records(data, owner, each))), ())


def _records(data: Name, owner: WireName, kind: int) -> tuple[Record, ...]:
    """The records of one type; raises Malformed where the data are not valid (never for a kept name)."""
    if kind == wire.A or kind == wire.AAAA:
        family, texts = (socket.AF_INET, data.a) if kind == wire.A else (socket.AF_INET6, data.aaaa)
        try:
            return tuple(Record(owner, kind, data.ttl, socket.inet_pton(family, text)) for text in texts)
        except (OSError, UnicodeEncodeError, ValueError):
            raise Malformed(f"name {data.name!r}: one of {', '.join(texts)} is no address") from None
    if kind == wire.SRV:
        try:
            return tuple(
                Record(owner, kind, data.ttl, _SRV.pack(srv.priority, srv.weight, srv.port) + wire.to_wire(srv.target))
                for srv in data.srv
            )
        except error:
            raise Malformed(f"name {data.name!r}: an SRV number is not within 0 to 65535") from None
    if kind == wire.PTR:
        return tuple(Record(owner, kind, data.ttl, wire.to_wire(text)) for text in data.ptr)
    if kind == wire.CNAME and data.cname:
        return (Record(owner, kind, data.ttl, wire.to_wire(data.cname)),)
    return ()
