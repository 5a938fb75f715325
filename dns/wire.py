"""The DNS message format (RFC 1035, 4) with EDNS (RFC 6891): questions in, messages in, messages out.

Two readers, because two kinds of bytes arrive. `parse_query` reads what clients send: strict, and for every fault
it knows the response code that is due. `parse_response` reads what upstreams send and takes it apart into records
whose names are whole, so that what is cached and sent on never holds a pointer of somebody else's making.

A name is its lower-case wire form (`b"\\x04shop\\x03svc\\x00"`), also as a key of tables; the question is echoed as
it was asked, so the mixed case of RFC 4343 and of "0x20" clients survives. Nothing here raises but `Malformed`.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error
from typing import NamedTuple, NewType

WireName = NewType("WireName", bytes)
"""Lower case, uncompressed, with the root's zero byte: at most 255 bytes (RFC 1035, 2.3.4)."""

ROOT = WireName(b"\0")

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, DNAME, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 41
IXFR, AXFR, ANY = 251, 252, 255
FIRST_META, LAST_META = 128, 254
"""Types that are questions only, and not ordinary ones (RFC 6895, 3.1); ANY is apart."""
IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
OPCODE = 0x7800

HEADER = 12
MIN_UDP = 512
"""What every client takes over UDP (RFC 1035, 4.2.1)."""
MAX_UDP = 1232
"""The largest datagram sent, whatever the client says it takes: no fragments (DNS flag day 2020)."""
MAX_MESSAGE = 65535
MAX_NAME = 255
MAX_RECORDS = 4096
"""Records read of one response; what has more is malformed."""

_HEADER = Struct("!HHHHHH")
_HEAD = Struct("!HHHHH")
_FIXED = Struct("!HHIH")
_PAIR = Struct("!HH")
_SOA_NUMBERS = 20
_LENGTHS = {length: bytes([length]) for length in range(1, 64)}
_NAME_AFTER = {NS: 0, CNAME: 0, PTR: 0, DNAME: 0, MX: 2, SRV: 6}
"""Types whose data end in one name, and how many bytes stand before it."""
_COMPRESSED = frozenset({NS, CNAME, PTR})


class Malformed(ValueError):
    """Bytes that are no DNS message, or no name; the message says where."""


class Record(NamedTuple):
    """One resource record of class IN; names in `data` are uncompressed, `ttl` in seconds."""

    owner: bytes
    type: int
    ttl: int
    data: bytes


class Query(NamedTuple):
    """A client's question, or as much of it as could be read.

    `rcode` is not NOERROR where the message itself is to be refused; `question` is then empty if it can't be echoed.
    `size` is the number of bytes the client takes over UDP; `edns` whether it sent an OPT record.
    """

    id: int
    flags: int
    rcode: int
    question: bytes = b""
    name: WireName = ROOT
    type: int = 0
    edns: bool = False
    size: int = MIN_UDP


class Response(NamedTuple):
    """An upstream's message: the question it repeats (name is ROOT and type 0 where it repeats none), and records."""

    id: int
    flags: int
    name: WireName
    type: int
    answers: tuple[Record, ...]
    authority: tuple[Record, ...]

    @property
    def rcode(self) -> int:
        """The response code of the header (the extended part only says BADVERS, which we never cause)."""
        return self.flags & 15


def to_wire(text: str) -> WireName:
    """The wire form of a name written with dots, with or without the final one; raises Malformed."""
    if text in ("", "."):
        return ROOT
    try:
        labels = text.lower().removesuffix(".").encode("ascii").split(b".")
    except UnicodeEncodeError:
        raise Malformed(f"name {text!r}: not ASCII") from None
    try:
        wire = b"".join([_LENGTHS[len(label)] + label for label in labels]) + b"\0"
    except KeyError as fault:
        raise Malformed(f"name {text!r}: a label has {fault} bytes, 1 to 63 are allowed") from None
    if len(wire) > MAX_NAME:
        raise Malformed(f"name {text!r}: {len(wire)} bytes, {MAX_NAME} are allowed")
    return WireName(wire)


def parents(name: bytes) -> Iterable[WireName]:
    """The name itself, then each name above it, the root last."""
    at = 0
    while name[at]:
        yield WireName(name[at:] if at else name)
        at += 1 + name[at]
    yield ROOT


def is_query(message: bytes) -> bool:
    """Whether this may be answered: a whole header, and not itself a response (two servers would else never end)."""
    return len(message) >= HEADER and not message[2] & QR >> 8


