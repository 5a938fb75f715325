"""From UDP to TUN: receives trains, opens data messages and frames, checks the inner source, writes.

A train of frame parts is scattered by the receive itself into headers here and payloads there, so that the sealed
frame lies in one piece and is opened where it lies. What a train is made of is known only afterwards; so the layout is
that of the last train (flat after some datagrams that came one by one), and a train that came into the wrong one is
moved, which costs a copy:

    flat       all in one piece: data messages
    direct     16 bytes of header, 1,424 of payload, ...: parts of frames
    relayed    the same with 8 bytes of channel header before each

In all of them the first datagram lies in one piece.

Invariants: nothing the network sends raises out of here; datagrams of kinds not known are dropped silently, being
other processes'; what is written to TUN was authenticated, came once, and has a source its peer may use.
"""

from __future__ import annotations

import errno
import os
import socket
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, COOKIE_REPLY, DATA, FRAME, INITIATION, RESPONSE, Endpoint
from tunnel.engine.frames import HEADER, PAYLOAD, TAG, Reassembly, header
from tunnel.engine.joiner import Joiner
from tunnel.engine.tun import GSO_NONE, GSO_TCPV4, GSO_TCPV6, LARGEST, NEEDS_CSUM, VNET
from tunnel.trains import ANCILLARY, train_segment
from tunnel.wireguard.keypair import nonce
from tunnel.wireguard.messages import DATA_HEADER, DATA_OVERHEAD, data_header

if TYPE_CHECKING:
    from tunnel.engine.session import Session
    from tunnel.engine.state import State
    from tunnel.engine.udp import UdpSocket
    from tunnel.wireguard.keypair import Keypair

BATCH = 64
"""Receives after which what is held for joining is written, though more is there to receive."""

SINGLES = 8
"""Datagrams one by one after which no trains are expected: one buffer costs a receive less than many."""

TRAIN = 65_536
"""Bytes that a receive may give."""

_HANDSHAKES = (INITIATION, RESPONSE, COOKIE_REPLY)
_word = Struct("<I")
_two_words = Struct("<II")
_GSO_KINDS = (GSO_NONE, GSO_TCPV4, GSO_TCPV6)
_REFUSED = frozenset({errno.EIO, errno.EINVAL, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EPROTO, errno.E2BIG})
"""Errors of a write to TUN that concern its packet, or a device that is down."""


