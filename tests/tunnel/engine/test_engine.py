"""The engine's process on real packets: with another of ours, and with wireguard-go."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tunnel.engine.bed import DEVICE, FETCH, SERVE, End, two_ends, wait_for

pytestmark = pytest.mark.bed

MEMORY = 25_000
"""kB, what an engine may take."""


def expected(length: int) -> str:
    chunk = bytes(range(256)) * 256
    return hashlib.sha256((chunk * (length // len(chunk) + 1))[:length]).hexdigest()


def serve(end: End, length: int) -> None:
    end.space.popen([sys.executable, "-c", SERVE, str(length)])
    wait_for(lambda: ":9000" in end.space.run(["ss", "-ltn"]).stdout, "the server does not listen")


def fetch(end: End, address: str, length: int) -> None:
    """Download `length` bytes by TCP and compare them."""
    got, digest, _ = end.space.run([sys.executable, "-c", FETCH, address], timeout=60).stdout.split()
    assert (int(got), digest) == (length, expected(length))


def ping(end: End, address: str, count: int = 3, size: int = 56) -> None:
    end.space.run(["ping", "-c", str(count), "-i", "0.05", "-W", "2", "-s", str(size), address])


def framing(end: End) -> str:
    return end.ask("get=1")["framing"]


def test_two_of_ours_agree_and_carry_segments(tmp_path: Path) -> None:
    with two_ends(tmp_path) as (_, left, right):
        for end, other in ((left, right), (right, left)):
            end.start()
            end.meet(other)
            end.address()
        ping(left, "10.8.0.2")
        ping(left, "fd00::2")
        ping(right, "10.8.0.1", size=1392)
        ping(right, "10.8.0.1", size=4000)  # fragments
        wait_for(lambda: framing(left).startswith("segments/"), "no agreement")
        assert framing(left) == framing(right)
        serve(right, 20_000_000)
        fetch(left, "10.8.0.2", 20_000_000)
        fetch(left, "fd00::2", 20_000_000)
        assert left.memory() < MEMORY
        assert right.memory() < MEMORY
        # wg shows what it always shows, and minds none of our keys
        shown = left.wg("show", DEVICE, "dump").stdout.splitlines()
        assert len(shown) == 2
        assert shown[1].split("\t")[2:4] == ["10.9.0.2:51820", "10.8.0.2/32,fd00::2/128"]
        assert "Endpoint = 10.9.0.2:51820" in left.wg("showconf", DEVICE).stdout
        assert left.end("TERM") == 0
        assert "ends" in left.log.read_text()
        # the device stays
        assert "10.8.0.1" in left.space.run(["ip", "addr", "show", "dev", DEVICE]).stdout


@pytest.mark.parametrize("cipher", ["chacha20-poly1305", "packets"])
def test_what_the_framing_and_cipher_keys_ask_for(tmp_path: Path, cipher: str) -> None:
    with two_ends(tmp_path, "--buffer", "106496") as (_, left, right):
        for end, other in ((left, right), (right, left)):
            end.start()
            setting = "framing=packets" if cipher == "packets" else f"ciphers={cipher}"
            assert end.ask(f"set=1\n{setting}")["errno"] == "0"
            end.meet(other)
            end.address()
        ping(left, "10.8.0.2")
        wanted = cipher if cipher == "packets" else f"segments/{cipher}/"
        wait_for(lambda: framing(left).startswith(wanted) and framing(right).startswith(wanted), "no agreement")
        # the kernel's stock buffers
        assert left.ask("get=1")["rcvbuf"] == left.ask("get=1")["sndbuf"] == "212992"
        serve(right, 10_000_000)
        fetch(left, "10.8.0.2", 10_000_000)
        fetch(left, "fd00::2", 10_000_000)


@pytest.mark.parametrize("first", ["ours", "wireguard-go"])
def test_with_wireguard_go_handshake_and_data_both_ways(tmp_path: Path, first: str) -> None:
    with two_ends(tmp_path) as (_, left, right):
        left.start()
        right.start("wireguard-go")
        for end, other in ((left, right), (right, left)):
            end.meet(other)
            end.address()
        one, other = (left, right) if first == "ours" else (right, left)
        ping(one, f"10.8.0.{other.number}")
        ping(one, f"fd00::{other.number}", size=1300)
        serve(left, 10_000_000)
        serve(right, 10_000_000)
        fetch(left, "10.8.0.2", 10_000_000)
        fetch(right, "10.8.0.1", 10_000_000)
        fetch(right, "fd00::1", 10_000_000)
        assert framing(left) == "packets"


def test_an_engine_killed_amid_a_transfer(tmp_path: Path) -> None:
    length = 30_000_000
    with two_ends(tmp_path) as (_, left, right):
        for end, other in ((left, right), (right, left)):
            end.start()
            end.meet(other, "persistent-keepalive", "25")
            end.address()
        ping(left, "10.8.0.2")
        serve(right, length)
        command = [sys.executable, "-c", FETCH, "10.8.0.2", "0.01"]
        download = subprocess.Popen(left.space.command(command), stdout=subprocess.PIPE, text=True)
        try:
            received = int(left.ask("get=1")["rx_bytes"])
            wait_for(lambda: int(left.ask("get=1")["rx_bytes"]) > received + 3_000_000, "no transfer")
            left.end("KILL")
            left.start()  # finds its device with addresses and routes, and replaces the socket
            left.meet(right, "persistent-keepalive", "25")
            said, _ = download.communicate(timeout=40)
        finally:
            download.kill()
            download.wait()
        got, digest, gap = said.split()
        assert (int(got), digest) == (length, expected(length))
        assert float(gap) < 3.0


def test_channel_headers_pass_a_relay(tmp_path: Path) -> None:
    """A relay of a few lines: it swaps channels and passes each datagram on, one by one."""
    relay = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
    relay.bind(("10.9.0.2", 20006))
    to = {}
    while True:
        datagram, source = relay.recvfrom(65536)
        word, channel = int.from_bytes(datagram[:4], "little"), int.from_bytes(datagram[4:8], "little")
        assert word == 6, datagram[:8]
        to[channel] = source
        other = 3 - channel
        if other in to:
            relay.sendto(datagram[:4] + other.to_bytes(4, "little") + datagram[8:], to[other])
"""
    with two_ends(tmp_path) as (_, left, right):
        right.space.popen([sys.executable, "-c", relay])
        for number, (end, other) in enumerate(((left, right), (right, left)), 1):
            end.start()
            end.meet(other, endpoint="10.9.0.2:20006")
            request = f"set=1\npublic_key={other.key()}\npersistent_keepalive_interval=25\npinned=true"
            request += f"\nendpoint=10.9.0.2:20006\nchannel={number}"
            assert end.ask(request)["errno"] == "0"
            end.address()
        ping(left, "10.8.0.2", count=5)
        wait_for(lambda: framing(left).startswith("segments/"), "no agreement")
        serve(right, 5_000_000)
        fetch(left, "10.8.0.2", 5_000_000)
        told = left.ask("get=1")
        assert (told["endpoint"], told["channel"], told["pinned"]) == ("10.9.0.2:20006", "1", "true")


