"""A sender of nothing but trouble: datagrams of one kind, at a WireGuard or a relay port, with any source it likes.

    python -m tests.hostile.flood KIND COUNT RATE SOURCE:PORT TARGET:PORT [PUBLIC_KEY] [INDEX...]

Sends COUNT datagrams, at most RATE a second (0: as fast as it can), and prints how many a second that were. The key
(hex) is the receiver's, for right mac1s; the indices are its sessions', for frames and data that look like theirs.
Templates are made once, from a fixed seed, and sent in turn from a raw socket.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Callable
from hashlib import blake2s
from struct import pack

from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from tunnel.endpoint import CHANNEL, FRAME, PROBE, RELAY, STUN_COOKIE

TEMPLATES = 2048
BATCH = 64

chance = random.Random(8)
some = chance.randbytes


class Target:
    """What is known of the receiver."""

    def __init__(self, key: bytes, indices: list[int]) -> None:
        self.mac1 = blake2s(b"mac1----" + key).digest()
        self.indices = indices or [1]

    def index(self) -> int:
        return chance.choice(self.indices)

    def with_macs(self, message: bytes) -> bytes:
        """A handshake message with a right mac1, and none or a random mac2."""
        mac1 = blake2s(message, key=self.mac1, digest_size=16).digest()
        return message + mac1 + chance.choice((bytes(16), some(16)))


def short(target: Target) -> bytes:
    return pack("<I", chance.randrange(10))[: chance.randrange(5)] + some(chance.randrange(20))


def noise(target: Target) -> bytes:
    return some(chance.randrange(1, 1400))


def frames(target: Target) -> bytes:
    parts = chance.choice((0, 1, 2, 47, 255))
    head = FRAME, parts, chance.randrange(256), chance.randrange(10) // 9, target.index(), chance.getrandbits(64)
    return pack("<BBBBIQ", *head) + some(chance.choice((0, 1, 100, 1424)))


def parts(target: Target) -> bytes:
    """Parts of frames that never become whole."""
    return pack("<BBBBIQ", FRAME, 47, chance.randrange(47), 0, target.index(), chance.getrandbits(20)) + some(1424)


def data(target: Target) -> bytes:
    counter = chance.choice((chance.getrandbits(64), chance.getrandbits(16)))
    return pack("<IIQ", 4, target.index(), counter) + some(chance.choice((0, 15, 16, 1400)))


def initiations(target: Target) -> bytes:
    return target.with_macs(pack("<II", 1, chance.getrandbits(32)) + some(108))


def responses(target: Target) -> bytes:
    return target.with_macs(pack("<III", 2, chance.getrandbits(32), target.index()) + some(48))


def cookies(target: Target) -> bytes:
    return pack("<II", 3, target.index()) + some(56)


def stun(target: Target) -> bytes:
    return pack("!HHI", 1, chance.choice((0, 8)), STUN_COOKIE) + some(12) + some(chance.choice((0, 8)))


def probes(target: Target) -> bytes:
    return pack("<I", PROBE) + some(chance.choice((0, 8, 20, 60, 100)))


def channels(target: Target) -> bytes:
    return pack("<II", CHANNEL, chance.getrandbits(32)) + chance.choice((short, frames, data, initiations))(target)


def greetings(target: Target) -> bytes:
    return pack("<IBBBB", RELAY, 1, 1, 0, 0) + some(72)


def relaying(target: Target) -> bytes:
    """Any message to a relay, of right and of wrong lengths."""
    count = chance.choice((0, 1, 2, 200))
    head = pack("<IBBBB", RELAY, chance.randrange(13), chance.choice((1, 1, 1, 2)), count, chance.randrange(8))
    return head + some(chance.choice((0, 8, 16, 24, 32, 72, 88, 128, 1100)))


KINDS: dict[str, Callable[[Target], bytes]] = {
    each.__name__: each
    for each in (
        short,
        noise,
        frames,
        parts,
        data,
        initiations,
        responses,
        cookies,
        stun,
        probes,
        channels,
        greetings,
        relaying,
    )
}


def main(kind: str, count: int, rate: float, source: str, target: str, key: str = "", *indices: str) -> None:
    host, port = target.split(":")
    from_host, from_port = source.split(":")
    known = Target(bytes.fromhex(key), [int(index) for index in indices])
    head = IP(src=from_host, dst=host) / UDP(sport=int(from_port), dport=int(port))
    packets = [bytes(head / Raw(KINDS[kind](known))) for _ in range(TEMPLATES)]
    began = time.monotonic()
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        while sent < count:
            at = sent % TEMPLATES
            for packet in packets[at : at + BATCH]:
                sock.sendto(packet, (host, 0))
            sent += BATCH
            if rate and (ahead := began + sent / rate - time.monotonic()) > 0:
                time.sleep(ahead)
    print(f"{sent / (time.monotonic() - began):.0f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])
