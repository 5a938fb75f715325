"""The table `edgemesh`: what stands in it, as a pure function of services and network.

    map slots     service address . protocol . port . slot number : endpoint address . port
    map services  service address . protocol . port : goto one of the chains below
    set hairpins  address . the same address, for each endpoint that can call itself

    random-N, hash-N   shared by all services with N endpoints: pick a slot, translate to what it holds
    rr-SERVICE         a service with round robin: a chain, so a counter, of its own (one shared counter sent two
                       services that were called in turn to one endpoint each)
    affinity-SERVICE   a service with ClientIP affinity, and a dynamic set of clients for each endpoint: gone with
                       it, so no client sticks to what isn't there any more
    refuse             no endpoint, or no such port: a TCP reset or ICMP port unreachable, at once

All of it hangs on chains of type nat, which see the first packet of a connection only: packets of an established
connection meet one rule of ours, the TCP flags in `forward`. Slots are numbered in the order of endpoints, so the
contents depend on what should be and never on how it came to be. Names end in a generation's number: a whole new
load goes into maps and chains of the next generation, beside those in use, and one transaction switches. Client
sets have none: they are kept from generation to generation.
"""

import socket
import struct
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec

from .address import LayoutError, Prefix, ipv4, port
from .expression import (
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
from .service import NodeNetwork, Policy, Protocol, ServicePort

TABLE = "edgemesh"
REFUSE, CLAMP = "refuse", "clamp"
CLIENTS = 65_535
"""Clients a set remembers for an endpoint; with a full set a new client is served and not remembered."""

PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
_PROTOCOL_NAMES = {number: name.lower() for name, number in PROTOCOLS.items()}

_SERVICE_KEY = struct.Struct("!4sB3xH2x")
_ENDPOINT = struct.Struct("!4sH2x")
_SYN = b"\x02"

_SOURCE = Payload(Base.NETWORK, 12, 4, 0)
_PICK = 4
"""The register a client's address is loaded into to be hashed, behind the key of a slot in 0 to 3."""


class Target(NamedTuple):
    """What a client calls: IPv4 address (4 bytes), IP protocol number, port."""

    address: bytes
    protocol: int
    port: int

    def key(self) -> bytes:
        return _SERVICE_KEY.pack(*self)

    def __str__(self) -> str:
        return f"{socket.inet_ntoa(self.address)}-{_PROTOCOL_NAMES[self.protocol]}-{self.port}"


class Endpoint(NamedTuple):
    """Who answers: IPv4 address (4 bytes) and port."""

    address: bytes
    port: int

    def data(self) -> bytes:
        return _ENDPOINT.pack(*self)

    def __str__(self) -> str:
        return f"{socket.inet_ntoa(self.address)}-{self.port}"


class Hook(msgspec.Struct, frozen=True):
    """Where a base chain is called: chain type, hook number (NF_INET_*), priority."""

    type: str
    hook: int
    priority: int


PRE_ROUTING, FORWARD, LOCAL_OUT, POST_ROUTING = 0, 2, 3, 4

HOOKS = {
    "prerouting": Hook("nat", PRE_ROUTING, -100),
    "output": Hook("nat", LOCAL_OUT, -100),
    # after everybody's translation: a service that another proxy on this node knows is its business
    "stray-prerouting": Hook("nat", PRE_ROUTING, -90),
    "stray-output": Hook("nat", LOCAL_OUT, -90),
    # before others' masquerading, which would hide the sources of pods
    "postrouting": Hook("nat", POST_ROUTING, 99),
    "forward": Hook("filter", FORWARD, -150),
}


class Names(msgspec.Struct, frozen=True):
    """Names of a generation's maps and chains."""

    generation: int

    def _of(self, name: str) -> str:
        return f"{name}.{self.generation}"

    @property
    def slots(self) -> str:
        return self._of("slots")

    @property
    def services(self) -> str:
        return self._of("services")

    @property
    def hairpins(self) -> str:
        return self._of("hairpins")

    def shared(self, policy: Policy, endpoints: int) -> str:
        return self._of(f"{'hash' if policy is Policy.SOURCE_HASH else 'random'}-{endpoints}")

    def own(self, target: Target, affinity: bool) -> str:
        return self._of(f"{'affinity' if affinity else 'rr'}-{target}")


def generation_of(name: str) -> int | None:
    """The generation in a name, None if it has none."""
    _, dot, number = name.rpartition(".")
    return int(number) if dot and number.isdecimal() and not name.startswith("clients-") else None


def clients(target: Target, endpoint: Endpoint) -> str:
    """Name of the set of clients that stick to an endpoint of a service."""
    return f"clients-{target}-{endpoint}"


class Placement(msgspec.Struct, frozen=True):
    """What one service port has in the table.

    `rules` are those of `chain`; with `shared` the chain is there for all services that name it. `client_sets` are
    the names of the sets of clients.
    """

    target: Target
    endpoints: tuple[Endpoint, ...]
    chain: str
    shared: bool
    rules: tuple[Rule, ...]
    client_sets: tuple[str, ...] = ()

    def slots(self) -> dict[bytes, bytes]:
        """The service's part of the map `slots`."""
        key = self.target.key()
        return {key + _machine(number): end.data() for number, end in enumerate(self.endpoints)}


def place(service: ServicePort, names: Names) -> Placement:
    """What a service port gets in the table. Raises LayoutError when it isn't all IPv4 or a port is out of range."""
    target = Target(ipv4(service.address), PROTOCOLS[service.protocol], port(service.port))
    endpoints = tuple(sorted({Endpoint(ipv4(each.address), port(each.port)) for each in service.backends}))
    count = len(endpoints)
    if not count:
        return Placement(target, (), REFUSE, True, ())
    if service.affinity is not None:
        if not 0 < service.affinity <= 86_400 * 365:
            raise LayoutError(f"affinity timeout {service.affinity} s is not within 1 s and a year")
        sets = tuple(clients(target, end) for end in endpoints)
        sticking = _affinity(service.policy, target.protocol, endpoints, sets, service.affinity)
        rules = (*sticking, _balance(service.policy, count, names))
        return Placement(target, endpoints, names.own(target, True), False, rules, sets)
    rules = (_balance(service.policy, count, names),)
    if service.policy is Policy.ROUND_ROBIN:
        return Placement(target, endpoints, names.own(target, False), False, rules)
    return Placement(target, endpoints, names.shared(service.policy, count), True, rules)


def _service_key() -> Rule:
    """Load a packet's destination, protocol and port: the key of `services`, and the start of a slot's."""
    return (
        Payload(Base.NETWORK, 16, 4, 0),
        Meta(Key.PROTOCOL, 1),
        Payload(Base.TRANSPORT, 2, 2, 2),
    )


def _pick(policy: Policy, modulus: int, to: int, seed: int = 0) -> Rule:
    """Load a number below `modulus`, as the policy has it."""
    if policy is Policy.SOURCE_HASH:
        return Payload(Base.NETWORK, 12, 4, _PICK), Hash(_PICK, modulus, seed, to)
    return (Numgen(modulus, policy is Policy.RANDOM, to),)


@lru_cache(maxsize=256)
def _balance(policy: Policy, count: int, names: Names) -> Rule:
    return (*_service_key(), *_pick(policy, count, 3), Lookup(names.slots, 0, 0), Translate(False, 0, 1))


def _affinity(
    policy: Policy, protocol: int, endpoints: tuple[Endpoint, ...], sets: tuple[str, ...], seconds: int
) -> Iterator[Rule]:
    """First whom the client sticks to; then each endpoint in turn has one chance in those that are left.

    With round robin that is exact too: the first rule's counter takes one connection of N, the second's one of the
    N - 1 that are left. A full set fails its rule, and the chain's last rule serves without remembering. The
    protocol is known when a packet is here; nft, when it reads a saved table, wants it said before a port.
    """
    known: Rule = (Meta(Key.PROTOCOL, 0), Compare(0, bytes((protocol,))))
    for end, name in zip(endpoints, sets, strict=True):
        yield (*known, _SOURCE, Lookup(name, 0), Remember(name, 0, seconds), *_translate(end))
    for number, (end, name) in enumerate(zip(endpoints, sets, strict=True)):
        left = len(endpoints) - number
        chance = (*_pick(policy, left, 0, number), Compare(0, _machine(0))) if left > 1 else ()
        yield (*known, *chance, _SOURCE, Remember(name, 0, seconds), *_translate(end))


def _translate(end: Endpoint) -> Rule:
    return Immediate(0, end.address), Immediate(1, end.port.to_bytes(2, "big")), Translate(False, 0, 1)


def fixed_chains() -> dict[str, tuple[Rule, ...]]:
    """The chains that are the same whatever the services and the network."""
    tcp = (Meta(Key.PROTOCOL, 0), Compare(0, b"\x06"), Reject(reset=True))
    return {REFUSE: (tcp, (Reject(reset=False),))}


def network_chains(network: NodeNetwork, names: Names) -> dict[str, tuple[Rule, ...]]:
    """The base chains of a generation and what they jump to, by name. Raises LayoutError for a wrong network."""
    services: Rule = (*_service_key(), LookupVerdict(names.services, 0))
    stray: tuple[Rule, ...] = ()
    if network.service_range:
        stray = ((Payload(Base.NETWORK, 16, 4, 0), *_within(network.service_range), Go(Jump.GOTO, REFUSE)),)
    device = network.tunnel_device.encode()
    if not 0 < len(device) < 16:
        raise LayoutError(f"device name {network.tunnel_device!r} has not 1 to 15 bytes")
    by_tunnel = (Meta(Key.OUTPUT_NAME, 0), Compare(0, device.ljust(16, b"\0")))
    from_tunnel = (Meta(Key.INPUT_NAME, 0), Compare(0, device.ljust(16, b"\0")))
    clamp: Rule = (RouteSegmentSize(0), ToNetworkOrder(0), LowerSegmentSize(0))
    syn: Rule = (
        Meta(Key.PROTOCOL, 0),
        Compare(0, b"\x06"),
        Payload(Base.TRANSPORT, 13, 1, 0),
        Mask(0, _SYN),
        Compare(0, _SYN),
        Go(Jump.JUMP, CLAMP),
    )
    return {
        "prerouting": (services,),
        "output": (services,),
        "stray-prerouting": stray,
        "stray-output": stray,
        "postrouting": tuple(_sources(network, names, by_tunnel)),
        CLAMP: ((*by_tunnel, *clamp), (*from_tunnel, *clamp)),
        "forward": (syn,),
    }


def _sources(network: NodeNetwork, names: Names, by_tunnel: Rule) -> Iterator[Rule]:
    """Which sources are translated, as connections leave.

    A pod that calls itself through a service must see another source: the node, or without a mesh address the
    service. A pod's source is translated to itself, which is to say: settled, for other tables too.
    """
    mesh = ipv4(network.mesh_address) if network.mesh_address else b""
    both = (_SOURCE, Payload(Base.NETWORK, 16, 4, 1))
    yield (*both, Lookup(names.hairpins, 0), Immediate(0, mesh) if mesh else OriginalDestination(0), Translate(True, 0))
    if network.pod_range:
        yield (*by_tunnel, _SOURCE, *_within(network.pod_range), _SOURCE, Translate(True, 0))
    if mesh:
        yield (*by_tunnel, Immediate(0, mesh), Translate(True, 0))


def can_call_itself(network: NodeNetwork) -> Prefix:
    """The range of endpoints that are pods of this node; all, when the node's range isn't known."""
    return Prefix.parse(network.pod_range or "0.0.0.0/0")


def hairpin(address: bytes) -> bytes:
    """The element of `hairpins` for an endpoint's address."""
    return address + address


def _within(text: str) -> Rule:
    prefix = Prefix.parse(text)
    return Mask(0, prefix.mask.to_bytes(4, "big")), Compare(0, prefix.first.to_bytes(4, "big"))


def _machine(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)