def parse_query(message: bytes) -> Query | None:
    """Read a client's message; None for what must not be answered at all: no whole header, or itself a response."""
    if not is_query(message):
        return None
    ident, flags, questions, answers, authority, additional = _HEADER.unpack_from(message)
    if flags & OPCODE:
        return Query(ident, flags, NOTIMP)
    if questions != 1 or answers or authority:
        return Query(ident, flags, FORMERR)
    at = HEADER
    end = len(message)
    while at < end and (length := message[at]):
        if length > 63:  # a pointer: there is nothing before the first name that it could point to
            return Query(ident, flags, FORMERR)
        at += 1 + length
    at += 1
    if at - HEADER > MAX_NAME or at + 4 > end:
        return Query(ident, flags, FORMERR)
    question = message[HEADER : at + 4]
    name = WireName(message[HEADER:at].lower())
    kind, klass = _PAIR.unpack_from(message, at)
    query = Query(ident, flags, NOERROR, question, name, kind)
    if additional or at + 4 != end:
        query = _with_additional(query, message, at + 4, additional)
        if query.rcode:
            return query
    if klass != IN or FIRST_META <= kind <= LAST_META:
        return query._replace(rcode=REFUSED)
    if kind == OPT:
        return query._replace(rcode=FORMERR)
    return query


def _with_additional(query: Query, message: bytes, at: int, count: int) -> Query:
    """The query with what its OPT record says (RFC 6891, 6.1); other additional records mean nothing to us."""
    end = len(message)
    try:
        for _ in range(count):
            owner, at = _name(message, at)
            kind, klass, ttl, length = _FIXED.unpack_from(message, at)
            at += _FIXED.size
            if at + length > end:
                raise Malformed("record data end after the message")
            if kind == OPT:
                if query.edns or owner != ROOT:
                    raise Malformed("a second OPT record, or one with a name")
                query = query._replace(edns=True, size=min(max(klass, MIN_UDP), MAX_UDP))
                if ttl >> 16 & 255:  # a version above 0
                    query = query._replace(rcode=BADVERS)
                _check_options(message, at, at + length)
            at += length
        if at != end:
            raise Malformed("bytes after the message")
    except (Malformed, error):
        return query._replace(rcode=FORMERR)
    return query


def _check_options(message: bytes, at: int, end: int) -> None:
    """Options are ignored (none is asked for), but they must be whole."""
    while at < end:
        if at + 4 > end:
            raise Malformed("an option is cut off")
        at += 4 + int.from_bytes(message[at + 2 : at + 4], "big")
    if at != end:
        raise Malformed("an option ends after its record")


def _name(message: bytes, at: int) -> tuple[WireName, int]:
    """A name that may be compressed (RFC 1035, 4.1.4), and where it ends; pointers must go backwards, so none loops."""
    labels = bytearray()
    after = -1
    barrier = at
    while True:
        if at >= len(message):
            raise Malformed("a name ends after the message")
        length = message[at]
        if length > 191:
            if at + 1 >= len(message):
                raise Malformed("a pointer is cut off")
            if after < 0:
                after = at + 2
            at = (length & 63) << 8 | message[at + 1]
            if at >= barrier:
                raise Malformed("a pointer does not point backwards")
            barrier = at
        elif length > 63:
            raise Malformed("a label of a reserved type")
        else:
            labels += message[at : at + 1 + length]
            at += 1 + length
            if len(labels) > MAX_NAME:
                raise Malformed("a name is longer than 255 bytes")
            if not length:
                return WireName(bytes(labels).lower()), after if after >= 0 else at


def parse_response(message: bytes) -> Response:
    """Read an upstream's message; OPT and the additional section are left out. Raises Malformed."""
    try:
        ident, flags, questions, answers, authority, _ = _HEADER.unpack_from(message)
        if not flags & QR:
            raise Malformed("not a response")
        if questions > 1 or answers + authority > MAX_RECORDS:
            raise Malformed(f"{questions} questions and {answers + authority} records")
        at = HEADER
        name, kind = ROOT, 0
        if questions:
            name, at = _name(message, at)
            kind, klass = _PAIR.unpack_from(message, at)
            if klass != IN:
                raise Malformed(f"a question of class {klass}")
            at += 4
        if flags & TC:  # what follows may be cut anywhere, and is asked again over TCP
            return Response(ident, flags, name, kind, (), ())
        first, at = _records(message, at, answers)
        second, at = _records(message, at, authority)
    except error:
        raise Malformed("the message is cut off") from None
    return Response(ident, flags, name, kind, first, second)


def _records(message: bytes, at: int, count: int) -> tuple[tuple[Record, ...], int]:
    found = []
    for _ in range(count):
        owner, at = _name(message, at)
        kind, klass, ttl, length = _FIXED.unpack_from(message, at)
        at += _FIXED.size
        end = at + length
        if end > len(message):
            raise Malformed("record data end after the message")
        data = _expand(message, kind, at, end)
        at = end
        if klass == IN and kind != OPT:
            # a TTL with the top bit set counts as zero (RFC 2181, 8)
            found.append(Record(owner, kind, 0 if ttl >> 31 else ttl, data))
    return tuple(found), at


