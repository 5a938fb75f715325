"""The loop with its sockets, on loopback: clients, upstreams, agent, and bytes from enemies."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import trio
from dnslib import DNSRecord
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRROPT

from dns import commands, outbound, server, tablefile, tcp, wire
from dns.client import ResolverClient
from dns.commands import Unavailable
from dns.control import Codec, Done, GetStatus, Message, Refused, Replace, Status, Update, encode
from dns.datagrams import Address, Datagrams
from dns.records import Name
from dns.resolver import Resolver
from tests.dns.conftest import SHOP, ZONES
from tests.dns.running import Upstream, addresses, ask, exactly, free_port, question, receive, resolver, zone

TABLE = tablefile.pack(ZONES, map(msgspec.msgpack.encode, SHOP))
ORDERS = "orders.shop.svc.cluster.local"


@pytest.fixture
def upstream_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """The port that upstreams are asked at, since a test may not have 53."""
    port = free_port()
    monkeypatch.setattr(outbound, "PORT", port)
    return port


def connect(address: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(address, timeout=5)
    sock.settimeout(5)
    return sock


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


class TestUdp:
    def test_it_starts_alone_from_its_table(self, tmp_path: Path) -> None:
        with resolver(tmp_path, table=TABLE) as (_, address):
            answer = ask(address, question("Orders.Shop.svc.Cluster.local"))
            assert addresses(answer) == ["10.96.0.10"]
            assert str(answer.q.qname) == "Orders.Shop.svc.Cluster.local."

    def test_a_burst_of_all_kinds(self, tmp_path: Path, upstream_port: int) -> None:
        """Answers that are ready, made, forwarded and none at all, mixed in the same batches."""
        with (
            Upstream("127.0.0.2", upstream_port, zone(www="192.0.2.1")),
            resolver(tmp_path, "127.0.0.2", table=TABLE) as (_, address),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            client.settimeout(5)
            client.connect(address)
            names = [ORDERS, "absent.svc.cluster.local", "www.example.com", "db.shop.svc.cluster.local"]
            expected = [0, 3, 0, 0]
            for burst in range(5):
                waiting: dict[int, int] = {}
                for i in range(60):
                    record = DNSRecord.question(names[i % 4])
                    record.header.id = burst << 8 | i
                    waiting[record.header.id] = expected[i % 4]
                    client.send(bytes(record.pack()))
                    if i % 7 == 0:
                        client.send(b"nonsense")
                while waiting:
                    answer = DNSRecord.parse(client.recv(4096))
                    assert answer.header.rcode == waiting.pop(answer.header.id)

    def test_over_ipv6(self, tmp_path: Path) -> None:
        udp, tcp_sock = server.bind("::1", free_port())
        datagrams = Datagrams(udp)
        made = Resolver(bytes, lambda: None)
        made.replace(ZONES, SHOP)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client, udp, tcp_sock:
            client.settimeout(5)
            client.connect(udp.getsockname())
            seen = []

            def once(message: bytes, sender: Address) -> bytes | None:
                seen.append(sender)
                return made.ask_udp(message, sender, 0.0)

            for _ in range(2):
                client.send(question(ORDERS))
                datagrams.serve(made, once)
                assert addresses(DNSRecord.parse(client.recv(512))) == ["10.96.0.10"]
            assert seen == [client.getsockname()]


class TestTcp:
    def test_many_at_once_and_in_pieces(self, tmp_path: Path, upstream_port: int) -> None:
        with (
            Upstream("127.0.0.2", upstream_port, zone(www="192.0.2.1")),
            resolver(tmp_path, "127.0.0.2", table=TABLE) as (_, address),
            connect(address) as sock,
        ):
            queries = [question("www.example.com"), *[question(ORDERS)] * 20, question("gone.example")]
            stream = framed(*queries)
            for at in range(0, len(stream), 37):
                sock.sendall(stream[at : at + 37])
            got = {int.from_bytes(each[:2], "big") for each in (receive(sock) for _ in queries)}
            assert got == {int.from_bytes(each[:2], "big") for each in queries}
            sock.sendall(framed(question("www.example.com")))
            sock.shutdown(socket.SHUT_WR)
            assert addresses(DNSRecord.parse(receive(sock))) == ["192.0.2.1"]
            assert receive(sock) == b""

    def test_a_large_answer_that_is_read_slowly(self, tmp_path: Path) -> None:
        names = [*SHOP, Name("big.shop.svc.cluster.local", a=tuple(f"10.{i >> 8}.{i & 255}.1" for i in range(3000)))]
        table = tablefile.pack(ZONES, map(msgspec.msgpack.encode, names))
        with resolver(tmp_path, table=table) as (_, address), connect(address) as sock:
            sock.sendall(framed(*[question("big.shop.svc.cluster.local")] * 60))
            for _ in range(60):
                answer = receive(sock)
                assert int.from_bytes(answer[6:8], "big") == 3000
                assert len(answer) == len(question("big.shop.svc.cluster.local")) + 3000 * 16

    @pytest.mark.parametrize("junk", [b"", b"short", question(ORDERS)[:2] + b"\x81" + question(ORDERS)[3:]])
    def test_what_is_no_query_ends_the_connection(self, tmp_path: Path, junk: bytes) -> None:
        with resolver(tmp_path, table=TABLE) as (_, address), connect(address) as sock:
            sock.sendall(framed(question(ORDERS), junk, question(ORDERS)))
            assert receive(sock)
            assert receive(sock) == b""

    def test_quiet_connections_end(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "IDLE", 0.2)
        with resolver(tmp_path, table=TABLE) as (_, address), connect(address) as sock:
            sock.sendall(b"\0")
            began = time.monotonic()
            assert exactly(sock, 1) == b""
            assert 0.1 < time.monotonic() - began < 3

    def test_too_many_connections(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "MAX_CONNECTIONS", 3)
        with resolver(tmp_path, table=TABLE) as (_, address):
            socks = []
            for _ in range(3):
                socks.append(connect(address))
                socks[-1].sendall(framed(question(ORDERS)))
                assert receive(socks[-1])
            socks[0].sendall(framed(question(ORDERS)))  # now the second is the quietest
            assert receive(socks[0])
            socks.append(connect(address))
            assert exactly(socks[1], 1) == b""
            for sock in (socks[0], socks[2], socks[3]):
                sock.sendall(framed(question(ORDERS)))
                assert receive(sock)
            for sock in socks:
                sock.close()

    def test_questions_without_answers_stop_the_reading(
        self, tmp_path: Path, upstream_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tcp, "MAX_OPEN", 4)
        with (
            Upstream("127.0.0.2", upstream_port, lambda *_: None) as silent,
            resolver(tmp_path, "127.0.0.2", table=TABLE) as (_, address),
            connect(address) as sock,
        ):
            sock.sendall(framed(*[question(f"n{i}.example") for i in range(10)], question(ORDERS)))
            end = time.monotonic() + 5
            while len({name for name, _, _ in silent.asked}) < 4:
                assert time.monotonic() < end
                ask(address, question(ORDERS))  # each answer is a turn of the loop
            ask(address, question(ORDERS))
            assert len({name for name, _, _ in silent.asked}) == 4
            silent.behaviour = zone()
            got = [DNSRecord.parse(receive(sock)) for _ in range(11)]
            assert sorted(each.header.rcode for each in got) == [0] + [3] * 10


class TestUpstreams:
    def test_udp_then_tcp_when_truncated(self, tmp_path: Path, upstream_port: int) -> None:
        def truncating(asked: DNSRecord, tcp: bool) -> DNSRecord:
            if not tcp:
                reply = asked.reply()
                reply.header.tc = 1
                return reply
            answer = zone(www="192.0.2.1")(asked, tcp)
            assert isinstance(answer, DNSRecord)
            return answer

        with (
            Upstream("127.0.0.2", upstream_port, truncating) as up,
            resolver(tmp_path, "127.0.0.2") as (_, address),
        ):
            assert addresses(ask(address, question("www.example.com"))) == ["192.0.2.1"]
            assert [tcp for _, tcp, _ in up.asked] == [False, True]
            assert addresses(ask(address, question("www.example.com"))) == ["192.0.2.1"]
            assert len(up.asked) == 2

    def test_ports_differ(self, tmp_path: Path, upstream_port: int) -> None:
        with (
            Upstream("127.0.0.2", upstream_port, zone()) as up,
            resolver(tmp_path, "127.0.0.2") as (_, address),
        ):
            for i in range(20):
                ask(address, question(f"n{i}.example"))
            assert len({port for _, _, port in up.asked}) > 15

    def test_an_ipv6_upstream_and_failover_from_one_that_is_not_there(self, tmp_path: Path, upstream_port: int) -> None:
        with (
            Upstream("::1", upstream_port, zone(www="192.0.2.6")),
            resolver(tmp_path, "127.0.0.9", "::1") as (running, address),
        ):
            assert addresses(ask(address, question("www.example.com"))) == ["192.0.2.6"]
            first, second = running.resolver.forwarder.upstreams.all
            assert (first.error, second.error) == ("Connection refused", "")

    def test_external_names(self, tmp_path: Path, upstream_port: int) -> None:
        with (
            Upstream("127.0.0.2", upstream_port, zone(pay="192.0.2.7")),
            resolver(tmp_path, "127.0.0.2", table=TABLE) as (_, address),
        ):
            answer = ask(address, question("paid.shop.svc.cluster.local"))
            assert addresses(answer) == ["pay.example.com.", "192.0.2.7"]

    def test_a_changed_resolv_conf_is_found_when_an_upstream_fails(self, tmp_path: Path, upstream_port: int) -> None:
        with (
            Upstream("127.0.0.2", upstream_port, zone(www="192.0.2.2")),
            resolver(tmp_path, "127.0.0.9") as (_, address),
        ):
            ask(address, question("www.example.com"), 6)
            (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.2\n")
            end = time.monotonic() + 3
            while addresses(ask(address, question("www.example.com"), 6)) != ["192.0.2.2"]:
                assert time.monotonic() < end

    def test_no_upstream_keeps_nothing_waiting(self, tmp_path: Path, upstream_port: int) -> None:
        """While questions hang on a silent upstream, ours are answered at once."""
        with (
            Upstream("127.0.0.2", upstream_port, lambda *_: None),
            resolver(tmp_path, "127.0.0.2", table=TABLE) as (_, address),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            client.connect(address)
            for i in range(100):
                client.send(question(f"n{i}.example"))
            began = time.monotonic()
            for _ in range(50):
                assert addresses(ask(address, question(ORDERS), 1)) == ["10.96.0.10"]
            assert time.monotonic() - began < 3


class Agent:
    """A connection to the resolver's socket."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(path))
        self.codec = Codec()

    def tell(self, *messages: Message) -> list[Message]:
        self.sock.sendall(b"".join(map(encode, messages)))
        got: list[Message] = []
        while len(got) < len(messages):
            data = self.sock.recv(65536)
            assert data
            got += self.codec.feed(data)
        return got


