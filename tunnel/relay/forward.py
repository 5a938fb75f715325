"""The relay's UDP loop: passes whole GRO trains on by channel, hands everything else to `server`.

A thread of its own, not a task: a datagram then waits for no event loop, and a relay that is a part of an agent for
none of the agent's work. A train is what UDP_GRO joined, up to 64 datagrams and 65,507 bytes of one sender; it goes
out in one send with UDP_SEGMENT, uncut, since an engine's frame that comes apart costs more than its share. A train
of several channels is cut where they change.

What is no data (control, STUN, sealed probes behind a channel header) goes out with UDP checksum zero, which is
legal in IPv4 (RFC 768) and which GRO never joins: at a node these come from the address and port that data comes
from, and a probe joined to the end of a train would not reach the agent's raw socket.

Invariants: nothing waits in user space: what the socket's buffer does not take is dropped and counted; the lock is
never taken for data of a known route.
"""

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

import msgspec
import trio

from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, PROBE, Address, channel_header
from tunnel.relay.rivals import Rivalry
from tunnel.relay.server import Counts, RelayServer
from tunnel.relay.table import Route
from tunnel.trains import (
    ANCILLARY,
    BUFFER,
    LARGEST_SEND,
    LARGEST_TRAIN,
    SOL_UDP,
    UDP_GRO,
    enlarge,
    segment_size,
    train_segment,
)

PORT = 20006
"""The relay's UDP port unless said otherwise."""

SO_NO_CHECK = 11
"""From asm-generic/socket.h; Python has no name for it."""

ROUND = 64
"""Trains between two looks at the clock."""
HEAD = 64
"""Bytes of unroutable data that the server gets to see."""

_FIRST_WORDS = struct.Struct("<III")


class RelayError(Exception):
    """The relay can't run; the message says why and what to do."""


class Traffic(msgspec.Struct):
    """What was passed on, and what was not."""

    trains: int = 0
    datagrams: int = 0
    octets: int = 0
    dropped: int = 0
    """Datagrams that the socket's buffer had no room for."""
    unreachable: int = 0
    """Datagrams that the kernel would not send, for want of a route or by a firewall's word."""
    cut: int = 0
    """Trains that had to be sent one datagram at a time: the way out does no segmentation, or has a smaller MTU."""


class RelayStatus(msgspec.Struct, frozen=True):
    """A relay as it is. `buffers` are the receive and send buffer sizes it got."""

    listen: Address
    nodes: int
    channels: int
    routes: int
    traffic: Traffic
    counts: Counts
    rivals: tuple[Rivalry, ...]
    buffers: tuple[int, int]


