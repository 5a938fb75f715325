"""The real loop: on loopback, and between two hosts behind NATs."""

import os
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import pytest
import trio
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.tunnel.bed import PUBLIC, Net, line, python, receive_offload
from tests.tunnel.relay.station import key_of, private_of
from tunnel.endpoint import CHANNEL, Address
from tunnel.relay.client import Bound, RelayClient
from tunnel.relay.forward import Relay, RelayError, Traffic, _Passing
from tunnel.relay.server import RelayServer

STATION = "tests.tunnel.relay.station"


class Node:
    """A node on loopback with one socket for all."""

    def __init__(self, number: int, relay: Address) -> None:
        plain = socket.socket(socket.AF_INET6 if ":" in relay.host else socket.AF_INET, socket.SOCK_DGRAM)
        plain.bind((relay.host, 0))
        self.socket = trio.socket.from_stdlib_socket(plain)
        self.relay = relay
        self.key = key_of(number)
        self.client = RelayClient(relay, private_of(number), os.urandom)
        self.channels: dict[bytes, int] = {}

    async def bind(self, *peers: bytes) -> None:
        """Run the client until all of these are there."""
        self.client.want(peers)
        while set(self.channels) != set(peers):
            self.client.tick(trio.current_time())
            while self.client.outbox:
                await self.socket.sendto(self.client.outbox.popleft(), self.relay)
            with trio.move_on_after(0.05):
                self.client.receive(await self.socket.recv(2048), trio.current_time())
            while self.client.events:
                match self.client.events.popleft():
                    case Bound(peer, channel, True):
                        self.channels[peer] = channel

    def data(self, peer: bytes, content: bytes) -> bytes:
        return struct.pack("<II", CHANNEL, self.channels[peer]) + content

    async def train(self, *datagrams: bytes) -> None:
        size = struct.pack("=H", len(datagrams[0]))
        await self.socket.sendmsg([b"".join(datagrams)], [(17, 103, size)], 0, self.relay)

    async def got(self, count: int) -> list[bytes]:
        """The contents of that many datagrams of data."""
        found: list[bytes] = []
        with trio.fail_after(5):
            while len(found) < count:
                datagram = await self.socket.recv(1 << 16)
                if datagram[0] == CHANNEL:
                    found.append(datagram[8:])
        return found


