"""nftables as far as the proxy uses it: a table that operations change, and packets that are traced through it.

As strict as the kernel: what is referred to must exist, what is in use can't go, an element can't be added twice.
"""

from __future__ import annotations

import random
import socket
import sys
import zlib
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from proxy.change import (
    AddChain,
    AddElements,
    AddSet,
    DropChain,
    DropElements,
    DropSet,
    FlushChain,
    Operation,
)
from proxy.expression import (
    Base,
    Compare,
    Go,
    Hash,
    Immediate,
    Jump,
    Key,
    Lookup,
    LookupVerdict,
    LowerSegmentSize,
    Mask,
    Meta,
    Numgen,
    OriginalDestination,
    Payload,
    Reject,
    Remember,
    RouteSegmentSize,
    Rule,
    ToNetworkOrder,
    Translate,
)
from proxy.layout import CLIENTS, HOOKS, LOCAL_OUT, POST_ROUTING, PRE_ROUTING

TCP, UDP, SCTP, ICMP = 6, 17, 132, 1
SYN, ACK = 2, 16


class Refused(Exception):
    """The kernel would refuse the operation."""


@dataclass
class Packet:
    """A packet as the hooks see it; `to` is where it was sent first."""

    source: str
    to: str
    protocol: int = TCP
    port: int = 80
    flags: int = SYN
    entered: str = "veth0"
    leaves: str = "veth1"
    destination: str = ""
    reset: bool = False
    unreachable: bool = False
    clamped: bool = False
    translated_source: bool = False
    translated: bool = False
    rules: int = 0

    def __post_init__(self) -> None:
        self.destination = self.to

    def network_header(self) -> bytes:
        return bytes(12) + socket.inet_aton(self.source) + socket.inet_aton(self.destination)

    def transport_header(self) -> bytes:
        head = (40000).to_bytes(2, "big") + self.port.to_bytes(2, "big")
        return head + bytes(9) + bytes((self.flags,)) if self.protocol == TCP else head + bytes(4)

    @property
    def refused(self) -> bool:
        return self.reset or self.unreachable

    @property
    def endpoint(self) -> str:
        return f"{self.destination}:{self.port}"


@dataclass(eq=False)
class _Installed:
    rule: Rule
    counters: dict[int, int] = field(default_factory=dict)


class _Break(Exception):
    """The rule doesn't match."""


class _Done(Exception):
    """The packet's way through this hook is settled."""


