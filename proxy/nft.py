"""The kernel's tables: operations as netlink messages, transactions, what is there (linux/netfilter/nf_tables.h).

No process is started and no library loaded. A set's form (types, sizes, flags) follows from its name; the typeof
notes that `nft` reads are written too, so that `nft list table ip edgemesh` shows rules one can load again.
"""

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from . import expression
from .change import AddChain, AddElements, AddSet, DropChain, DropElements, DropSet, FlushChain, Operation
from .expression import Jump, verdict
from .layout import CLIENTS, HOOKS, TABLE
from .netlink import (
    APPEND,
    CREATE,
    TRANSACTION,
    Message,
    Netfilter,
    NetlinkError,
    attribute,
    attributes,
    nested,
    number,
    text,
)

SUBSYSTEM = 10
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE = range(7)
_DELRULE, _NEWSET, _GETSET, _DELSET, _NEWSETELEM, _DELSETELEM, _NEWGEN, _GETGEN = 8, 9, 10, 11, 12, 14, 15, 16
_KINDS = {
    _NEWTABLE: "making table",
    _DELTABLE: "dropping table",
    _NEWCHAIN: "making chain",
    _DELCHAIN: "dropping chain",
    _NEWRULE: "adding a rule to chain",
    _DELRULE: "flushing chain",
    _NEWSET: "making set",
    _DELSET: "dropping set",
    _NEWSETELEM: "adding elements to",
    _DELSETELEM: "dropping elements of",
}

_ELEMENTS_BYTES = 60_000
"""An attribute's length has 16 bits."""


class KernelError(Exception):
    """The kernel refused a transaction: what was done, to what, and why. Nothing of the transaction was done."""

    def __init__(self, doing: str, code: int, why: str) -> None:
        self.code = code
        super().__init__(f"{doing}: {why}")


# The type notes nft keeps with a set (libnftables' own tag, length, value; numbers in the machine's order).


def _note(tag: int, value: bytes) -> bytes:
    return bytes((tag, len(value))) + value


def _note_number(tag: int, value: int) -> bytes:
    return _note(tag, struct.pack("=I", value))


def _note_expression(kind: int, *numbers: int) -> bytes:
    body = b"".join(_note_number(tag, value) for tag, value in enumerate(numbers))
    return _note_number(0, kind) + _note(1, body)


_IP_DADDR = _note_expression(7, 12, 12)
_L4PROTO = _note_expression(9, 16)
_TH_DPORT = _note_expression(7, 11, 2)
_NUMGEN = _note_expression(23, 1, 65536, 0)


def _typeof(tag: int, *parts: bytes) -> bytes:
    fields = b"".join(_note(place, part) for place, part in enumerate(parts))
    return _note(tag, _note_number(0, 13) + _note(1, fields))


def _concatenation(*types: int) -> int:
    """nft's number for a concatenation of types: six bits each."""
    value = 0
    for each in types:
        value = value << 6 | each
    return value


_INTEGER, _ADDRESS, _PROTOCOL, _PORT = 4, 7, 12, 13
_MAP, _TIMEOUT, _DYNAMIC = 0x8, 0x10, 0x20
_VERDICT_TYPE = 0xFFFFFF00


class Form(msgspec.Struct, frozen=True):
    """Types and sizes of a set: key type and bytes, data type and bytes, flags, cap, notes for nft."""

    flags: int
    key: tuple[int, int]
    data: tuple[int, int] | None = None
    cap: int = 0
    notes: bytes = b""

    def body(self) -> bytes:
        parts = number(3, self.flags) + number(4, self.key[0]) + number(5, self.key[1]) + number(10, 1)
        if self.data:
            parts += number(6, self.data[0]) + number(7, self.data[1])
        if self.cap:
            parts += nested(9, number(1, self.cap))
        return parts + attribute(13, self.notes) if self.notes else parts


_FORMS = {
    "slots": Form(
        _MAP,
        (_concatenation(_ADDRESS, _PROTOCOL, _PORT, _INTEGER), 16),
        (_concatenation(_ADDRESS, _PORT), 8),
        notes=_note_number(0, 0)
        + _note_number(1, 0)
        + _typeof(3, _IP_DADDR, _L4PROTO, _TH_DPORT, _NUMGEN)
        + _typeof(4, _IP_DADDR, _TH_DPORT),
    ),
    "services": Form(_MAP, (_concatenation(_ADDRESS, _PROTOCOL, _PORT), 12), (_VERDICT_TYPE, 16)),
    "hairpins": Form(0, (_concatenation(_ADDRESS, _ADDRESS), 8)),
    "clients": Form(_DYNAMIC | _TIMEOUT, (_ADDRESS, 4), cap=CLIENTS),
}


def _form(name: str) -> Form:
    return _FORMS["clients" if name.startswith("clients-") else name.partition(".")[0]]


def _message(kind: int, flags: int, table: str, name: str, *parts: bytes) -> Message:
    return Message(SUBSYSTEM << 8 | kind, flags, b"".join((text(1, table), *parts)), f"{_KINDS[kind]} {name}")


def encode(operations: Iterable[Operation], table: str = TABLE) -> Iterator[Message]:
    """The messages of operations, in order."""
    for operation in operations:
        match operation:
            case AddChain(name, rules):
                yield _message(_NEWCHAIN, CREATE, table, name, text(3, name), _hook(name))
                for rule in rules:
                    body = text(2, name) + nested(4, expression.encode(rule))
                    yield _message(_NEWRULE, CREATE | APPEND, table, name, body)
            case FlushChain(name):
                yield _message(_DELRULE, 0, table, name, text(2, name))
            case DropChain(name):
                yield _message(_DELCHAIN, 0, table, name, text(3, name))
            case AddSet(name):
                yield _message(_NEWSET, CREATE, table, name, text(2, name), _form(name).body())
            case DropSet(name):
                yield _message(_DELSET, 0, table, name, text(2, name))
            case AddElements(name, elements):
                yield from _elements(_NEWSETELEM, CREATE, table, name, (_element(*each) for each in elements.items()))
            case DropElements(name, keys):
                yield from _elements(_DELSETELEM, 0, table, name, (_element(key, None) for key in keys))


