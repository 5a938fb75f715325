"""From TUN to UDP: reads packets and segments, finds the peer, seals, sends.

A single packet goes as a standard data message. A segment goes as frames where the session has them, else it is cut
into packets. One read, one AEAD and one send for a 64 KB segment is what the speed comes from.

Single packets that TUN has ready one after the other, go to one endpoint and are of one size when sealed leave as one
train: acknowledgements and the beginnings and ends of connections, of which a busy node has many. The network's layers,
here and on the way, then walk once for all of them.

Invariants: packets leave in the order they came; what is held leaves before anything is waited for; no lock is taken
for a packet whose peer has a session; packets of a peer without one are kept up to STAGED_PACKETS and, for all peers,
STAGED_BYTES, the oldest going first.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, DATA, channel_header
from tunnel.engine.frames import TAG, Sealer
from tunnel.engine.segments import cut, finish, split
from tunnel.engine.tun import LARGEST, MTU, VNET
from tunnel.trains import LARGEST_SEND, LARGEST_TRAIN, segment_size
from tunnel.wireguard.keypair import nonce
from tunnel.wireguard.messages import DATA_HEADER, DATA_OVERHEAD, data_header

if TYPE_CHECKING:
    from tunnel.endpoint import Endpoint
    from tunnel.engine.frames import FrameKeys
    from tunnel.engine.session import Session
    from tunnel.engine.state import State
    from tunnel.wireguard.keypair import Keypair
    from tunnel.wireguard.peer import Peer

STAGED_PACKETS = 128
"""Packets and segments that wait for one peer's handshake."""

STAGED_BYTES = 1 << 20
"""Bytes that wait for all handshakes."""

_PADDING = 16
_ZEROS = bytes(_PADDING)


class Staged:
    """Packets that wait for a session, with their virtio-net headers. To be used under the state's lock."""

    def __init__(self) -> None:
        self._waiting: dict[Peer, deque[bytes]] = {}
        self.size = 0

    def add(self, peer: Peer, packet: bytes) -> None:
        """Keep a packet; the peer's oldest, then that of whoever waits longest, makes room."""
        queue = self._waiting.setdefault(peer, deque())
        queue.append(packet)
        self.size += len(packet)
        if len(queue) > STAGED_PACKETS:
            self.size -= len(queue.popleft())
        while self.size > STAGED_BYTES:
            longest = next(iter(self._waiting))
            self.size -= len(self._waiting[longest].popleft())
            if not self._waiting[longest]:
                del self._waiting[longest]

    def take(self, peer: Peer) -> deque[bytes]:
        """All that waits for a peer, oldest first; it waits no more."""
        queue = self._waiting.pop(peer, deque())
        self.size -= sum(map(len, queue))
        return queue

    def keep_only(self, peers: set[Peer]) -> None:
        """Drop what waits for peers that are gone."""
        for peer in self._waiting.keys() - peers:
            self.take(peer)


