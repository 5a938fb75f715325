"""A node inside a bed: a UDP socket like an engine's, the agent's raw socket beside it, the relay's client.

    station.py NUMBER PEER RELAY PORT echo            echoes what comes on the channel, trains whole
    station.py NUMBER PEER RELAY PORT trains SIZE...  sends a train of each size there, prints what came back
    station.py NUMBER PEER RELAY PORT probes COUNT    sends a train and a probe close behind it, that often
    station.py NUMBER PEER RELAY PORT pump SECONDS    sends trains for that long, prints bytes and trains that came back

Keys are made from the small numbers. Prints `up HOST PORT` and `bound CHANNEL` first.
"""

import os
import select
import socket
import struct
import sys
import time
from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tunnel.endpoint import CHANNEL, PROBE, Address
from tunnel.paths.socket import PathSocket
from tunnel.relay.client import Bound, RelayClient, Up

SEGMENT = 1448


def private_of(number: int) -> bytes:
    return bytes([number]) * 32


def key_of(number: int) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_of(number)).public_key().public_bytes_raw()


class Station:
    def __init__(self, number: int, peer: int, relay: Address, port: int) -> None:
        self.relay = relay
        self.peer = key_of(peer)
        self.engine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.engine.bind(("0.0.0.0", port))
        self.engine.setsockopt(17, 104, 1)
        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.engine.setsockopt(socket.SOL_SOCKET, name, 4 << 20)
        self.engine.setblocking(False)
        self.paths = PathSocket(port)
        self.client = RelayClient(relay, private_of(number), os.urandom)
        self.client.want([self.peer])
        self.channel = 0
        self.buffer = bytearray(1 << 16)

    def wait(self, longest: float, sockets: list[int] | None = None) -> None:
        """Run the client, as the agent does, and wait for a datagram (there, if said)."""
        now = time.monotonic()
        due = self.client.deadline()
        if due is None or due <= now:
            self.client.tick(now)
        while self.client.outbox:
            assert self.paths.send(self.client.outbox.popleft(), self.relay)
        while self.client.events:
            match self.client.events.popleft():
                case Up(observed):
                    print("up", *observed, flush=True)
                case Bound(_, channel, True):
                    self.channel = channel
        due = self.client.deadline()
        longest = min(longest, max(0.0, (due or now) - now))
        select.select(sockets or [self.engine.fileno(), self.paths.fileno()], [], [], longest)
        while came := self.paths.receive():
            if came[0][0] == CHANNEL:
                self.probed(*came)
            else:
                self.client.receive(came[0], time.monotonic())

    def probed(self, datagram: bytes, source: Address) -> None:
        print("probe", len(datagram), *source, flush=True)

    def bind(self) -> None:
        """Wait for the channel; what comes on it meanwhile stays queued."""
        while not self.channel:
            self.wait(1, [self.paths.fileno()])
        print("bound", self.channel, flush=True)

    def header(self) -> bytes:
        return struct.pack("<II", CHANNEL, self.channel)

    def train(self, size: int) -> bytes:
        """Bytes of that length, cut into datagrams of SEGMENT that each have the channel header."""
        whole = bytearray(os.urandom(size))
        for at in range(0, size, SEGMENT):
            whole[at : at + 12] = self.header() + b"\x05\0\0\0"
        return bytes(whole)

    def send(self, train: bytes, segment: int = SEGMENT) -> None:
        self.engine.sendmsg(
            [train], [(17, 103, struct.pack("=H", segment))] if len(train) > segment else [], 0, self.relay
        )

    def receive(self) -> tuple[bytes, int]:
        """A train of data (a copy of what is the agent's is dropped, as an engine does), and its segment size."""
        while True:
            try:
                length, ancillary, _, _ = self.engine.recvmsg_into([self.buffer], 64)
            except BlockingIOError:
                self.wait(5)
                continue
            size = int.from_bytes(ancillary[0][2][:4], "little") if ancillary else length
            if self.buffer[0] == CHANNEL and self.buffer[8] != PROBE:
                return bytes(self.buffer[:length]), size


def main() -> None:
    number, peer, relay, port, mode, *rest = sys.argv[1:]
    station = Station(int(number), int(peer), Address(relay, 20006), int(port))
    station.bind()
    if mode == "echo":
        echo(station)
    elif mode == "trains":
        trains(station, [int(size) for size in rest])
    elif mode == "probes":
        probes(station, int(rest[0]))
    elif mode == "pump":
        pump(station, float(rest[0]))


def echo(station: Station) -> None:
    while True:
        station.send(*station.receive())


def trains(station: Station, sizes: list[int]) -> None:
    for size in sizes:
        train = station.train(size)
        station.send(train)
        came, segment = station.receive()
        print(len(came), segment, came == train, flush=True)


def probes(station: Station, count: int) -> None:
    for number in range(count):
        station.send(station.train(14_480))
        probe = station.header() + PROBE.to_bytes(4, "little") + bytes(88 + number)
        station.paths.send(probe, station.relay)


def pump(station: Station, seconds: float) -> None:
    train = station.train(65_478)
    end = time.monotonic() + seconds
    octets = count = sent = 0
    while time.monotonic() < end:
        with suppress(BlockingIOError):
            station.send(train)
            sent += len(train)
        with suppress(BlockingIOError):
            while True:
                octets += station.engine.recv_into(station.buffer)
                count += 1
    print(sent, octets, count, flush=True)


if __name__ == "__main__":
    main()
