"""The raw socket: its filter, run by a small BPF machine and by the kernel; beside an engine, through NATs."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tunnel.bed import PUBLIC, ROOT, Net, line, python
from tunnel.paths import stun
from tunnel.paths.socket import path_filter

PORT = 41641


def passes(packet: bytes, port: int = PORT) -> bool:
    """Run the filter as the kernel does (linux/filter.h): a load beyond the end drops."""
    program = path_filter(port)
    at = a = x = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        if code == 0x06:
            return k > 0
        if code == 0xB1:
            if k >= len(packet):
                return False
            x = (packet[k] & 0x0F) * 4
        elif code in (0x20, 0x28, 0x40, 0x48):
            size = 2 if code & 0x08 else 4
            start = k + (x if code & 0x40 else 0)
            if start + size > len(packet):
                return False
            a = int.from_bytes(packet[start : start + size], "big")
        else:
            assert code in (0x15, 0x45)
            at += yes if (a == k if code == 0x15 else a & k) else no


def packet(payload: bytes, *, port: int = PORT, options: int = 0, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45 + options, 0, 0, 0, fragment, 64, 17, 0, bytes(4), bytes(4))
    return head + bytes(4 * options) + struct.pack(">HHHH", 9, port, 8 + len(payload), 0) + payload


def word(number: int) -> bytes:
    return number.to_bytes(4, "little")


WANTED = [
    word(7),
    word(8) + b"x" * 80,
    word(6) + b"chan" + word(7) + b"sealed",
    stun.request(b"t" * 12),
    bytes.fromhex("01010000") + bytes.fromhex("2112a442") + b"t" * 12,
]
UNWANTED = [
    b"",
    b"\x07\0\0",
    *(word(number) + bytes(60) for number in (0, 1, 2, 3, 4, 5, 9)),
    word(0x01000005) + bytes(60),
    word(6) + b"chan",
    word(6) + b"chan" + b"\x07\0\0",
    *(word(6) + b"chan" + word(number) + bytes(60) for number in (1, 2, 3, 4, 5, 6, 8)),
    b"\0\0\0\x07" + bytes(60),
    b"\xc1\0\0\0" + bytes.fromhex("2112a442") + bytes(12),
]


@given(st.integers(0, 10), st.integers(1, 65535))
def test_filter(options: int, port: int) -> None:
    for payload in WANTED:
        assert passes(packet(payload, options=options, port=port), port)
        assert not passes(packet(payload, options=options, port=port ^ 1), port)
        for fragment in (0x2000, 1, 0x1FFF):
            assert not passes(packet(payload, options=options, port=port, fragment=fragment), port)
        assert passes(packet(payload, options=options, port=port, fragment=0x4000), port)
    for payload in UNWANTED:
        assert not passes(packet(payload, options=options, port=port), port)


@given(st.binary(max_size=100))
def test_filter_takes_any_bytes(data: bytes) -> None:
    assert passes(data) in (True, False)


BESIDE = f"""
import contextlib, select, socket
from tunnel.endpoint import Address
from tunnel.paths.socket import PathSocket
from tests.tunnel.paths.test_socket import UNWANTED, WANTED

engine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
engine.bind(("127.0.0.1", {PORT}))
other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
other.bind(("127.0.0.1", 5000))
with contextlib.closing(PathSocket({PORT})) as paths:
    for payload in UNWANTED + WANTED:
        other.sendto(payload, ("127.0.0.1", {PORT}))
    other.sendto(WANTED[0], ("127.0.0.1", 5000))
    other.recv(100)
    got = []
    while select.select([paths], [], [], 0.2)[0]:
        while came := paths.receive():
            got.append(came)
    print(got == [(payload, Address("127.0.0.1", 5000)) for payload in WANTED])
    print([engine.recv(200) for _ in UNWANTED + WANTED] == UNWANTED + WANTED)
    print(paths.send(b"hello", Address("127.0.0.1", 5000)), *other.recvfrom(100))
    print(paths.send(b"hello", Address("2001:db8::1", 5000)), end=" ")
    print(paths.send(b"hello", Address("192.0.2.1", 5000)), paths.send(b"hello", Address("192.0.2.1", 5000)))
"""


@pytest.mark.bed
def test_beside_an_engine(net: Net) -> None:
    process = python(net.public, "-c", "import logging; logging.basicConfig(level=20)\n" + BESIDE)
    assert line(process) == "True"
    assert line(process) == "True"
    assert line(process) == f"True b'hello' ('127.0.0.1', {PORT})"
    assert line(process) == "False False False"
    assert process.stderr
    told = process.stderr.read()
    assert told.count("192.0.2.1") == 1
    assert "Network is unreachable" in told


WITHOUT = """
import os
from tunnel.paths.socket import PathSocket, PathSocketError
try:
    PathSocket(1)
except PathSocketError as error:
    print(error)
"""


@pytest.mark.bed
def test_without_privilege_it_says_what_to_do(net: Net) -> None:
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-all"]
    process = net.a.popen([*drop, sys.executable, "-c", WITHOUT], env={"PYTHONPATH": str(ROOT)})
    assert "CAP_NET_RAW" in line(process)


PUNCH = f"""
import select, sys
from tunnel.endpoint import Address
from tunnel.paths.socket import PathSocket
paths = PathSocket({PORT})
there = Address(sys.argv[1], {PORT})
for attempt in range(100):
    paths.send(b"\\x07\\0\\0\\0" + bytes([attempt]), there)
    if select.select([paths], [], [], 0.1)[0]:
        print(paths.receive()[1] == there)
        break
paths.send(b"\\x07\\0\\0\\0end", there)
"""


@pytest.mark.bed
def test_two_raw_sockets_punch_through_two_nats(net: Net) -> None:
    """Checksum zero survives masquerading, and the port is kept."""
    a = python(net.a, "-c", PUNCH, "203.0.114.2")
    b = python(net.b, "-c", PUNCH, "203.0.113.2")
    assert line(a) == line(b) == "True"


CATCH = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.setsockopt(17, 104, 1)
    sock.bind(("{PUBLIC}", 7000))
    print("there", flush=True)
    print(*sock.recvfrom(100))
"""


@pytest.mark.bed
def test_an_ordinary_socket_with_gro_gets_it_through_a_nat(net: Net) -> None:
    catcher = python(net.public, "-c", CATCH)
    assert line(catcher) == "there"
    send = f"""
from tunnel.endpoint import Address
from tunnel.paths.socket import PathSocket
PathSocket({PORT}).send(b"hello", Address("{PUBLIC}", 7000))
"""
    python(net.a, "-c", send).wait()
    assert line(catcher) == f"b'hello' ('203.0.113.2', {PORT})"
