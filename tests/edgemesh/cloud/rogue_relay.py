"""A relay in an attacker's hands, by the project's own codecs. It registers whoever asks, and lies as its mode says.

    rogue_relay.py MODE HOST PORT

    claims    passes data on; says of each node that it is seen elsewhere, and of each peer that it is there
    forges    gives what one node sends to all, itself too, on all their channels, with all that can be forged from it;
              and begins handshakes with everybody by a key of its own
    reflects  does the same, but for the one whom it is for
    refuses   registers nobody

Prints `ready`, what it told each node that registered, and once that it has crossed data.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator

from tunnel.endpoint import CHANNEL, CHANNEL_HEADER, DATA, INITIATION, RELAY, Address, channel_header
from tunnel.relay import protocol
from tunnel.relay.protocol import Channels, Entry, Kind, Prove, Sign, State, Unknown, Welcome
from tunnel.relay.server import RelayServer
from tunnel.relay.table import Channel, Node
from tunnel.wireguard import noise
from tunnel.wireguard.cookie import MacWriter
from tunnel.wireguard.messages import INITIATION_SIZE, Initiation, Response, data_header
from tunnel.wireguard.timestamp import Timestamps

ELSEWHERE = (
    Address("203.0.113.1", 6443),
    Address("255.255.255.255", 9),
    Address("127.0.0.1", 22),
    Address("10.222.0.1", 51820),
    Address("198.51.100.1", 0),
    Address("2001:db8::1", 20006),
)
"""Where it says that a node is seen: the cloud, everybody, the node itself, inside the mesh, no port, IPv6."""


class Rogue(RelayServer):
    """Its decisions, of which some are lies."""

    def __init__(self, mode: str) -> None:
        super().__init__(os.urandom(32), os.urandom, lambda _: mode != "refuses")
        self._told = 0
        self._crossed = False
        self._attacker = noise.PrivateKey(os.urandom(32))
        self._timestamps = Timestamps()

    def _entry(self, peer: bytes, channel: Channel | None) -> Entry:
        """Whatever peer is asked for, it is there."""
        return Entry(peer, channel.number, State.PRESENT) if channel else super()._entry(peer, channel)

    def _welcome(self, node: Node, message: Prove, now: float) -> None:
        seen = ELSEWHERE[self._told % len(ELSEWHERE)]
        self._told += 1
        welcome = Welcome(self._number(node), seen, self._bind(node, message.entries, now))
        self.outbox.append((protocol.welcome(welcome, node.keys.relay), node.address))
        print(f"{node.address.host} is told that it is {seen.host} port {seen.port}", flush=True)

    def cross(self, datagram: bytes, kept_from: Address | None, now: float) -> None:
        """Give data to whom it is not for, and forge what belongs to it; one address gets nothing of that."""
        if not self._crossed:
            self._crossed = True
            print("crossed", flush=True)
        inner = datagram[CHANNEL_HEADER:]
        for node in self.table.nodes.values():
            if node.address == kept_from:
                continue
            for channel in node.channels.values():
                head = channel_header.pack(CHANNEL, channel.number)
                self.outbox += [(head + each, node.address) for each in self._forged(inner, node.key, now)]
            self.outbox += [(each, node.address) for each in self._forged_control(node)]

    def _forged(self, inner: bytes, to: bytes, now: float) -> Iterator[bytes]:
        """What a node with that key is sent in place of what another sent: first the datagram as it is."""
        yield from (inner, inner[:-1], inner[:-16] + os.urandom(16), os.urandom(len(inner)), b"", bytes(4))
        secret, stamp = self._attacker.exchange(to), self._timestamps.next(time.time())
        _, begun = noise.initiate(self._attacker, to, secret, os.urandom(32), 7, stamp)
        yield MacWriter(to).write(begun.pack(), now)
        if inner[0] == INITIATION and len(inner) == INITIATION_SIZE:
            own = noise.PrivateKey(os.urandom(32))
            answer = Response(7, Initiation.parse(inner).sender, own.public, os.urandom(16))
            yield MacWriter(to).write(answer.pack(), now)
        if inner[0] == DATA and len(inner) >= data_header.size:
            yield data_header.pack(DATA, data_header.unpack_from(inner)[1], 2**64 - 1) + os.urandom(32)

    def _forged_control(self, node: Node) -> Iterator[bytes]:
        """Messages of the relay's with a MAC that is wrong, and none."""
        wrong, last = os.urandom(32), 2**64 - 1
        entries = tuple(Entry(peer, 1, State.GONE) for peer in (*node.channels, os.urandom(32)))
        yield protocol.channels(Kind.BOUND, Channels(last, entries, update=True), wrong)
        yield protocol.sign(Kind.ALIVE, Sign(last), wrong)
        yield protocol.unknown(Unknown(bytes(8)))
        yield RELAY.to_bytes(4, "little") + os.urandom(60)


def main(mode: str, host: str, port: int) -> None:
    rogue = Rogue(mode)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        sock.settimeout(0.05)
        print("ready", flush=True)
        while True:
            now = time.monotonic()
            try:
                datagram, address = sock.recvfrom(1 << 16)
            except TimeoutError:
                rogue.tick(now)
            else:
                source = Address(*address)
                data = datagram[:1] == bytes([CHANNEL]) and len(datagram) > CHANNEL_HEADER
                route = rogue.table.routes.get((source, int.from_bytes(datagram[4:8], "little"))) if data else None
                if route and mode == "claims":
                    sock.sendto(datagram, route.to)
                elif data and source in rogue.table.by_address:
                    rogue.cross(datagram, route.to if route and mode == "reflects" else None, now)
                else:
                    rogue.receive(datagram, source, now)
            while rogue.outbox:
                sock.sendto(*rogue.outbox.popleft())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