def test_a_peer_that_moves_is_followed_unless_pinned(tmp_path: Path) -> None:
    with two_ends(tmp_path) as (_, left, right):
        for end, other in ((left, right), (right, left)):
            end.start()
            end.meet(other)
            end.address()
        ping(left, "10.8.0.2")
        right.wg("set", DEVICE, "listen-port", "40000")
        ping(right, "10.8.0.1")
        assert left.ask("get=1")["endpoint"] == "10.9.0.2:40000"
        assert right.ask("get=1")["listen_port"] == "40000"
        left.ask(f"set=1\npublic_key={right.key()}\npinned=true")
        right.wg("set", DEVICE, "listen-port", "40001")
        right.space.run(["ping", "-c", "2", "-i", "0.05", "-W", "0.2", "10.8.0.1"], check=False)
        assert left.ask("get=1")["endpoint"] == "10.9.0.2:40000"


def test_bad_settings_change_nothing(tmp_path: Path) -> None:
    with two_ends(tmp_path) as (_, left, right):
        left.start()
        left.meet(right)
        left.address()
        before = left.ask("get=1")
        taken = left.space.popen([sys.executable, "-c", TAKE])
        wait_for(lambda: ":50000" in left.space.run(["ss", "-lun"]).stdout, "the port is not taken")
        key = "11" * 32
        for line, number in (
            ("listen_port=50000", "98"),
            (f"listen_port=50001\npublic_key={'00' * 32}", "22"),
            (f"listen_port=50001\npublic_key={key}\npublic_key={'00' * 32}", "22"),
            (f"public_key={key}\nendpoint=[2001:db8::1]:5", "97"),
            (f"private_key={key}\nnonsense=1", "22"),
        ):
            assert left.ask(f"set=1\n{line}") == {"errno": number}
        assert left.ask("get=1") == before
        taken.kill()
        refused = left.wg("set", DEVICE, "peer", right.public, "allowed-ips", "10.8.0.2/33", check=False)
        assert refused.returncode != 0


TAKE = """
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
    taken.bind(("", 50000))
    time.sleep(60)
"""


