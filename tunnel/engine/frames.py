"""Whole-segment frames between two engines of ours: what TUN hands over, sealed once, sent as a train of datagrams.

    byte 0     1      2      3    4 .. 7           8 .. 15
         5     parts  part   0    receiver index   counter      little-endian; then this part's payload

The plaintext is a virtio-net header and a packet or segment, the AEAD's nonce the counter, its key the session's own
for frames and direction (`Keypair.derive`): counters are never shared with data messages. All parts but the last
carry PAYLOAD bytes, so that a train is one send (UDP_SEGMENT) and mostly one receive (UDP_GRO). To and from relays
each datagram has 8 bytes of channel header more (`tunnel.endpoint.CHANNEL`).

Sizes: at MTU 1420 a TCP segment is at most 47 x 1,368 + 52 = 64,348 bytes; with virtio-net header and tag 64,374, in
46 parts; with 46 headers of 16 bytes 65,110, of 24 bytes 65,478: one send, whose limit is 65,507.

Invariants: part numbers are not authenticated, but wrong ones only make a frame that fails to open; what parts
arrive alone are kept is bounded by PARTIAL_FRAMES and PARTIAL_AGE; nothing is allocated for a frame but views.
"""

from __future__ import annotations

from array import array
from itertools import count
from struct import Struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, FRAME, channel_header
from tunnel.engine.tun import LARGEST
from tunnel.trains import LARGEST_SEND, SegmentSize, segment_size
from tunnel.wireguard.keypair import REJECT_AFTER_MESSAGES, nonce
from tunnel.wireguard.replay import Replay

HEADER = 16
TAG = 16
DATAGRAM = 1440
"""Bytes of a full part with its header; 1,468 on the wire, over a relay 1,476."""

