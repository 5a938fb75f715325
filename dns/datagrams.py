"""The UDP socket's hot loop: many datagrams a system call, answered in the buffers they arrived in.

recvmmsg(2) fills slots; an answer that is ready is written over its query (id and question stay where they are), and
sendmmsg(2) sends the slots back to where they came from. The C structures are laid out once; per datagram only its
length is read and one or two words are written, through memoryviews, since a ctypes field costs ten times as much.

Invariants: the receiving headers are never changed after they were made (the kernel only writes lengths and flags);
the sending ones share the slots' addresses and have lengths of their own.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from errno import EAGAIN, ECONNREFUSED, EINTR, ENETDOWN, ENOBUFS, ENOMEM
from struct import Struct

from dns import wire
from dns.compiled import turned
from dns.resolver import Resolver

SLOTS = 64
"""Datagrams a call."""
SLOT = 2048
"""Bytes of a slot: a query that fills it is too long to be one, and a UDP answer is at most wire.MAX_UDP."""
ROUNDS = 4
"""Full batches in a row before others are looked after."""

Address = tuple[str, int] | tuple[str, int, int, int]
Ask = Callable[[bytes, Address], bytes | None]

_PASSING = frozenset({EAGAIN, EINTR, ECONNREFUSED, ENETDOWN, ENOBUFS, ENOMEM})
"""What receiving may say now and not the next time; anything else would be our own fault."""
_NAME = 28
"""sizeof(struct sockaddr_in6), the larger of the two."""
_V4 = Struct("!2xH4s")
_V6 = Struct("!2xHL16s")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_libc.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Datagrams:
    """One bound UDP socket and its buffers."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._v4 = sock.family == socket.AF_INET
        self._names = bytearray(_NAME * SLOTS)
        self._slots = bytearray(SLOT * SLOTS)
        self._first_name = ctypes.addressof(ctypes.c_char.from_buffer(self._names))
        self._first_slot = ctypes.addressof(ctypes.c_char.from_buffer(self._slots))
        self._receiving, self._kept_vectors = self._headers()
        self._sending, vectors = self._headers()
        stride = ctypes.sizeof(_Mmsghdr)
        lengths = memoryview(self._receiving).cast("B").cast("I")
        self._lengths = lengths[_Mmsghdr.len.offset // 4 :: stride // 4]
        words = memoryview(vectors).cast("B").cast("P")
        self._bases, self._sizes = words[0::2], words[1::2]
        words = memoryview(self._sending).cast("B").cast("P")
        self._targets = words[0 :: stride // words.itemsize]

    def _headers(self) -> tuple[ctypes.Array[_Mmsghdr], ctypes.Array[_Iovec]]:
        headers = (_Mmsghdr * SLOTS)()
        vectors = (_Iovec * SLOTS)()
        for i in range(SLOTS):
            vectors[i].base, vectors[i].len = self._first_slot + i * SLOT, SLOT
            headers[i].hdr.name = self._first_name + i * _NAME
            headers[i].hdr.namelen = 16 if self._v4 else _NAME
            headers[i].hdr.iov = ctypes.addressof(vectors[i])
            headers[i].hdr.iovlen = 1
        return headers, vectors

    def serve(self, resolver: Resolver, ask: Ask) -> None:
        """Answer what has arrived; `ask` gets each message that no answer is ready for, and its sender."""
        number = self.sock.fileno()
        receiving = ctypes.addressof(self._receiving)
        for _ in range(ROUNDS):
            count = _libc.recvmmsg(number, receiving, SLOTS, socket.MSG_DONTWAIT, None)
            if count <= 0:
                if count < 0 and (code := ctypes.get_errno()) not in _PASSING:
                    raise OSError(code, os.strerror(code))
                return
            self._answer(count, resolver, ask)
            if count < SLOTS:
                return

    def _answer(self, count: int, resolver: Resolver, ask: Ask) -> None:
        slots = self._slots
        view = memoryview(slots)
        lengths, sizes, bases, targets = self._lengths, self._sizes, self._bases, self._targets
        find = resolver.compiled.young.get
        first_slot, first_name = self._first_slot, self._first_name
        hits = 0
        ready = 0
        start = 0
        for i in range(count):
            stop = start + lengths[i]
            entry = find(view[start + 2 : stop].tobytes().lower())
            if entry is None:
                reply = ask(view[start:stop].tobytes(), self._address(i))
                if reply is None:
                    start += SLOT
                    continue
                size = len(reply)
                slots[start : start + size] = reply
            else:
                end, head, tail, unit, span = entry
                hits += 1
                if unit:
                    resolver.turn += 1
                    tail = turned(tail, unit, span, resolver.turn)
                slots[start + 2 : start + 12] = head
                end += start
                slots[end : end + len(tail)] = tail
                size = end + len(tail) - start
            sizes[ready] = size
            bases[ready] = first_slot + start
            targets[ready] = first_name + i * _NAME
            ready += 1
            start += SLOT
        resolver.hits += hits
        resolver.queries += hits
        self._send(ready)

    def _send(self, count: int) -> None:
        """Send the first `count` slots that were made ready; one that the kernel refuses is left out."""
        number = self.sock.fileno()
        stride = ctypes.sizeof(_Mmsghdr)
        at = 0
        while at < count:
            sent = _libc.sendmmsg(number, ctypes.addressof(self._sending) + at * stride, count - at, 0)
            at += max(sent, 1)  # -1: the first of these could not be sent (no route, filtered); its client asks again

    def _address(self, i: int) -> Address:
        """The sender of slot i."""
        at = i * _NAME
        if self._v4:
            port, host = _V4.unpack_from(self._names, at)
            return socket.inet_ntoa(host), port
        port, flow, host = _V6.unpack_from(self._names, at)
        scope = int.from_bytes(self._names[at + 24 : at + 28], "little" if _LITTLE else "big")
        return socket.inet_ntop(socket.AF_INET6, host), port, flow, scope

    def send(self, message: bytes, address: Address) -> None:
        """Send one late answer."""
        try:
            self.sock.sendto(message, socket.MSG_DONTWAIT, address)
        except OSError:
            return  # as in `_send`


_LITTLE = memoryview(b"\1\0").cast("H")[0] == 1
assert wire.MAX_UDP <= SLOT