class Layout:
    """Buffers that a receive scatters into; `lead` is what stands before a part's frame header."""

    def __init__(self, lead: int | None) -> None:
        self.lead = lead or 0
        self.head = head = self.lead + HEADER
        self.stride = head + PAYLOAD
        if lead is None:
            self.stride = TRAIN
            self.payloads = memoryview(bytearray(TRAIN))
            self.headers = memoryview(bytearray())
            self.buffers = [self.payloads]
            return
        slots = -(-TRAIN // self.stride)
        self.payloads = memoryview(bytearray(head + slots * PAYLOAD))
        """The first header, then the payloads of all parts in one piece."""
        self.headers = memoryview(bytearray(slots * head))
        """The other parts' headers, at their places."""
        self.buffers = [self.payloads[: self.stride]]
        for slot in range(1, slots):
            self.buffers += [self.headers[slot * head : (slot + 1) * head], self.payload(slot, slot + 1)]

    def payload(self, slot: int, stop: int) -> memoryview:
        """The payloads of parts `slot` to before `stop`, full size."""
        return self.payloads[self.head + slot * PAYLOAD : self.head + stop * PAYLOAD]

    def gather(self, length: int, flat: memoryview) -> None:
        """Copy what was received to `flat`, in one piece."""
        at = 0
        for buffer in self.buffers:
            size = min(len(buffer), length - at)
            flat[at : at + size] = buffer[:size]
            at += size
            if at >= length:
                return

    def scatter(self, flat: memoryview) -> None:
        """Copy to here what was received in one piece."""
        at = 0
        for buffer in self.buffers:
            size = min(len(buffer), len(flat) - at)
            buffer[:size] = flat[at : at + size]
            at += size
            if at >= len(flat):
                return


class Receiver:
    """The receiving thread and its buffers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._flat = Layout(None)
        self._framed = {HEADER + PAYLOAD: Layout(0), HEADER + PAYLOAD + CHANNEL_HEADER: Layout(CHANNEL_HEADER)}
        self._layout = self._flat
        self._singles = 0  # datagrams that came one by one since the last train
        self._reassembly = Reassembly()
        self._joiner = Joiner(self._write)
        self._source: tuple[str, int] = ("", 0)
        self._now = 0.0

    def receive(self, udp: UdpSocket, flags: int) -> int:
        """Deliver what is there, and more while something is held; gives the most bytes that one receive gave.

        `flags` are those of the first receive, which waits without MSG_DONTWAIT.
        """
        receive, joiner = udp.socket.recvmsg_into, self._joiner
        largest = 0
        for _ in range(BATCH):
            try:
                length, ancillary, _, source = receive(self._layout.buffers, ANCILLARY, flags)
            except OSError as error:
                if udp is self._state.udp and error.errno in (errno.EBADF, errno.ENOTSOCK):
                    raise
                break  # nothing is there, or an earlier send's error, or the socket was replaced
            if length:
                largest = max(largest, length)
                self.train(length, train_segment(ancillary, length), source[:2])
            if not joiner.holds:
                break
            flags = socket.MSG_DONTWAIT
        joiner.flush()
        return largest

    @property
    def buffers(self) -> list[memoryview]:
        """Where the next train is to be put."""
        return self._layout.buffers

    def train(self, length: int, size: int, source: tuple[str, int]) -> None:
        """Deliver `length` bytes of datagrams, each of `size` bytes but the last, that were put into `buffers`.

        The last of what they carry may be held for joining until the end of the batch.
        """
        self._source = source
        self._now = monotonic()
        layout = self._layout
        first = layout.payloads
        if length == size and length <= layout.stride:
            self._singles += 1
            if self._singles == SINGLES:
                self._layout = self._flat
            self._datagram(first[:length])
            return
        self._singles = 0
        kind = first[0] if length > CHANNEL_HEADER else 0
        if kind == CHANNEL and size > CHANNEL_HEADER:
            kind = first[CHANNEL_HEADER]
        framed = self._framed.get(size) if kind == FRAME and length > size else None
        if framed is not None:
            if framed is not layout:
                flat = self._flat.payloads
                if layout is not self._flat:
                    layout.gather(length, flat)
                framed.scatter(flat[:length])
                self._layout = framed
            self._frames(framed, length)
        else:
            if length > layout.stride:
                layout.gather(length, self._flat.payloads)
                layout = self._layout = self._flat
            flat = layout.payloads
            for at in range(0, length, size):
                self._datagram(flat[at : min(at + size, length)])

    def _frames(self, layout: Layout, length: int) -> None:
        """A train of parts in a scattered layout: whole frames are opened where they lie."""
        stride, head, lead = layout.stride, layout.head, layout.lead
        slots = -(-length // stride)
        layout.headers[:head] = layout.payloads[:head]
        headers, unpack, keys = layout.headers, header.unpack_from, _two_words.unpack_from
        slot = 0
        while slot < slots:
            at = slot * head
            kind, parts, part, reserved, index, counter = unpack(headers, at + lead)
            last = slot + parts - 1
            if kind != FRAME or reserved or (lead and headers[at] != CHANNEL):
                self._datagram(self._copy(layout, slot, length))
                slot += 1
                continue
            channel = keys(headers, at)[1] if lead else 0
            if not part and parts and last < slots:
                end = last * head
                same = unpack(headers, end + lead) == (FRAME, parts, parts - 1, 0, index, counter)
                if same and (not lead or keys(headers, end) == (CHANNEL, channel)):
                    stop = head + (last + 1) * PAYLOAD if last + 1 < slots else length - last * head
                    self._frame(index, counter, layout.payloads[head + slot * PAYLOAD : stop], channel)
                    slot = last + 1
                    continue
            stop = head + (slot + 1) * PAYLOAD if slot + 1 < slots else length - slot * head
            self._part(index, counter, parts, part, layout.payloads[head + slot * PAYLOAD : stop], channel)
            slot += 1

    def _copy(self, layout: Layout, slot: int, length: int) -> memoryview:
        """One datagram of a scattered train, in one piece."""
        size = min(layout.stride, length - slot * layout.stride)
        flat, head = self._flat.payloads, layout.head
        flat[:head] = layout.headers[slot * head : (slot + 1) * head]
        flat[head:size] = layout.payloads[head + slot * PAYLOAD : slot * PAYLOAD + size]
        return flat[:size]

    def _datagram(self, datagram: memoryview) -> None:
        channel = 0
        size = len(datagram)
        if size < HEADER:
            return
        (kind,) = _word.unpack_from(datagram)
        if kind == CHANNEL:
            (channel,) = _word.unpack_from(datagram, 4)
            size -= CHANNEL_HEADER
            if size < HEADER or not channel:
                return
            datagram = datagram[CHANNEL_HEADER:]
            (kind,) = _word.unpack_from(datagram)
        if kind == DATA:
            self._data(datagram, channel)
        elif kind & 0xFF == FRAME and kind < 1 << 24:
            _, parts, part, _, index, counter = header.unpack_from(datagram)
            self._part(index, counter, parts, part, datagram[HEADER:], channel)
        elif kind in _HANDSHAKES:
            self._state.handshake(datagram, Endpoint(*self._source, channel))

    def _data(self, message: memoryview, channel: int) -> None:
        """A data message: one packet, a message of our own, or a keepalive."""
        device, now = self._state.device, self._now
        _, index, counter = data_header.unpack_from(message)
        keypair = device.keypair(index)
        length = len(message) - DATA_OVERHEAD
        if keypair is None or length < 0 or now >= keypair.expires:
            return
        room = self._joiner.room(length)
        try:
            keypair.receive.decrypt_into(nonce(counter), message[DATA_HEADER:], None, room)
        except InvalidTag:
            return
        if not keypair.replay.accept(counter):
            return
        version = room[0] >> 4 if length else 0
        self._came(keypair, len(message), version != 0, channel)
        if version == 4 and length >= 20:
            packet = int.from_bytes(room[2:4], "big")
            source = room[12:16]
        elif version == 6 and length >= 40:
            packet = int.from_bytes(room[4:6], "big") + 40
            source = room[8:24]
        else:
            if length and not version:
                self._state.session_message(keypair, room)
            return
        if 20 <= packet <= length and device.route(bytes(source)) is keypair.peer:
            self._joiner.take(packet)

    def _part(self, index: int, counter: int, parts: int, part: int, payload: memoryview, channel: int) -> None:
        """One part of a frame, which may be the last to come."""
        keypair = self._state.device.keypair(index)
        if keypair is None or keypair.frames is None or keypair.frames.receiving is None:
            return
        sealed = self._reassembly.add(index, counter, parts, part, payload, self._now)
        if sealed is not None:
            self._frame(index, counter, sealed, channel)

    def _frame(self, index: int, counter: int, sealed: memoryview, channel: int) -> None:
        state, now = self._state, self._now
        keypair = state.device.keypair(index)
        session: Session | None = keypair.frames if keypair else None
        keys = session.receiving if session else None
        length = len(sealed) - TAG
        if (
            keypair is None
            or session is None
            or keys is None
            or now >= keypair.expires
            or not VNET + 20 <= length <= LARGEST
        ):
            return
        opened = self._joiner.frame_room(length)
        try:
            keys.receive.decrypt_into(nonce(counter), sealed, None, opened)
        except InvalidTag:
            return
        if not keys.accept(counter):
            return
        self._came(keypair, len(sealed), True, channel)
        feedback = session.opened(now)
        if feedback is not None:
            state.say(keypair, feedback)
        version = opened[VNET] >> 4
        if version == 4:
            source = bytes(opened[VNET + 12 : VNET + 16])
        elif version == 6 and length >= VNET + 40:
            source = bytes(opened[VNET + 8 : VNET + 24])
        else:
            return
        if opened[0] & ~NEEDS_CSUM or opened[1] not in _GSO_KINDS:
            return
        if state.device.route(source) is keypair.peer:
            self._joiner.take_frame(length)

    def _came(self, keypair: Keypair, size: int, data: bool, channel: int) -> None:
        """Tell the device of an authenticated message."""
        source = Endpoint(*self._source, channel)
        if self._state.device.received(keypair, source, size, data, self._now):
            self._state.confirm(keypair, source, self._now)

    def _write(self, packet: memoryview) -> None:
        try:
            os.write(self._state.tun.fd, packet)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