PAYLOAD = DATAGRAM - HEADER
MAX_PARTS = -(-(LARGEST + TAG) // PAYLOAD)
"""Parts of the largest frame (47); more is malformed."""

PARTIAL_FRAMES = 16
"""Frames of which some parts have come, of all sessions together; the oldest goes when another begins."""

PARTIAL_AGE = 0.25
"""Seconds after which the rest of a frame is no longer waited for."""

header = Struct("<BBBBIQ")
"""FRAME, parts, part, 0, receiver index, counter."""

Aead = AESGCM | ChaCha20Poly1305


class FrameKeys:
    """One session's sealing and opening of frames. Receiving members are the receiving thread's alone; any thread may
    seal (`sent` may then miss a count)."""

    __slots__ = ("_counters", "completed", "highest", "receive", "remote_index", "replay", "send", "sent")

    def __init__(self, send: Aead, receive: Aead, remote_index: int) -> None:
        self.send = send
        self.receive = receive
        self.remote_index = array("I", [remote_index]) * MAX_PARTS
        self._counters = count()
        self.sent = 0
        """Datagrams that segments went out in: parts of frames, and data messages while frames would be too large."""
        self.replay = Replay()
        self.highest = 0
        """Counters up to the highest that was opened: those that should have come."""
        self.completed = 0
        """Frames that were opened."""

    def next_counter(self) -> int:
        """A counter for one frame; raises OverflowError after 2^64 - 2^13 - 1, as for data messages."""
        counter = next(self._counters)
        if counter >= REJECT_AFTER_MESSAGES:
            raise OverflowError("frame counters are used up")
        return counter

    def accept(self, counter: int) -> bool:
        """Take the counter of a frame that was opened; False when it came before or is too old."""
        if not self.replay.accept(counter):
            return False
        self.completed += 1
        if counter >= self.highest:
            self.highest = counter + 1
        return True


class Sealer:
    """Makes trains of frames in buffers of its own; what `seal` gives is valid until its next call."""

    def __init__(self) -> None:
        self._sealed = memoryview(bytearray(MAX_PARTS * PAYLOAD))
        self._direct = _Headers(self._sealed, HEADER)
        self._relayed = _Headers(self._sealed, HEADER + CHANNEL_HEADER)

    def seal(
        self, keys: FrameKeys, packet: memoryview, channel: int
    ) -> list[tuple[list[memoryview], SegmentSize | None]]:
        """Seal a virtio-net header with its packet; gives one send, or two where it is too large for one: buffers
        and the size to cut at (None: a single datagram)."""
        counter = keys.next_counter()
        length = len(packet) + TAG
        sealed = self._sealed
        keys.send.encrypt_into(nonce(counter), packet, None, sealed[:length])
        parts = -(-length // PAYLOAD)
        keys.sent += parts
        headers = self._relayed if channel else self._direct
        headers.write(parts, keys.remote_index, counter, channel)
        vector = headers.vector[: 2 * parts]
        vector[-1] = sealed[(parts - 1) * PAYLOAD : length]
        if parts == 1:
            return [(vector, None)]
        if length + parts * headers.size <= LARGEST_SEND:
            return [(vector, headers.cut)]
        half = parts // 2
        return [(vector[: 2 * half], headers.cut), (vector[2 * half :], headers.cut)]


class _Headers:
    """Headers of one frame's parts, and the vector of buffers that interleaves them with the payload.

    The fields that change are written with strides, all parts at once: a tenth of the time of packing each.
    """

    def __init__(self, sealed: memoryview, size: int) -> None:
        self.size = size
        self.cut = segment_size(size + PAYLOAD)
        self._bytes = memoryview(bytearray(MAX_PARTS * size))
        self._words = self._bytes.cast("I")
        self._longs = self._bytes.cast("Q")
        self._templates: dict[int, bytes] = {}
        self.vector: list[memoryview] = []
        for part in range(MAX_PARTS):
            self.vector.append(self._bytes[part * size : (part + 1) * size])
            self.vector.append(sealed[part * PAYLOAD : (part + 1) * PAYLOAD])

    def write(self, parts: int, remote_index: array[int], counter: int, channel: int) -> None:
        template = self._templates.get(parts)
        if template is None:
            lead = channel_header.pack(CHANNEL, 0) if channel else b""
            template = b"".join(lead + header.pack(FRAME, parts, part, 0, 0, 0) for part in range(parts))
            self._templates[parts] = template
        self._bytes[: parts * self.size] = template
        step = self.size // 4
        words = self._words
        words[step - 3 : parts * step : step] = memoryview(remote_index)[:parts]
        self._longs[step // 2 - 1 : parts * step // 2 : step // 2] = memoryview(array("Q", (counter,)) * parts)
        if channel:
            words[1 : parts * step : step] = memoryview(array("I", (channel,)) * parts)


class _Partial:
    """A frame of which some parts have come; `have` is a bit a part."""

    __slots__ = ("data", "have", "length", "parts", "since")

    def __init__(self, data: memoryview, parts: int, now: float) -> None:
        self.data = data
        self.parts = parts
        self.have = 0
        self.length = 0
        self.since = now


class Reassembly:
    """Puts frames together whose parts arrive apart, of all sessions; the receiving thread's alone."""

    def __init__(self) -> None:
        self._partial: dict[tuple[int, int], _Partial] = {}
        self._free: list[memoryview] = []

    def __len__(self) -> int:
        """Frames that are waited for."""
        return len(self._partial)

    def add(
        self, index: int, counter: int, parts: int, part: int, payload: memoryview, now: float
    ) -> memoryview | None:
        """Keep one part; gives the sealed frame when it was the last to come, valid until the next call.

        Parts of the wrong length, that contradict those before, or that came before are dropped.
        """
        size = len(payload)
        last = part == parts - 1
        if not (part < parts <= MAX_PARTS) or not (size == PAYLOAD or (last and 0 < size <= PAYLOAD)):
            return None
        if parts == 1:
            return payload
        key = (index, counter)
        partial = self._partial.get(key)
        if partial is None:
            partial = self._begin(key, parts, now)
        if partial.parts != parts or partial.have >> part & 1:
            return None
        at = part * PAYLOAD
        partial.data[at : at + size] = payload
        partial.have |= 1 << part
        if last:
            partial.length = at + size
        if partial.have != (1 << parts) - 1:
            return None
        del self._partial[key]
        self._free.append(partial.data)
        return partial.data[: partial.length]

    def _begin(self, key: tuple[int, int], parts: int, now: float) -> _Partial:
        """Room for a new frame; those that are too old go, and the oldest when there are too many."""
        while self._partial:
            oldest = next(iter(self._partial))
            if len(self._partial) < PARTIAL_FRAMES and now - self._partial[oldest].since <= PARTIAL_AGE:
                break
            self._free.append(self._partial.pop(oldest).data)
        data = self._free.pop() if self._free else memoryview(bytearray(MAX_PARTS * PAYLOAD))
        partial = self._partial[key] = _Partial(data, parts, now)
        return partial
