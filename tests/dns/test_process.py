"""The resolver as a process in a host of its own, asked by dig: what a node's administrator would see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dns import tablefile
from dns.records import Name
from e2e.lab.namespaces import Bed, Space
from tests.dns.conftest import SHOP, ZONES

pytestmark = pytest.mark.bed

TREE = str(Path(__file__).parent.parent.parent)
RUN = """
import logging, sys
from pathlib import Path
from dns.server import Options, run
logging.basicConfig(format="%(levelname)s %(message)s")
folder = Path(sys.argv[1])
sys.exit(run(Options(sys.argv[2], 53, folder / "sock", Path(sys.argv[3]), folder / "resolv.conf")))
"""
UPSTREAM = """
import threading
from dnslib.server import DNSServer, BaseResolver
from dnslib import RR
class Internet(BaseResolver):
    def resolve(self, request, handler):
        reply = request.reply()
        name = str(request.q.qname)
        if name.startswith("big."):
            for i in range(100):
                reply.add_answer(*RR.fromZone(f"{name} 60 A 198.51.100.{i}"))
            if handler.protocol == "udp":
                reply = reply.truncate()
        elif name.startswith(("www.", "pay.")):
            reply.add_answer(*RR.fromZone(f"{name} 60 A 198.51.100.1"))
        else:
            reply.header.rcode = 3
            reply.add_auth(*RR.fromZone("example.com 60 SOA ns.example.com host.example.com 1 2 3 4 60"))
        return reply
class Quiet:
    def __getattr__(self, name):
        return lambda *_: None
for tcp in (False, True):
    DNSServer(Internet(), address="127.0.0.2", port=53, tcp=tcp, logger=Quiet()).start_thread()
