"""A resolver running in a thread on loopback, and upstreams for it that do as a test says."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from dnslib import RR, DNSRecord

from dns import tablefile
from dns.server import Options, Server

Behaviour = Callable[[DNSRecord, bool], "DNSRecord | bytes | None"]
"""What an upstream answers to a question, over TCP or not."""


def free_port() -> int:
    """A port that nobody has, over UDP and TCP."""
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        return int(tcp.getsockname()[1])


@contextlib.contextmanager
def resolver(folder: Path, *upstreams: str, table: bytes = b"") -> Iterator[tuple[Server, tuple[str, int]]]:
    """A server with these upstreams in its resolv.conf; gives its address, too."""
    if table:
        tablefile.write(folder / "dns.table", table)
    (folder / "resolv.conf").write_text("".join(f"nameserver {address}\n" for address in upstreams))
    port = free_port()
    options = Options("127.0.0.1", port, folder / "sock", folder / "dns.table", folder / "resolv.conf")
    server = Server(options)
    reading, writing = os.pipe()
    server.wake_by(reading)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server, ("127.0.0.1", port)
    finally:
        os.write(writing, b"x")
        thread.join(5)
        stuck = thread.is_alive()
        server.close()
        os.close(reading)
        os.close(writing)
        assert not stuck


class Upstream:
    """A DNS server in threads, UDP and TCP; `asked` holds the questions it got."""

    def __init__(self, address: str, port: int, behaviour: Behaviour) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.behaviour = behaviour
        self.asked: list[tuple[str, bool, int]] = []
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._tcp = socket.socket(family, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._udp.bind((address, port))
        self._tcp.bind((address, port))
        self._tcp.listen()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def _answer(self, message: bytes, tcp: bool, port: int) -> bytes | None:
        question = DNSRecord.parse(message)
        self.asked.append((str(question.q.qname), tcp, port))
        answer = self.behaviour(question, tcp)
        return bytes(answer.pack()) if isinstance(answer, DNSRecord) else answer

    def _serve_udp(self) -> None:
        while True:
            message, client = self._udp.recvfrom(4096)
            if not message:
                return
            answer = self._answer(message, False, client[1])
            if answer is not None:
                self._udp.sendto(answer, client)

    def _serve_tcp(self) -> None:
        while True:
            sock, client = self._tcp.accept()
            with sock:
                message = receive(sock)
                if not message:
                    return
                answer = self._answer(message, True, client[1])
                if answer is not None:
                    sock.sendall(len(answer).to_bytes(2, "big") + answer)

    def close(self) -> None:
        """End the threads: an empty message tells them."""
        with socket.socket(self._udp.family, socket.SOCK_DGRAM) as udp:
            udp.sendto(b"", self._udp.getsockname())
        with socket.socket(self._tcp.family) as tcp:
            tcp.connect(self._tcp.getsockname())
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def zone(**names: str) -> Behaviour:
    """Answers A records by the first label of the name, NXDOMAIN for others."""

    def answer(question: DNSRecord, tcp: bool) -> DNSRecord:
        reply = question.reply(aa=0)
        address = names.get(str(question.q.qname).split(".")[0])
        if address:
            reply.add_answer(*RR.fromZone(f"{question.q.qname} 60 A {address}"))
        else:
            reply.header.rcode = 3
        return reply

    return answer


def receive(sock: socket.socket) -> bytes:
    """One message from a TCP connection, empty at its end."""
    head = exactly(sock, 2)
    return exactly(sock, int.from_bytes(head, "big")) if head else b""


def exactly(sock: socket.socket, count: int) -> bytes:
    """That many bytes, or none."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            return b""
        data += more
    return data


def ask(server: tuple[str, int], message: bytes, timeout: float = 5.0) -> DNSRecord:
    """Send a query over UDP and read the answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect(server)
        sock.send(message)
        return DNSRecord.parse(sock.recv(65535))


def question(name: str, kind: str = "A") -> bytes:
    """A query as dnslib makes it."""
    return bytes(DNSRecord.question(name, kind).pack())


def addresses(answer: DNSRecord) -> list[str]:
    """What the answer section says."""
    return [str(each.rdata) for each in answer.rr]