def _hook(name: str) -> bytes:
    hook = HOOKS.get(name)
    if not hook:
        return b""
    return nested(4, number(1, hook.hook), number(2, hook.priority)) + text(7, hook.type)


def _element(key: bytes, data: bytes | str | None) -> bytes:
    body = nested(1, attribute(1, key))
    if isinstance(data, str):
        body += verdict(2, Jump.GOTO, data)
    elif data is not None:
        body += nested(2, attribute(1, data))
    return nested(1, body)


def _elements(kind: int, flags: int, table: str, name: str, elements: Iterable[bytes]) -> Iterator[Message]:
    portion: list[bytes] = []
    size = 0
    for element in elements:
        if size + len(element) > _ELEMENTS_BYTES:
            yield _message(kind, flags, table, name, text(2, name), nested(3, *portion))
            portion, size = [], 0
        portion.append(element)
        size += len(element)
    if portion:
        yield _message(kind, flags, table, name, text(2, name), nested(3, *portion))


class TooLargeError(Exception):
    """A transaction that would not fit one datagram; nothing was sent."""


class Kernel:
    """The table in this network namespace. Raises KernelError; OSError from the constructor when there's no way."""

    def __init__(self, netfilter: Netfilter, table: str = TABLE) -> None:
        self._netfilter = netfilter
        self._table = table

    def make(self) -> None:
        """Make the table unless it is there."""
        self._send([_message(_NEWTABLE, CREATE, self._table, self._table)])

    def apply(self, operations: Iterable[Operation]) -> None:
        """One transaction: all or nothing. Raises TooLargeError, before anything is sent, when it can't be one."""
        requests = list(encode(operations, self._table))
        if sum(len(request.body) + 40 for request in requests) > TRANSACTION:
            raise TooLargeError
        self._send(requests)

    def load(self, operations: Iterable[Operation]) -> None:
        """Any number of transactions, as large as they may be: for what isn't in use yet or any more."""
        portion: list[Message] = []
        size = 0
        for request in encode(operations, self._table):
            if portion and size + len(request.body) + 40 > TRANSACTION:
                self._send(portion)
                portion, size = [], 0
            portion.append(request)
            size += len(request.body) + 40
        self._send(portion)

    def try_out(self, operations: Iterable[Operation]) -> None:
        """Make the table, do the operations and drop it, in one transaction: nothing is ever seen of it."""
        make = _message(_NEWTABLE, CREATE, self._table, self._table)
        drop = _message(_DELTABLE, 0, self._table, self._table)
        self._send([make, *encode(operations, self._table), drop])

    def remove(self) -> None:
        """Drop the table with all that is in it, if it is there."""
        try:
            self._send([_message(_DELTABLE, 0, self._table, self._table)])
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise

    def generation(self) -> bytes:
        """What changes with every transaction of anybody's on any table."""
        return self._one(_GETGEN, b"", "asking for the generation").get(1, b"")

    def mark(self) -> tuple[bytes, ...]:
        """What tells the table from another of its name, and from itself when objects or rules of hooks have gone."""
        table = self._one(_GETTABLE, text(1, self._table), f"looking at table {self._table}")
        # the kernel's handle and number of objects; of each hook its number of rules
        return (table.get(4, b""), table.get(3, b""), *map(self._rules_of, HOOKS))

    def _rules_of(self, chain: str) -> bytes:
        try:
            body = text(1, self._table) + text(3, chain)
            return self._one(_GETCHAIN, body, f"looking at chain {chain}").get(6, b"")
        except KernelError as error:
            if error.code != errno.ENOENT:
                raise
            return b""

    def _one(self, kind: int, body: bytes, doing: str) -> dict[int, bytes]:
        try:
            return dict(attributes(self._netfilter.get(Message(SUBSYSTEM << 8 | kind, 0, body))))
        except NetlinkError as error:
            raise KernelError(doing, error.code, str(error)) from error

    def chains(self) -> list[str]:
        """Names of the table's chains."""
        return self._names(_GETCHAIN, 3)

    def sets(self) -> list[str]:
        """Names of the table's sets and maps."""
        return self._names(_GETSET, 2)

    def _names(self, kind: int, name_attribute: int) -> list[str]:
        request = Message(SUBSYSTEM << 8 | kind, 0, b"" if kind == _GETCHAIN else text(1, self._table))
        for last in (False, False, True):
            try:
                listed = [dict(attributes(body)) for body in self._netfilter.dump(request)]
            except NetlinkError as error:
                if error.code == errno.EINTR and not last:  # somebody changed another table meanwhile
                    continue
                raise KernelError(f"listing table {self._table}", error.code, str(error)) from error
            own = self._table.encode() + b"\0"
            return [each[name_attribute].rstrip(b"\0").decode() for each in listed if each.get(1) == own]
        raise AssertionError("the last attempt returned or raised")

    def _send(self, requests: Sequence[Message]) -> None:
        try:
            self._netfilter.transaction(SUBSYSTEM, requests)
        except NetlinkError as error:
            about = requests[min(error.request, len(requests) - 1)].about
            raise KernelError(about, error.code, str(error)) from error