print("ready", flush=True)
threading.Event().wait()
"""
LISTEN = "169.254.96.16"
BIG = Name("big.shop.svc.cluster.local", a=tuple(f"10.{i >> 8}.{i & 255}.1" for i in range(300)))


@pytest.fixture(scope="module")
def host() -> Iterator[Space]:
    """One host for all tests here; each ends its own processes."""
    with Bed() as bed:
        yield bed.host("node")


class Process:
    """`edgemesh resolver`, without the command line around it."""

    def __init__(self, host: Space, folder: Path, listen: str = LISTEN, table: Path | None = None) -> None:
        self.host = host
        self.listen = listen
        self.log = folder / "log"
        command = [sys.executable, "-c", RUN, str(folder), listen, str(table or folder / "dns.table")]
        self.popen = host.popen(command, env={"PYTHONPATH": TREE}, log=self.log)

    def dig(self, *words: str) -> str:
        done = self.host.run(["dig", f"@{self.listen}", "+tries=1", "+time=5", *words], check=False)
        return done.stdout

    def answering(self) -> Process:
        end = time.monotonic() + 10
        while self.dig("+short", "+time=1", "cluster.local", "SOA") == "" or "refused" in self.dig("cluster.local"):
            assert time.monotonic() < end, self.log.read_text()
        return self

    def signal(self, number: signal.Signals) -> int:
        """Send a signal to the resolver; its exit status."""
        return end(self.popen, number)


def end(popen: subprocess.Popen[str], number: signal.Signals) -> int:
    """Send a signal to the process that nsenter has started, unless it has ended; its exit status."""
    if popen.poll() is None:
        children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children").read_text().split()
        os.kill(int(children[0]), number)
    return popen.wait(5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = [*SHOP, BIG]
    (tmp_path / "resolv.conf").write_text(f"nameserver {LISTEN}\nnameserver 127.0.0.2\n")
    tablefile.write(tmp_path / "dns.table", tablefile.pack(ZONES, map(msgspec.msgpack.encode, names)))
    return tmp_path


@pytest.fixture
def process(host: Space, folder: Path) -> Iterator[Process]:
    upstream = host.popen([sys.executable, "-c", UPSTREAM])
    assert upstream.stdout
    assert upstream.stdout.readline() == "ready\n"
    running = Process(host, folder)
    # the address comes after the process: the agent makes the device when it starts
    limit = time.monotonic() + 10
    while not (folder / "sock").exists():
        assert time.monotonic() < limit, running.log.read_text()
        time.sleep(0.01)
    host.run(f"ip address replace {LISTEN}/32 dev lo")
    try:
        yield running.answering()
    finally:
        host.run(f"ip address del {LISTEN}/32 dev lo")
        for each in (running.popen, upstream):
            end(each, signal.SIGKILL)


def test_with_dig(process: Process) -> None:
    def flags(*words: str) -> tuple[str, str, int]:
        said = process.dig(*words)
        found = re.search(r"status: (\w+),.*?flags: ([a-z ]+);.*?ANSWER: (\d+)", said, re.DOTALL)
        assert found, said
        return found[1], found[2], int(found[3])

    orders = "orders.shop.svc.cluster.local"
    assert process.dig("+short", orders) == "10.96.0.10\n"
    assert process.dig("+short", "+tcp", orders) == "10.96.0.10\n"
    assert process.dig("+short", "-x", "10.96.0.10") == f"{orders}.\n"
    assert process.dig("+short", f"_http._tcp.{orders}", "SRV") == f"0 100 8080 {orders}.\n"
    assert process.dig("+short", "1-2-3-4.x.pod.cluster.local") == "1.2.3.4\n"
    assert flags(orders) == ("NOERROR", "qr aa rd ra", 1)
    assert flags("+noedns", "+nocookie", orders) == ("NOERROR", "qr aa rd ra", 1)
    assert flags("+dnssec", orders) == ("NOERROR", "qr aa rd ra", 1)
    assert "flags:; udp: 1232" in process.dig("+dnssec", orders)
    assert flags(orders, "AAAA") == ("NOERROR", "qr aa rd ra", 0)
    assert flags("no." + orders) == ("NXDOMAIN", "qr aa rd ra", 0)
    assert flags("+edns=5", "+noednsnegotiation", orders)[0] == "BADVERS"
    assert flags("version.bind", "CH", "TXT")[0] == "REFUSED"
    assert flags("+opcode=status", orders)[0] == "NOTIMP"
    assert flags("+ignore", "+bufsize=512", "+nocookie", BIG.name)[1] == "qr aa tc rd ra"
    assert flags(BIG.name) == ("NOERROR", "qr aa rd ra", 300)  # dig asks again over TCP
    assert flags("+tcp", "+keepopen", BIG.name)[2] == 300


def test_everything_else_goes_upstream(process: Process) -> None:
    assert process.dig("+short", "www.example.com") == "198.51.100.1\n"
    assert process.dig("+short", "paid.shop.svc.cluster.local") == "pay.example.com.\n198.51.100.1\n"
    assert len(process.dig("+short", "+ignore", "big.example.com").splitlines()) > 20
    assert len(process.dig("+short", "big.example.com").splitlines()) == 100
    absent = process.dig("no.example.com")
    assert "NXDOMAIN" in absent
    assert "SOA" in absent


def test_with_nothing_to_do_it_sleeps(process: Process) -> None:
    assert process.dig("+short", "www.example.com")
    children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()
    status = Path(f"/proc/{children[0]}/status")

    def awakenings() -> list[str]:
        return [line for line in status.read_text().splitlines() if line.startswith("voluntary")]

    time.sleep(0.6)  # the timer of the question that was forwarded
    before = awakenings()
    time.sleep(1.0)
    assert awakenings() == before


def test_it_ends_at_sigterm_and_takes_its_socket_away(process: Process, folder: Path) -> None:
    assert (folder / "sock").exists()
    assert process.signal(signal.SIGTERM) == 0
    assert not (folder / "sock").exists()


def test_a_taken_port_is_one_sentence(host: Space, folder: Path) -> None:
    (folder / "other").mkdir()
    first = Process(host, folder, "127.0.0.1").answering()
    second = Process(host, folder / "other", "127.0.0.1")
    assert second.popen.wait(10) == 1
    assert second.log.read_text() == (
        "ERROR 127.0.0.1 port 53 can't be bound (Address already in use): another DNS server has it "
        "(ss -lunp shows which): end that, or set another address or port\n"
    )
    assert first.signal(signal.SIGINT) == 0


def test_a_full_disk_and_a_torn_table(host: Space, folder: Path) -> None:
    """The table is on a disk without room: names are served all the same, and it is said once."""
    disk = folder / "disk"
    disk.mkdir()
    host.run(f"mount -t tmpfs -o size=8k tmpfs {disk} && dd if=/dev/zero of={disk}/fill bs=4096 count=1 status=none")
    host.run(f"dd if=/dev/urandom of={disk}/dns.table bs=100 count=1 status=none")
    process = Process(host, folder, "127.0.0.1", disk / "dns.table")
    tell = textwrap.dedent(
        """
        import socket, sys
        from dns.control import *
        from tests.dns.conftest import SHOP, ZONES
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(sys.argv[1])
        names = SHOP + tuple(Name(f"n{i}.shop.svc.cluster.local", a=("10.0.0.1",)) for i in range(1000))
        sock.sendall(encode(Replace(ZONES, names)))
        print(Codec().feed(sock.recv(1000)))
        """
    )
    end = time.monotonic() + 10
    while not (folder / "sock").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    said = host.run([sys.executable, "-c", tell, str(folder / "sock")], env={"PYTHONPATH": TREE}).stdout
    assert said == "[Done()]\n"
    assert process.dig("+short", "n999.shop.svc.cluster.local") == "10.0.0.1\n"
    end = time.monotonic() + 5
    while "can't be written" not in process.log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    log = process.log.read_text()
    assert "is torn" in log
    assert "No space left on device" in log
    assert process.dig("+short", "n998.shop.svc.cluster.local") == "10.0.0.1\n"
    assert process.signal(signal.SIGTERM) == 0
    assert process.log.read_text().count("can't be written") == 1
    host.run(f"umount {disk}")
