"""nftables expressions: what a rule is made of, as data, each with its netlink form (linux/netfilter/nf_tables.h).

A rule is a sequence of expressions over sixteen 32-bit registers. Rules are built of these by `layout`, and can be
evaluated as well as encoded: the tests trace packets through them. Registers are numbered 0 to 15 here; values in
them are in network order, except what the kernel makes itself (`Numgen`, `Hash`, ct status), which is in the
machine's.
"""

from enum import IntEnum

import msgspec

from .netlink import attribute, nested, number, text

_VERDICT_REGISTER = 0
_FIRST_REGISTER = 8  # NFT_REG32_00


def _register(kind: int, register: int) -> bytes:
    return number(kind, _FIRST_REGISTER + register)


def _value(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


def verdict(kind: int, code: int, chain: str) -> bytes:
    """A data attribute that is a verdict towards a chain."""
    return nested(kind, nested(2, number(1, code), text(2, chain)))


class Jump(IntEnum):
    """Verdicts that name a chain (NFT_JUMP, NFT_GOTO)."""

    JUMP = -3
    GOTO = -4


class Base(IntEnum):
    """Headers a payload is counted from (NFT_PAYLOAD_*)."""

    NETWORK = 1
    TRANSPORT = 2


class Key(IntEnum):
    """What `Meta` loads (NFT_META_*)."""

    INPUT_NAME = 6
    OUTPUT_NAME = 7
    PROTOCOL = 16


class Payload(msgspec.Struct, frozen=True):
    """Load `size` bytes at `offset` of a header into registers; a packet without them fails the rule."""

    base: Base
    offset: int
    size: int
    to: int
    name = "payload"

    def body(self) -> bytes:
        return _register(1, self.to) + number(2, self.base) + number(3, self.offset) + number(4, self.size)


class Meta(msgspec.Struct, frozen=True):
    """Load the transport protocol (one byte) or a device's name (16 bytes)."""

    key: Key
    to: int
    name = "meta"

    def body(self) -> bytes:
        return _register(1, self.to) + number(2, self.key)


class OriginalDestination(msgspec.Struct, frozen=True):
    """Load the IPv4 address the connection's first packet was sent to (`ct original ip daddr`)."""

    to: int
    name = "ct"

    def body(self) -> bytes:
        return _register(1, self.to) + number(2, 20) + attribute(3, b"\0")


class Compare(msgspec.Struct, frozen=True):
    """Fail the rule unless the registers from `register` hold `value`."""

    register: int
    value: bytes
    name = "cmp"

    def body(self) -> bytes:
        return _register(1, self.register) + number(2, 0) + _value(3, self.value)


class Mask(msgspec.Struct, frozen=True):
    """Keep the bits of `mask` in a register."""

    register: int
    mask: bytes
    name = "bitwise"

    def body(self) -> bytes:
        size = len(self.mask)
        source = _register(1, self.register) + _register(2, self.register) + number(3, size)
        return source + _value(4, self.mask) + _value(5, bytes(size))


class Immediate(msgspec.Struct, frozen=True):
    """Put a constant into registers."""

    to: int
    value: bytes
    name = "immediate"

    def body(self) -> bytes:
        return _register(1, self.to) + _value(2, self.value)


class Go(msgspec.Struct, frozen=True):
    """Go on in another chain; `JUMP` comes back, `GOTO` doesn't."""

    how: Jump
    chain: str
    name = "immediate"

    def body(self) -> bytes:
        return number(1, _VERDICT_REGISTER) + verdict(2, self.how, self.chain)


class Lookup(msgspec.Struct, frozen=True):
    """Fail the rule unless the key from `key` on is in the set; in a map, load what it maps to into `to`."""

    table: str
    key: int
    to: int | None = None
    name = "lookup"

    def body(self) -> bytes:
        data = b"" if self.to is None else _register(3, self.to)
        return text(1, self.table) + _register(2, self.key) + data


class LookupVerdict(msgspec.Struct, frozen=True):
    """Do what the map says for the key from `key` on; a key it hasn't fails the rule."""

    table: str
    key: int
    name = "lookup"

    def body(self) -> bytes:
        return text(1, self.table) + _register(2, self.key) + number(3, _VERDICT_REGISTER)


class Numgen(msgspec.Struct, frozen=True):
    """Load a number below `modulus`: random, or counted up by this very expression (`numgen inc`)."""

    modulus: int
    random: bool
    to: int
    name = "numgen"

    def body(self) -> bytes:
        return _register(1, self.to) + number(2, self.modulus) + number(3, int(self.random)) + number(4, 0)


class Hash(msgspec.Struct, frozen=True):
    """Load the Jenkins hash of a 32-bit register, below `modulus`.

    The seed is given, so that a client keeps its endpoint on every node and over a restart.
    """

    source: int
    modulus: int
    seed: int
    to: int
    name = "hash"

    def body(self) -> bytes:
        ends = _register(1, self.source) + _register(2, self.to) + number(3, 4)
        return ends + number(4, self.modulus) + number(5, self.seed) + number(6, 0) + number(7, 0)


class Remember(msgspec.Struct, frozen=True):
    """Put the key in a register into a dynamic set, for `seconds` from now; a full set fails the rule."""

    table: str
    key: int
    seconds: int
    name = "dynset"

    def body(self) -> bytes:
        timeout = attribute(6, (self.seconds * 1000).to_bytes(8, "big"))
        return text(1, self.table) + number(3, 1) + _register(4, self.key) + timeout


class Translate(msgspec.Struct, frozen=True):
    """Translate the connection's source or destination to the address in a register, and the port in another."""

    source: bool
    address: int
    port: int | None = None
    name = "nat"

    def body(self) -> bytes:
        address = number(1, 0 if self.source else 1) + number(2, 2) + _register(3, self.address)
        return address if self.port is None else address + _register(5, self.port)


class Reject(msgspec.Struct, frozen=True):
    """Answer with a TCP reset, or with ICMP port unreachable, and drop."""

    reset: bool
    name = "reject"

    def body(self) -> bytes:
        return number(1, 1) if self.reset else number(1, 0) + attribute(2, b"\x03")


class RouteSegmentSize(msgspec.Struct, frozen=True):
    """Load the TCP segment size that fits the routes of both directions, in the machine's order (`rt mtu`)."""

    to: int
    name = "rt"

    def body(self) -> bytes:
        return _register(1, self.to) + number(2, 3)


class ToNetworkOrder(msgspec.Struct, frozen=True):
    """Turn the 16-bit number in a register into network order."""

    register: int
    name = "byteorder"

    def body(self) -> bytes:
        ends = _register(1, self.register) + _register(2, self.register)
        return ends + number(3, 1) + number(4, 2) + number(5, 2)


class LowerSegmentSize(msgspec.Struct, frozen=True):
    """Write the register into the TCP option MSS; the kernel never raises it."""

    register: int
    name = "exthdr"

    def body(self) -> bytes:
        where = attribute(2, b"\x02") + number(3, 2) + number(4, 2)
        return where + number(6, 1) + _register(7, self.register)


Expression = (
    Payload
    | Meta
    | OriginalDestination
    | Compare
    | Mask
    | Immediate
    | Go
    | Lookup
    | LookupVerdict
    | Numgen
    | Hash
    | Remember
    | Translate
    | Reject
    | RouteSegmentSize
    | ToNetworkOrder
    | LowerSegmentSize
)
Rule = tuple[Expression, ...]


def encode(rule: Rule) -> bytes:
    """The rule's expressions as netlink elements of a list (NFTA_LIST_ELEM: NFTA_EXPR_NAME, NFTA_EXPR_DATA)."""
    return b"".join(nested(1, text(1, part.name), nested(2, part.body())) for part in rule)