class Machine:
    """One table. `random` and `now` make tracing repeatable."""

    def __init__(self, seed: int = 1) -> None:
        self.chains: dict[str, list[_Installed]] = {}
        self.sets: dict[str, dict[bytes, bytes | str | None]] = {}
        self.remembered: dict[str, dict[bytes, float]] = {}
        self.random = random.Random(seed)
        self.now = 0.0
        self.cap = CLIENTS

    # what operations do

    def apply(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            match operation:
                case AddChain(name, rules):
                    chain = self.chains.setdefault(name, [])
                    for rule in rules:
                        self._check(rule)
                        chain.append(_Installed(rule))
                case FlushChain(name):
                    self._have(self.chains, name)
                    self.chains[name] = []
                case DropChain(name):
                    self._have(self.chains, name)
                    del self.chains[name]
                    if name in self._chains_referred_to():
                        raise Refused(f"chain {name} is in use")
                case AddSet(name):
                    self.sets.setdefault(name, {})
                    if name.startswith("clients-"):
                        self.remembered.setdefault(name, {})
                case DropSet(name):
                    self._have(self.sets, name)
                    if any(name == getattr(part, "table", None) for part in self._expressions()):
                        raise Refused(f"set {name} is in use")
                    del self.sets[name]
                    self.remembered.pop(name, None)
                case AddElements(name, elements):
                    self._have(self.sets, name)
                    for key, data in elements.items():
                        if key in self.sets[name]:
                            raise Refused(f"{name} has {key.hex()}")
                        if isinstance(data, str):
                            self._have(self.chains, data)
                        self.sets[name][key] = data
                case DropElements(name, keys):
                    self._have(self.sets, name)
                    for key in keys:
                        self._have(self.sets[name], key)
                        del self.sets[name][key]

    def contents(self) -> tuple[dict[str, list[Rule]], dict[str, dict[bytes, bytes | str | None]]]:
        """All that can be seen of the table."""
        return {name: [each.rule for each in chain] for name, chain in self.chains.items()}, self.sets

    @staticmethod
    def _have(there: Container[object], name: object) -> None:
        if name not in there:
            raise Refused(f"there is no {name!r}")

    def _check(self, rule: Rule) -> None:
        for part in rule:
            if isinstance(part, Go):
                self._have(self.chains, part.chain)
            if isinstance(part, Lookup | LookupVerdict | Remember):
                self._have(self.sets, part.table)

    def _expressions(self) -> Iterable[object]:
        return (part for chain in self.chains.values() for each in chain for part in each.rule)

    def _chains_referred_to(self) -> set[str]:
        by_rules = {part.chain for part in self._expressions() if isinstance(part, Go)}
        return by_rules | {data for table in self.sets.values() for data in table.values() if isinstance(data, str)}

    # what packets meet

    def connect(self, packet: Packet, *, local: bool = False) -> Packet:
        """Trace the first packet of a connection: from a pod, or of the node's own; gives it as it leaves."""
        self._nat(packet, LOCAL_OUT if local else PRE_ROUTING)
        if not packet.refused:
            self._nat(packet, POST_ROUTING)
        return packet

    def forward(self, packet: Packet) -> Packet:
        """Trace any packet of a connection that passes through the node."""
        self._chain(packet, "forward")
        return packet

    def _nat(self, packet: Packet, hook: int) -> None:
        """The chains of type nat at a hook, by priority, until one translates or refuses."""
        for _, name in sorted((form.priority, name) for name, form in HOOKS.items() if form.hook == hook):
            if HOOKS[name].type == "nat":
                try:
                    self._chain(packet, name)
                except _Done:
                    break

    def _chain(self, packet: Packet, name: str) -> bool:
        """True when a goto ended it."""
        for installed in self.chains[name]:
            packet.rules += 1
            try:
                gone_to = self._rule(packet, installed)
            except _Break:
                continue
            if gone_to:
                how, chain = gone_to
                ended = self._chain(packet, chain)
                if how is Jump.GOTO or ended:
                    return True
        return False

    def _rule(self, packet: Packet, installed: _Installed) -> tuple[Jump, str] | None:
        registers = bytearray(64)
        loaded: set[int] = set()

        def put(register: int, value: bytes) -> None:
            padded = value + bytes(-len(value) % 4)
            registers[register * 4 : register * 4 + len(padded)] = padded
            loaded.update(range(register, register + len(padded) // 4))

        def get(register: int, size: int) -> bytes:
            assert loaded.issuperset(range(register, register + (size + 3) // 4)), "a register is read before it is set"
            return bytes(registers[register * 4 : register * 4 + size])

        for place, part in enumerate(installed.rule):
            match part:
                case Payload(base, offset, size, to):
                    if base is Base.TRANSPORT and packet.protocol == ICMP:
                        raise _Break
                    head = packet.network_header() if base is Base.NETWORK else packet.transport_header()
                    if len(head) < offset + size:
                        raise _Break
                    put(to, head[offset : offset + size])
                case Meta(Key.PROTOCOL, to):
                    put(to, bytes((packet.protocol,)))
                case Meta(key, to):
                    device = packet.entered if key is Key.INPUT_NAME else packet.leaves
                    put(to, device.encode().ljust(16, b"\0"))
                case OriginalDestination(to):
                    put(to, socket.inet_aton(packet.to))
                case Compare(register, value):
                    if get(register, len(value)) != value:
                        raise _Break
                case Mask(register, mask):
                    put(register, bytes(a & b for a, b in zip(get(register, len(mask)), mask, strict=True)))
                case Immediate(to, value):
                    put(to, value)
                case Go(how, chain):
                    return how, chain
                case LookupVerdict(table, key):
                    found = self._find(table, bytes(registers), key)
                    assert isinstance(found, str)
                    return Jump.GOTO, found
                case Lookup(table, key, to):
                    data = self._find(table, bytes(registers), key)
                    if to is not None:
                        assert isinstance(data, bytes)
                        put(to, data)
                case Numgen(modulus, is_random, to):
                    count = installed.counters.get(place, 0)
                    installed.counters[place] = count + 1
                    number = self.random.randrange(modulus) if is_random else count % modulus
                    put(to, number.to_bytes(4, sys.byteorder))
                case Hash(source, modulus, seed, to):
                    number = zlib.crc32(get(source, 4), seed + 1) % modulus
                    put(to, number.to_bytes(4, sys.byteorder))
                case Remember(table, key, seconds):
                    clients = self.remembered[table]
                    live = {client for client, until in clients.items() if until > self.now}
                    client = get(key, 4)
                    if client not in live and len(live) >= self.cap:
                        raise _Break
                    clients[client] = self.now + seconds
                case Translate(source, address, port):
                    text = socket.inet_ntoa(get(address, 4))
                    if source:
                        packet.source, packet.translated_source = text, True
                    else:
                        packet.destination, packet.translated = text, True
                        if port is not None:
                            packet.port = int.from_bytes(get(port, 2), "big")
                    raise _Done
                case Reject(reset):
                    packet.reset, packet.unreachable = reset, not reset
                    raise _Done
                case RouteSegmentSize(to):
                    put(to, bytes(4))
                case ToNetworkOrder(register):
                    get(register, 2)
                case LowerSegmentSize(register):
                    get(register, 2)
                    packet.clamped = True
        return None

    def _find(self, table: str, registers: bytes, key: int) -> bytes | str | None:
        """What the set or map has for the key in registers from `key` on; fails the rule when it hasn't it."""
        if table in self.remembered:
            if self.remembered[table].get(registers[key * 4 : key * 4 + 4], 0.0) <= self.now:
                raise _Break
            return None
        elements = self.sets[table]
        size = len(next(iter(elements), b""))
        wanted = registers[key * 4 : key * 4 + size]
        if wanted not in elements:
            raise _Break
        return elements[wanted]