@pytest.fixture
def agent_of() -> Iterator[list[Agent]]:
    made: list[Agent] = []
    yield made
    for agent in made:
        agent.sock.close()


class TestCommands:
    def test_names_come_and_go_and_are_on_disk(self, tmp_path: Path, agent_of: list[Agent]) -> None:
        with resolver(tmp_path) as (_, address):
            agent_of.append(Agent(tmp_path / "sock"))
            agent = agent_of[0]
            assert agent.tell(Replace(ZONES, SHOP)) == [Done()]
            assert addresses(ask(address, question(ORDERS))) == ["10.96.0.10"]
            change = Update((Name(ORDERS, a=("10.96.0.99",)),), ("db-0.db.shop.svc.cluster.local",))
            assert agent.tell(change) == [Done()]
            assert addresses(ask(address, question(ORDERS))) == ["10.96.0.99"]
            assert ask(address, question("db-0.db.shop.svc.cluster.local")).header.rcode == 3
            refused = agent.tell(Update((Name("x..y"), Name("new.shop.svc.cluster.local", a=("10.96.0.98",)))))[0]
            assert isinstance(refused, Refused)
            assert "x..y" in refused.reason
            assert addresses(ask(address, question("new.shop.svc.cluster.local"))) == ["10.96.0.98"]
            assert isinstance(agent.tell(Done())[0], Refused)
            end = time.monotonic() + 5
            while (kept := tablefile.load(tmp_path / "dns.table")) is None or len(kept[1]) != len(SHOP):
                assert time.monotonic() < end
                time.sleep(0.02)
            status = agent.tell(GetStatus())[0]
            assert isinstance(status, Status)
            assert (status.names, status.zones, status.queries) == (len(SHOP), 2, 4)
            assert "names no server but this one" in status.problems[0]
        with resolver(tmp_path) as (_, address):
            assert addresses(ask(address, question(ORDERS))) == ["10.96.0.99"]

    def test_nonsense_costs_only_its_own_connection(self, tmp_path: Path, agent_of: list[Agent]) -> None:
        with resolver(tmp_path, table=TABLE):
            agent_of += [Agent(tmp_path / "sock"), Agent(tmp_path / "sock")]
            agent_of[0].sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert agent_of[0].sock.recv(10) == b""
            assert isinstance(agent_of[1].tell(GetStatus())[0], Status)

    def test_connections_are_bounded(
        self, tmp_path: Path, agent_of: list[Agent], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(commands, "MAX_CONNECTIONS", 2)
        with resolver(tmp_path, table=TABLE):
            for _ in range(3):
                agent_of.append(Agent(tmp_path / "sock"))
                agent_of[-1].tell(GetStatus())
            assert agent_of[0].sock.recv(1) == b""
            agent_of[1].tell(GetStatus())

    def test_with_the_agents_client(self, tmp_path: Path) -> None:
        async def main() -> None:
            client = ResolverClient(tmp_path / "sock")
            client.set(ZONES, {each.name: each for each in SHOP})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                with trio.fail_after(5):
                    await client.applied()
                    status = await client.status()
                nursery.cancel_scope.cancel()
            assert status is not None
            assert status.names == len(SHOP)

        with resolver(tmp_path) as (_, address):
            trio.run(main)
            assert addresses(ask(address, question(ORDERS))) == ["10.96.0.10"]

    def test_two_resolvers_and_a_socket_left_behind(self, tmp_path: Path) -> None:
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(tmp_path / "sock"))
        dead.close()
        with resolver(tmp_path, table=TABLE) as (_, address):
            assert (tmp_path / "sock").stat().st_mode & 0o777 == 0o600
            with pytest.raises(Unavailable, match="a resolver is running already"):
                commands.listen(tmp_path / "sock")
            with pytest.raises(Unavailable, match="another DNS server has it"):
                server.bind(*address)
        assert not (tmp_path / "sock").exists()
        with pytest.raises(Unavailable, match="can't be made"):
            commands.listen(tmp_path / "dns.table" / "sock")


