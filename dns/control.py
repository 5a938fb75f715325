"""The messages on the resolver's Unix socket, and their frames.

A frame is its length (4 bytes, big-endian, of what follows), the version of these messages, and one message as
MessagePack, a tagged array. Each request has one answer, in order. `Replace` makes the table what it says, `Update`
changes it; both are level-triggered: to send one twice does no harm. A name that is wrong is skipped and named in
`Refused`, the others are applied, so that one bad name does not cost the rest theirs.
"""

from __future__ import annotations

import msgspec

from dns.records import Name, Zone

VERSION = 1
MAX_FRAME = 64 << 20
"""Bytes of the largest frame, without its length."""


class Replace(msgspec.Struct, frozen=True, tag="replace", array_like=True):
    """The whole table: zones and names."""

    zones: tuple[Zone, ...]
    names: tuple[Name, ...]


class Update(msgspec.Struct, frozen=True, tag="update", array_like=True):
    """Names that changed, each whole, and names that are gone."""

    changed: tuple[Name, ...] = ()
    gone: tuple[str, ...] = ()


class GetStatus(msgspec.Struct, frozen=True, tag="get-status", array_like=True):
    """Asks for `Status`."""


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True):
    """The table is now as the request said; the file on disk follows within seconds."""


class Refused(msgspec.Struct, frozen=True, tag="refused", array_like=True):
    """Something in the request was wrong and was skipped."""

    reason: str


class UpstreamStatus(msgspec.Struct, frozen=True, array_like=True):
    """One server for what is not ours; `latency` in seconds, smoothed, 0 before its first answer."""

    address: str
    ok: bool
    error: str
    latency: float
    asked: int


class Status(msgspec.Struct, frozen=True, tag="status", array_like=True):
    """How the resolver is doing. `since` is the Unix time of its start, in seconds.

    `hits` are the queries answered with bytes that were ready, `failures` those answered SERVFAIL because upstream
    gave no answer; `problems` are sentences about what doesn't work (upstreams, the table's file).
    """

    since: float
    names: int
    zones: int
    queries: int
    hits: int
    failures: int
    cached: int
    pending: int
    upstreams: tuple[UpstreamStatus, ...] = ()
    problems: tuple[str, ...] = ()


Message = Replace | Update | GetStatus | Done | Refused | Status


class Malformed(ValueError):
    """Bytes that are no frame of ours; the connection can't be used any more."""


_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The frame of a message; raises ValueError when it is too large."""
    body = _encode(message)
    if len(body) >= MAX_FRAME:
        raise ValueError(f"a message of {len(body)} bytes; at most {MAX_FRAME} are possible")
    return (len(body) + 1).to_bytes(4, "big") + bytes([VERSION]) + body


class Codec:
    """Takes a stream of bytes apart into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now; raises Malformed, after which the codec is of no use."""
        self._buffer += data
        messages = []
        at = 0
        while len(self._buffer) - at >= 4:
            length = int.from_bytes(self._buffer[at : at + 4], "big")
            if not 0 < length <= MAX_FRAME:
                raise Malformed(f"a frame of {length} bytes; 1 to {MAX_FRAME} are allowed")
            if len(self._buffer) - at > 4 and self._buffer[at + 4] != VERSION:
                raise Malformed(f"messages of version {self._buffer[at + 4]}; this program speaks version {VERSION}")
            end = at + 4 + length
            if len(self._buffer) < end:
                break
            messages.append(_message(bytes(self._buffer[at + 5 : end])))
            at = end
        del self._buffer[:at]
        return messages


def _message(body: bytes) -> Message:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Malformed(f"not a message of the resolver's: {fault}") from None