class Transmitter:
    """Seals and sends, with buffers of its own: one for each thread that does so."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sealer = Sealer()
        self._packet = bytearray(VNET + LARGEST)
        self._packet_view = memoryview(self._packet)
        self._train = bytearray(LARGEST_SEND)
        self._train_view = memoryview(self._train)
        self._held: Endpoint | None = None  # where the train of single packets that is held goes to
        self._end = 0  # of that train
        self._size = 0  # of each of its messages
        self.data = bytearray(LARGEST + _PADDING)
        """Where a packet is put for `forward`, its virtio-net header first."""
        self._view = memoryview(self.data)
        self._into = [self._view[:LARGEST]]

    def transmit(self, flags: int) -> int:
        """Read from TUN and forward, single packets until none is ready; gives the most bytes that one read gave.

        `flags` are those of the first read, which waits without RWF_NOWAIT.
        """
        forward, fd, into = self.forward, self._state.tun.fd, self._into
        largest = reads = 0
        try:
            while reads < LARGEST_TRAIN and (not reads or self._held is not None):
                largest = max(largest, end := os.preadv(fd, into, -1, os.RWF_NOWAIT if reads else flags))
                forward(end)
                reads += 1
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP and not reads:  # before Linux 5.11; something is there, `poll` said
                forward(largest := os.preadv(fd, into, -1, 0))
            elif error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
        self.flush()
        return largest

    def flush(self) -> None:
        """Send what is held."""
        held = self._held
        if held is None:
            return
        self._held = None
        end, size = self._end, self._size
        self._state.udp.send((self._train_view[:end],), held[:2], segment_size(size) if end > size else None)

    def forward(self, end: int) -> None:
        """Send what is in `data[:end]` to the peer its destination belongs to; without one it is dropped.

        A single packet may be held, until the next or `flush`.
        """
        data, state = self.data, self._state
        version = data[VNET] >> 4
        if version == 4:
            destination = bytes(data[VNET + 16 : VNET + 20])
        elif version == 6:
            destination = bytes(data[VNET + 24 : VNET + 40])
        else:
            return
        peer = state.device.route(destination)
        if peer is None:
            return
        now = monotonic()
        keypair = peer.sending(now)
        if keypair is None:
            state.stage(peer, bytes(self._view[:end]))
            return
        endpoint = peer.endpoint
        if endpoint is None:
            return
        if not data[1]:
            finish(data, end)
            sent = self._hold_packet(keypair, endpoint, end)
        else:
            self.flush()
            session: Session | None = keypair.frames
            keys = session.sending if session else None
            if session is None or keys is None:
                sent, _ = self._send_cut(keypair, endpoint, end)
            else:
                if (share := session.size.packets(data)) > 1:
                    sent = self._send_frames(keys, endpoint, end, share)
                else:
                    sent, packets = self._send_cut(keypair, endpoint, end)
                    keys.sent += packets
                session.size.progress(keys.sent)
        if state.device.sent(peer, keypair, sent, True, now):
            state.initiate(peer)

    def _hold_packet(self, keypair: Keypair, endpoint: Endpoint, end: int) -> int:
        """One data message, padded to a multiple of 16 as far as the MTU allows (whitepaper 5.4.6), into the train."""
        padded = VNET + _padded(end - VNET)
        self.data[end:padded] = _ZEROS[: padded - end]
        size = padded - VNET + DATA_OVERHEAD + (CHANNEL_HEADER if endpoint.channel else 0)
        if self._held is not None and (endpoint != self._held or size > self._size or self._end + size > LARGEST_SEND):
            self.flush()
        if self._held is None:
            self._held, self._size, self._end = endpoint, size, 0
        self._end = self._seal(keypair, endpoint.channel, self._view[VNET:padded], self._end)
        if size < self._size or self._end >= size * LARGEST_TRAIN:
            self.flush()  # only the last of a train may be shorter
        return size

    def _send_cut(self, keypair: Keypair, endpoint: Endpoint, end: int) -> tuple[int, int]:
        """A segment as data messages of single packets, in trains; all messages but the last are of one size.

        Gives bytes and packets sent.
        """
        packet, udp, address = self._packet, self._state.udp, endpoint[:2]
        at = total = packets = stride = count = 0
        for length in cut(self.data, end, packet):
            padded = _padded(length)
            packet[length:padded] = _ZEROS[: padded - length]
            after = self._seal(keypair, endpoint.channel, self._packet_view[:padded], at)
            stride = stride or after
            at = after
            count += 1
            packets += 1
            if count == LARGEST_TRAIN or at + stride > LARGEST_SEND:
                udp.send((self._train_view[:at],), address, segment_size(stride))
                total += at
                at = stride = count = 0
        if at:
            udp.send((self._train_view[:at],), address, segment_size(stride) if count > 1 else None)
        return total + at, packets

    def _send_frames(self, keys: FrameKeys, endpoint: Endpoint, end: int, share: int) -> int:
        """A segment as frames of about `share` packets."""
        udp, address = self._state.udp, endpoint[:2]
        seal, view, channel = self._sealer.seal, self._view, endpoint.channel
        total = 0
        for start, stop in split(self.data, end, share):
            total += stop - start + TAG
            for vector, size in seal(keys, view[start:stop], channel):
                udp.send(vector, address, size)
        return total

    def _seal(self, keypair: Keypair, channel: int, packet: memoryview, at: int) -> int:
        """Put a data message into the train at `at`; gives where it ends."""
        train = self._train
        if channel:
            channel_header.pack_into(train, at, CHANNEL, channel)
            at += CHANNEL_HEADER
        counter = keypair.next_counter()
        data_header.pack_into(train, at, DATA, keypair.remote_index, counter)
        end = at + len(packet) + DATA_OVERHEAD
        keypair.send.encrypt_into(nonce(counter), packet, None, self._train_view[at + DATA_HEADER : end])
        return end


def _padded(length: int) -> int:
    rounded = -(-length // _PADDING) * _PADDING
    return rounded if rounded <= MTU else max(length, MTU)