def hostile() -> Iterator[bytes]:
    """Packets that no honest client sends."""
    name = DNSQR(qname=ORDERS)
    yield bytes(DNS(id=1, qd=[name]))[:-3]
    yield bytes(DNS(id=1, qr=1, qd=[name], an=[DNSRR(rrname=ORDERS, rdata="6.6.6.6")]))
    yield bytes(DNS(id=1, qd=[name, name]))
    yield bytes(DNS(id=1, qd=[name], an=[DNSRR(rrname=ORDERS, rdata="6.6.6.6")]))
    yield bytes(DNS(id=1, opcode=5, qd=[name]))
    yield bytes(DNS(id=1, qd=[DNSQR(qname="version.bind", qtype="TXT", qclass=3)]))
    yield bytes(DNS(id=1, qd=[name], ar=[DNSRROPT(), DNSRROPT()]))
    yield bytes(DNS(id=1, qd=[name], ar=[DNSRROPT(version=9)]))
    yield bytes(DNS(id=1, qd=[name], ar=[DNSRROPT(rclass=0)]))
    yield b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c\0\1\0\1"
    yield b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\1a\xc0\x0c\0\1\0\1"
    yield b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x3f" * 3000
    yield b"\0\1\1\0\xff\xff\xff\xff\xff\xff\xff\xff" + b"\0" * 60000
    yield b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\1" * 255 + b"\0\0\1\0\1"
    yield b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\0\0\2\0\1"
    chance = random.Random(53)
    good = bytes(DNS(id=1, qd=[name], ar=[DNSRROPT(rclass=1232)]))
    for _ in range(1500):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(2, len(damaged))] = chance.randrange(256)
        yield bytes(damaged[: chance.randint(0, len(damaged))])
    for _ in range(300):
        yield chance.randbytes(chance.randrange(80))


def test_hostile_packets(tmp_path: Path) -> None:
    with (
        resolver(tmp_path, table=TABLE) as (running, address),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(address)
        for i, packet in enumerate(hostile()):
            client.send(packet)
            if i % 50 == 0:
                assert addresses(ask(address, question(ORDERS))) == ["10.96.0.10"]
        with connect(address) as sock:
            for packet in hostile():
                if len(packet) > 12 and not packet[2] & 0x80:
                    sock.sendall(framed(packet))
                    assert receive(sock)[:2] == packet[:2]
        assert addresses(ask(address, question(ORDERS))) == ["10.96.0.10"]
        assert len(running.resolver.compiled) < 100
        assert running.resolver.queries > 1000
    assert wire.MAX_UDP < 1500