def with_relay(test: Callable[[Relay, Callable[[int], Node]], Awaitable[None]], host: str = "127.0.0.1") -> None:
    """Run a test with a relay, and a way to make nodes of it that are closed in the end."""

    async def main() -> None:
        relay = Relay()
        async with trio.open_nursery() as nursery:
            address = await nursery.start(lambda task_status: relay.run(Address(host, 0), task_status=task_status))
            with trio.fail_after(20), ExitStack() as stack:

                def node(number: int) -> Node:
                    made = Node(number, address)
                    stack.enter_context(made.socket)
                    return made

                await test(relay, node)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_mixed_train_is_cut_where_it_changes() -> None:
    async def test(relay: Relay, node: Callable[[int], Node]) -> None:
        a, b, c = (node(number) for number in (1, 2, 3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.bind, b.key, c.key)
            nursery.start_soon(b.bind, a.key)
            nursery.start_soon(c.bind, a.key)
        before = relay.status().traffic.trains
        to_b = [a.data(b.key, bytes([number]) * 92) for number in range(4)]
        to_c = [a.data(c.key, bytes([number]) * 92) for number in range(4, 6)]
        nowhere = struct.pack("<II", CHANNEL, 12345) + bytes(92)
        noise = bytes(100)
        await a.train(*to_b[:2], *to_c, nowhere, noise, *to_b[2:], a.data(b.key, b"short"))
        assert await b.got(5) == [bytes([number]) * 92 for number in range(4)] + [b"short"]
        assert await c.got(2) == [bytes([number]) * 92 for number in range(4, 6)]
        status = relay.status()
        assert status.traffic.trains == before + 3
        assert status.counts.strangers == 1
        assert status.counts.malformed == 1
        assert status.nodes == 3

    with_relay(test)


def test_a_train_that_ends_in_a_scrap() -> None:
    async def test(relay: Relay, node: Callable[[int], Node]) -> None:
        a, b = node(1), node(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.bind, b.key)
            nursery.start_soon(b.bind, a.key)
        for length in range(1, 9):
            await a.train(a.data(b.key, b"whole " * 10), b"\x06\0\0\0\xff\xff\xff\xff"[:length])
            assert await b.got(1) == [b"whole " * 10]
        assert relay.status().counts.malformed == 7

    with_relay(test)


@given(
    st.sampled_from([8, 9, 12, 16, 100, 1447, 1448, 1460]) | st.integers(8, 1500),
    st.integers(1, 64),
    st.integers(1, 1500),
    st.lists(st.tuples(st.integers(0, 63), st.integers(0, 7)), max_size=2),
)
def test_one_channel_against_a_plain_look(size: int, count: int, last: int, changes: list[tuple[int, int]]) -> None:
    length = (count - 1) * size + min(last, size)
    assume(length <= 65_507)
    train = bytearray((b"\x06\0\0\0chan" + bytes(size - 8)) * count)[:length]
    for number, at in changes:
        if number * size + at < length:
            train[number * size + at] ^= 0x55
    heads = [bytes(train[at : at + 8]) for at in range(0, length, size)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        passing = _Passing(sock, Traffic(), RelayServer(bytes(32), os.urandom), threading.Lock())
        passing._buffer[:length] = train
        assert passing._one_channel(length, size) == (len(set(heads)) == 1 and len(heads[-1]) == 8)


def test_a_flood_of_junk_leaves_data_alone() -> None:
    async def test(relay: Relay, node: Callable[[int], Node]) -> None:
        a, b, stranger = node(1), node(2), node(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.bind, b.key)
            nursery.start_soon(b.bind, a.key)
        noise = random.Random(1)
        kinds = [b"", b"\x08\0\0\0", b"\x08\0\0\0\x01\x01\0\0", b"\x08\0\0\0\x03\x01\0\0", b"\x06\0\0\0"]
        for number in range(5000):
            junk = noise.choice(kinds) + noise.randbytes(noise.choice([0, 4, 24, 72, 88, 1000]))
            await stranger.socket.sendto(junk, a.relay)
            if number % 100 == 0:
                await a.socket.sendto(a.data(b.key, bytes([number // 100])), a.relay)
                assert await b.got(1) == [bytes([number // 100])]
        assert relay.status().nodes == 2

    with_relay(test)


def test_ipv6() -> None:
    async def test(relay: Relay, node: Callable[[int], Node]) -> None:
        a, b = node(1), node(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.bind, b.key)
            nursery.start_soon(b.bind, a.key)
        assert a.client.observed == Address("::1", a.socket.getsockname()[1])
        await a.train(*[a.data(b.key, bytes(100))] * 3)
        assert await b.got(1) == [bytes(100)]

    with_relay(test, "::1")


def test_unroutable_destinations_are_counted_and_harm_nobody() -> None:
    async def test(relay: Relay, node: Callable[[int], Node]) -> None:
        a, b = node(1), node(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.bind, b.key)
            nursery.start_soon(b.bind, a.key)
        route = relay._server.table.routes[Address(*a.socket.getsockname()), a.channels[b.key]]
        there, route.to = route.to, Address("240.0.0.1", 9)
        await a.train(*[a.data(b.key, bytes(100))] * 10)
        await a.socket.sendto(a.data(b.key, bytes(100)), a.relay)
        with trio.fail_after(5):
            while relay.status().traffic.unreachable < 11:  # noqa: ASYNC110 - a counter, told by nobody
                await trio.sleep(0.01)
        route.to = there
        await a.socket.sendto(a.data(b.key, b"well"), a.relay)
        assert await b.got(1) == [b"well"]

    with_relay(test)


def test_strangers_are_told_and_the_stopped_relay_says_so() -> None:
    async def test(relay: Relay, node: Callable[[int], Node]) -> None:
        stranger = node(1)
        await stranger.socket.sendto(struct.pack("<II", CHANNEL, 7) + bytes(50), stranger.relay)
        assert len(await stranger.socket.recv(100)) == 16
        relay.set_admission({key_of(2)}.__contains__)
        with trio.move_on_after(0.3):
            await stranger.bind(key_of(2))
        assert relay.status().nodes == 0
        assert relay.status().counts.refused >= 1

    with_relay(test)
    with pytest.raises(RelayError, match="does not run"):
        Relay().status()


def test_a_taken_port_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(RelayError, match=f"UDP 127.0.0.1 port {port} is taken"):
            trio.run(Relay().run, Address("127.0.0.1", port))


@pytest.fixture(scope="module")
def relay(net: Net) -> str:
    """The address of a relay on the public host."""
    return line(python(net.public, "-m", "tests.tunnel.relay.serve"))


@pytest.mark.bed
def test_trains_arrive_whole_across_nats(net: Net, relay: str) -> None:
    b = python(net.b, "-m", STATION, "2", "1", PUBLIC, "40002", "echo")
    assert line(b) == "up 203.0.114.2 40002"
    sizes = [52, 1448, 1470, 14_480, 40_000, 65_478]
    a = python(net.a, "-m", STATION, "1", "2", PUBLIC, "40001", "trains", *map(str, sizes))
    assert line(a) == "up 203.0.113.2 40001"
    assert line(a).split()[0] == "bound"
    for size in sizes:
        assert line(a) == f"{size} {min(size, 1448)} True"


@pytest.mark.bed
def test_probes_among_trains_reach_the_raw_socket(net: Net, relay: str) -> None:
    """Each train has a shorter probe close behind it, and the receiver joins datagrams as a network card does."""
    net.nat_b.run("ip link set dev lan gso_max_segs 1")
    receive_offload(net.b, "eth0")
    d = python(net.b, "-m", STATION, "4", "3", PUBLIC, "40004", "echo")
    assert line(d) == "up 203.0.114.2 40004"
    c = python(net.a, "-m", STATION, "3", "4", PUBLIC, "40003", "probes", "60")
    assert line(c) == "up 203.0.113.2 40003"
    bound = line(c)
    # datagrams that are on two processors may change places: probes with one another, and with the word of the channel
    expected = {bound, *(f"probe {100 + number} {PUBLIC} 20006" for number in range(60))}
    assert {line(d) for _ in range(61)} == expected


ASK = f"""
import socket
from tunnel.paths import stun
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(5)
    sock.bind(("", 41000))
    sock.sendto(stun.request(b"t" * 12), ("{PUBLIC}", 20006))
    transaction, address = stun.read_response(sock.recv(100))
    print(transaction == b"t" * 12, *address)
"""


@pytest.mark.bed
def test_stun_tells_the_mapped_address(net: Net, relay: str) -> None:
    assert line(python(net.a, "-c", ASK)) == "True 203.0.113.2 41000"