def test_a_second_engine_of_one_device_says_so(tmp_path: Path) -> None:
    with two_ends(tmp_path) as (_, left, _right):
        left.start()
        command = [sys.executable, "-m", "tunnel.engine.engine"]
        second = left.space.run(command, check=False, env={"PYTHONPATH": str(Path(__file__).parents[3])})
        assert second.returncode == 1
        assert "already running" in second.stderr
        other = left.space.run(
            [*command, "--socket-dir", "/run/other"], check=False, env={"PYTHONPATH": str(Path(__file__).parents[3])}
        )
        assert other.returncode == 1
        assert "in use by another process" in other.stderr


def test_the_device_is_up_with_its_mtu_and_queue(tmp_path: Path) -> None:
    with two_ends(tmp_path) as (_, left, _right):
        left.start()
        shown = left.space.run(["ip", "link", "show", "dev", DEVICE]).stdout
        assert ",UP" in shown
        assert "mtu 1420" in shown
        assert "qlen 1000" in shown  # in a user namespace, where an ioctl may not set it


def test_without_rights_or_a_tun_it_says_what_to_do(tmp_path: Path) -> None:
    with two_ends(tmp_path) as (_, left, _right):
        command = [sys.executable, "-m", "tunnel.engine.engine"]
        env = {"PYTHONPATH": str(Path(__file__).parents[3])}
        bare = left.space.run(
            ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", *command], check=False, env=env
        )
        assert bare.returncode == 1
        assert "CAP_NET_ADMIN" in bare.stderr
        left.space.run("mount -t tmpfs tmpfs /dev/net")
        without = left.space.run(command, check=False, env=env)
        assert without.returncode == 1
        assert "modprobe tun" in without.stderr


def test_idle_clients_do_not_shut_others_out(tmp_path: Path) -> None:
    hold = """
import socket, time
held = [socket.socket(socket.AF_UNIX) for _ in range(40)]
for client in held:
    client.connect("/run/wireguard/edgemesh-wg.sock")
    client.sendall(b"get=")
print("held", flush=True)
time.sleep(60)
"""
    with two_ends(tmp_path) as (_, left, right):
        left.start()
        left.meet(right)
        holder = left.space.popen([sys.executable, "-c", hold])
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        assert left.ask("get=1")["errno"] == "0"
        assert time.monotonic() - began < 5
        assert left.space.run(["stat", "-c", "%a", f"/run/wireguard/{DEVICE}.sock"]).stdout == "600\n"


FLOOD = """
import random, socket, sys
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw, fuzz
from scapy.fields import ByteField, LEIntField, LELongField
from scapy.packet import Packet
random.seed(7)
class Head(Packet):
    fields_desc = [ByteField("kind", 4), ByteField("parts", 0), ByteField("part", 0), ByteField("zero", 0),
                   LEIntField("index", 0), LELongField("counter", 0)]
indices = [int(sys.argv[1]), int(sys.argv[2])]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
    made = []
    for number in range(400):
        head = fuzz(Head(kind=random.choice([0, 1, 2, 3, 4, 5, 5, 5, 6, 7, 8]), zero=0))
        if number % 2:
            head.parts, head.part, head.index = random.randint(1, 47), random.randint(0, 46), random.choice(indices)
        made.append(bytes(head / Raw(random.randbytes(random.choice([0, 1, 15, 16, 32, 76, 132, 1424, 1436])))))
        made.append((6).to_bytes(4, "little") + random.randbytes(4) + made[-1])
    for number in range(20000):
        datagram = bytearray(random.choice(made))
        if datagram and number % 3 == 0:
            datagram = datagram[: random.randrange(len(datagram))]
        out.sendto(datagram, ("10.9.0.1", 51820))
"""


def test_hostile_datagrams_leave_the_tunnel_as_it_was(tmp_path: Path) -> None:
    with two_ends(tmp_path) as (_, left, right):
        for end, other in ((left, right), (right, left)):
            end.start()
            end.meet(other)
            end.address()
        ping(left, "10.8.0.2")
        serve(right, 10_000_000)
        fetch(left, "10.8.0.2", 10_000_000)
        before = left.memory()
        capture = left.space.run(
            "timeout 5 tcpdump -i e0 -c 1 -xx -n 'udp dst port 51820 and dst host 10.9.0.1' 2>/dev/null"
            " & sleep 0.5; ping -c 2 -i 0.1 10.8.0.2 >/dev/null; wait",
            timeout=20,
        ).stdout
        raw = bytes.fromhex("".join(line.split(":", 1)[1].strip() for line in capture.splitlines() if "0x" in line))
        index = int.from_bytes(raw[14 + 28 + 4 : 14 + 28 + 8], "little")
        right.space.run([sys.executable, "-c", FLOOD, str(index), "0"], timeout=60)
        ping(left, "10.8.0.2")
        fetch(left, "10.8.0.2", 10_000_000)
        assert left.memory() < min(before + 3_000, MEMORY)
        assert left.ask("get=1")["endpoint"] == "10.9.0.2:51820"
        assert left.engine is not None
        assert left.engine.poll() is None