def _expand(message: bytes, kind: int, at: int, end: int) -> bytes:
    """Record data with its names uncompressed."""
    if kind in _NAME_AFTER:
        before = _NAME_AFTER[kind]
        name, after = _name(message, at + before)
        data = message[at : at + before] + name
    elif kind == SOA:
        primary, after = _name(message, at)
        mailbox, after = _name(message, after)
        data = primary + mailbox + message[after : after + _SOA_NUMBERS]
        after += _SOA_NUMBERS
    else:
        return message[at:end]
    if after != end:
        raise Malformed(f"data of a record of type {kind} do not fill their length")
    return data


def target(record: Record) -> WireName:
    """The name in the data of a CNAME, NS, PTR, DNAME, MX or SRV record."""
    return WireName(record.data[_NAME_AFTER[record.type] :].lower())


def opt_record(rcode: int = NOERROR) -> bytes:
    """Our OPT record: no options, DO clear (we sign and check nothing; RFC 3225, 3), the upper bits of `rcode`."""
    return b"\0" + _FIXED.pack(OPT, MAX_UDP, (rcode >> 4) << 24, 0)


def encode_query(ident: int, name: bytes, kind: int, edns: bool) -> bytes:
    """A question for an upstream, recursion desired."""
    head = _HEADER.pack(ident, RD, 1, 0, 0, 1 if edns else 0)
    return head + name + _PAIR.pack(kind, IN) + (opt_record() if edns else b"")


def encode_refusal(query: Query, rcode: int) -> bytes:
    """An answer without records."""
    flags = QR | (query.flags & (OPCODE | RD | CD)) | RA | (rcode & 15)
    head = _HEADER.pack(query.id, flags, 1 if query.question else 0, 0, 0, 1 if query.edns else 0)
    return head + query.question + (opt_record(rcode) if query.edns else b"")


class Body(NamedTuple):
    """What follows the question in an answer, and the counts and the TC bit that belong to it."""

    counts: tuple[int, int, int]
    records: bytes
    truncated: bool


def encode_body(
    question: bytes,
    room: int,
    answers: Iterable[Record],
    authority: Iterable[Record] = (),
    additional: Iterable[Record] = (),
) -> Body:
    """Records as they follow `question`, as many whole ones as fit `room` bytes.

    What does not fit of answers and authority sets TC; additional records are left out silently (RFC 2181, 9). As
    many answers as fit are sent with TC nevertheless: there are stub resolvers that never ask again over TCP.
    """
    start = HEADER + len(question)
    known = {WireName(name): start - 4 - len(name) for name in parents(question[:-4].lower()) if name != ROOT}
    out = bytearray()
    counts = [0, 0, 0]
    truncated = False
    for section, records in enumerate((answers, authority, additional)):
        if truncated:
            break
        for owner, kind, ttl, data in records:
            before = len(out)
            _compress(out, owner, known, start)
            out += _FIXED.pack(kind, IN, ttl, 0)
            at = len(out)
            if kind in _COMPRESSED:
                _compress(out, data, known, start)
            else:
                out += data
            out[at - 2 : at] = (len(out) - at).to_bytes(2, "big")
            if len(out) > room:
                del out[before:]
                truncated = section < 2
                break
            counts[section] += 1
    return Body((counts[0], counts[1], counts[2]), bytes(out), truncated)


def _compress(out: bytearray, name: bytes, known: dict[WireName, int], start: int) -> None:
    """Append a name, with a pointer to the longest suffix that stands in the message already."""
    at = 0
    while name[at]:
        suffix = WireName(name[at:].lower() if at == 0 else name[at:])
        offset = known.get(suffix)
        if offset is not None:
            out += (0xC000 | offset).to_bytes(2, "big")
            return
        here = start + len(out)
        if here < 0x4000:
            known[suffix] = here
        out += name[at : at + 1 + name[at]]
        at += 1 + name[at]
    out.append(0)


def encode_answer(
    query: Query,
    flags: int,
    limit: int,
    answers: Iterable[Record],
    authority: Iterable[Record] = (),
    additional: Iterable[Record] = (),
) -> bytes:
    """A whole answer of at most `limit` bytes; `flags` are AA and the response code."""
    opt = opt_record() if query.edns else b""
    room = limit - HEADER - len(query.question) - len(opt)
    body = encode_body(query.question, room, answers, authority, additional)
    head = answer_head(query.flags, flags, body, query.edns)
    return query.id.to_bytes(2, "big") + head + query.question + body.records + opt


def answer_head(asked: int, flags: int, body: Body, edns: bool) -> bytes:
    """The ten bytes between an answer's id and its question; `asked` are the query's flags (RD and CD are kept)."""
    first, second, third = body.counts
    flags |= QR | RA | (asked & (RD | CD)) | (TC if body.truncated else 0)
    return _HEAD.pack(flags, 1, first, second, third + edns)