class Relay:
    """A relay on one UDP address, in the relay's process or as a part of another."""

    def __init__(self) -> None:
        self._server = RelayServer(os.urandom(32), os.urandom)
        self._lock = threading.Lock()
        self._traffic = Traffic()
        self._socket: socket.socket | None = None
        self._wake = -1
        self._stopping = False

    async def run(
        self,
        listen: Address,
        *,
        admit: Callable[[bytes], bool] | None = None,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Relay until cancelled; gives the address it listens on (port 0: any). Raises RelayError.

        On a machine with several addresses `listen` is the one that nodes send to: from 0.0.0.0 the kernel answers
        with the address its route prefers, and a NAT lets no answer in from another than was asked.
        """
        if admit:
            self.set_admission(admit)
        self._stopping = False
        with _bound(listen) as self._socket:
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.to_thread.run_sync, self._loop, self._socket)
                    task_status.started(Address(*self._socket.getsockname()[:2]))
                    try:
                        await trio.sleep_forever()
                    finally:
                        self._stopping = True
                        os.eventfd_write(self._wake, 1)
            finally:
                os.close(self._wake)
                self._wake, self._socket = -1, None

    def set_admission(self, admit: Callable[[bytes], bool]) -> None:
        """From now on only nodes with these keys; of others that are registered, none stays."""
        with self._lock:
            self._server.set_admission(admit, time.monotonic())
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def status(self) -> RelayStatus:
        """What the relay does now; raises RelayError when it does not run."""
        if not self._socket:
            raise RelayError("the relay does not run")
        sizes = [self._socket.getsockopt(socket.SOL_SOCKET, name) for name in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
        with self._lock:
            table = self._server.table
            return RelayStatus(
                listen=Address(*self._socket.getsockname()[:2]),
                nodes=len(table.nodes),
                channels=len(table.channels),
                routes=len(table.routes),
                traffic=msgspec.structs.replace(self._traffic),
                counts=msgspec.structs.replace(self._server.counts),
                rivals=tuple(self._server.rivals.current(time.monotonic())),
                buffers=(sizes[0], sizes[1]),
            )

    def _loop(self, sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        passing = _Passing(sock, self._traffic, self._server, self._lock)
        while not self._stopping:
            idle = passing.round()
            with self._lock:
                now = time.monotonic()
                due = self._server.deadline()
                if due is not None and due <= now:
                    self._server.tick(now)
                    due = self._server.deadline()
                passing.answer()
            if idle:
                wait = None if due is None else max(0.0, due - now) * 1000 + 1
                for ready, _ in poll.poll(wait):
                    if ready == self._wake:
                        os.eventfd_read(self._wake)


class _Passing:
    """The loop's inside, with its buffer."""

    def __init__(self, sock: socket.socket, traffic: Traffic, server: RelayServer, lock: threading.Lock) -> None:
        self._socket = sock
        self._traffic = traffic
        self._server = server
        self._lock = lock
        self._buffer = bytearray(1 << 16)
        self._view = memoryview(self._buffer)
        self._columns = {8: self._view.cast("Q"), 4: self._view.cast("I"), 1: self._view}
        self._v4 = sock.family == socket.AF_INET

    def round(self) -> bool:
        """Pass on what is there, at most ROUND trains; whether that was all."""
        buffers = [self._buffer]
        receive = self._socket.recvmsg_into
        route_of = self._server.table.routes.get
        words = _FIRST_WORDS.unpack_from
        for _ in range(ROUND):
            try:
                length, ancillary, _, source = receive(buffers, ANCILLARY, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError as error:
                # an ICMP error of an earlier send, told on this socket: the datagram is lost, the socket is well
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    raise
                self._traffic.unreachable += 1
                continue
            size = min(length, train_segment(ancillary, length))
            if length >= 12:
                word, channel, inner = words(self._buffer)
                if word == CHANNEL and (size == length or self._one_channel(length, size)):
                    route = route_of((source if self._v4 else source[:2], channel))
                    if route:
                        self._pass(route, 0, length, size, plain=inner == PROBE)
                        continue
            self._sort(length, size, Address(*source[:2]))
        return False

    def answer(self) -> None:
        """Send what the server has to say."""
        outbox = self._server.outbox
        while outbox:
            datagram, to = outbox.popleft()
            self._send(memoryview(datagram), len(datagram), to, plain=True)

    def _one_channel(self, length: int, size: int) -> bool:
        """Whether all datagrams of a train begin with the same eight bytes, read in the widest steps that fit."""
        count = -(-length // size)
        if length - (count - 1) * size < CHANNEL_HEADER:
            return False
        width = 8 if size % 8 == 0 else 4 if size % 4 == 0 else 1
        step = size // width
        columns = self._columns[width]
        for at in range(8 // width):
            column = bytes(columns[at : at + (count - 1) * step + 1 : step])
            if column != column[:width] * count:
                return False
        return True

    def _sort(self, length: int, size: int, source: Address) -> None:
        """Cut a train into runs of one channel, and all else out of it, for the server."""
        at = 0
        while at < length:
            end = min(at + size, length)
            channel = self._channel(at, end)
            if channel is not None:
                while end < length and self._channel(end, min(end + size, length)) == channel:
                    end = min(end + size, length)
                if route := self._server.table.routes.get((source, channel)):
                    self._pass(route, at, end, size, plain=False)
                    at = end
                    continue
                end = min(at + size, length)
            with self._lock:
                seen = end if channel is None else min(end, at + HEAD)
                self._server.receive(bytes(self._view[at:seen]), source, time.monotonic())
                self.answer()
            at = end

    def _channel(self, at: int, end: int) -> int | None:
        """The channel of one datagram; None when it is not data."""
        if end - at < CHANNEL_HEADER:
            return None
        word, channel = channel_header.unpack_from(self._buffer, at)
        return int(channel) if word == CHANNEL else None

    def _pass(self, route: Route, start: int, end: int, size: int, *, plain: bool) -> None:
        count = -(-(end - start) // size)
        route.datagrams += count
        route.octets += end - start
        traffic = self._traffic
        traffic.trains += 1
        traffic.datagrams += count
        traffic.octets += end - start
        self._send(self._view[start:end], size, route.to, plain=plain and count == 1)

    def _send(self, data: memoryview, size: int, to: Address, *, plain: bool) -> None:
        """Send a datagram or a train, if the socket takes it at once; `plain` for what GRO must not join."""
        sock = self._socket
        try:
            if plain and self._v4:
                sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
                try:
                    sock.sendto(data, socket.MSG_DONTWAIT, to)
                finally:
                    sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
            elif len(data) <= size:
                sock.sendto(data, socket.MSG_DONTWAIT, to)
            elif len(data) <= min(LARGEST_SEND, LARGEST_TRAIN * size):
                sock.sendmsg([data], segment_size(size), socket.MSG_DONTWAIT, to)
            else:
                self._singly(data, size, to)
        except BlockingIOError:
            self._traffic.dropped += -(-len(data) // size)
        except OSError as error:
            if len(data) > size and error.errno in (errno.EINVAL, errno.EIO, errno.EMSGSIZE):
                self._singly(data, size, to)
            else:
                self._traffic.unreachable += -(-len(data) // size)

    def _singly(self, data: memoryview, size: int, to: Address) -> None:
        self._traffic.cut += 1
        for at in range(0, len(data), size):
            self._send(data[at : at + size], size, to, plain=False)


def _bound(listen: Address) -> socket.socket:
    """The relay's socket; raises RelayError."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(listen)
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError as error:
        sock.close()
        where = f"UDP {listen.host} port {listen.port}"
        if error.errno == errno.EADDRINUSE:
            raise RelayError(f"{where} is taken: stop what has it (ss -ulnp shows it) or give another port") from error
        raise RelayError(f"can't listen on {where}: {os.strerror(error.errno or 0)}") from error
    enlarge(sock, BUFFER)
    return sock
