"""A client inside the bed: calls services as a workload would, and keeps flows of bytes going while things break.

Run by path in a pod's or a node's namespaces (`python -I calls.py`), it imports nothing of the project. It takes
one JSON object a line, `{"id": N, "do": NAME, ...}`, each carried out in a thread of its own, and answers each with
`{"id": N, "ok": true or false, ...}`, with `"error"` when it isn't ok. All times are milliseconds.

    lookup {name}                                    answers
    http   {name, port, path, timeout}               status, body and the times of name, connection and answer
    tcp    {name, port, text, timeout}               the echo, over one connection; without text what the server says
    udp    {name, port, text, timeout}               the echo, one datagram, sent again after 0.5 s without one
    srv    {name, server, timeout}                   targets of an SRV question
    series {name, port, path, count}                 HTTP over one connection, `count` times: the middle time
    open   {flow, kind, name, port, path}            a flow begins: `echo` or `download`
    flow   {flow, mark}                              how it fares; `mark` starts counting gaps and bytes anew
    shut   {flow}                                    it ends

A flow of kind `echo` sends numbered blocks through a TCP echo and compares every byte that comes back; one of kind
`download` reads one long HTTP body and compares it with the pattern that the server repeats. A gap is the time
between two reads that brought bytes, the present one included.
"""

import contextlib
import http.client
import json
import os
import random
import select
import socket
import struct
import sys
import threading
import time

BLOCK = 1024
PACE = 0.004
"""Seconds between two blocks of an echo flow: enough to see a gap of 10 ms, little enough to load nothing."""

TICK = 0.2
"""Seconds at most until a flow notices that it has been shut."""


def now() -> float:
    return time.monotonic() * 1000


def resolve(name: str, port: int, kind: int) -> tuple[list[str], float]:
    start = now()
    found = socket.getaddrinfo(name, port, socket.AF_INET, kind)
    return list(dict.fromkeys(str(address[4][0]) for address in found)), now() - start


class Connection(http.client.HTTPConnection):
    """Connects to one address, whatever the name says, so that name and connection are timed apart."""

    address = ""

    def connect(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), self.timeout)


def lookup(order: dict) -> dict:  # type: ignore[type-arg]
    answers, took = resolve(order["name"], 0, socket.SOCK_DGRAM)
    return {"answers": answers, "name_ms": took}


def http_call(order: dict) -> dict:  # type: ignore[type-arg]
    answers, name_ms = resolve(order["name"], order["port"], socket.SOCK_STREAM)
    start = now()
    connection = Connection(order["name"], order["port"], timeout=order.get("timeout", 3))
    connection.address = answers[0]
    connection.connect()
    connect_ms = now() - start
    source, destination = connection.sock.getsockname(), connection.sock.getpeername()
    connection.request("GET", order.get("path", "/"), headers={"Connection": "close"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return {
        "answers": answers,
        "name_ms": name_ms,
        "connect_ms": connect_ms,
        "answer_ms": now() - start - connect_ms,
        "ms": now() - start + name_ms,
        "source": source,
        "destination": destination,
        "status": response.status,
        "size": len(body),
        "body": body[:200].decode("utf-8", "replace"),
    }


def tcp_call(order: dict) -> dict:  # type: ignore[type-arg]
    answers, name_ms = resolve(order["name"], order["port"], socket.SOCK_STREAM)
    text = order["text"].encode()
    start = now()
    with socket.create_connection((answers[0], order["port"]), order.get("timeout", 3)) as sock:
        connect_ms = now() - start
        sock.sendall(text)
        back = b""
        while (not text or len(back) < len(text)) and (part := sock.recv(65536)):
            back += part
        if text and back != text:
            raise ValueError(f"the echo is not what was sent: {back[:80]!r}")
        return {
            "answers": answers,
            "name_ms": name_ms,
            "connect_ms": connect_ms,
            "answer_ms": now() - start - connect_ms,
            "ms": now() - start + name_ms,
            "source": sock.getsockname(),
            "destination": sock.getpeername(),
            "body": back[:200].decode("utf-8", "replace"),
        }


def udp_call(order: dict) -> dict:  # type: ignore[type-arg]
    answers, name_ms = resolve(order["name"], order["port"], socket.SOCK_DGRAM)
    text = order["text"].encode()
    start = now()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((answers[0], order["port"]))
        sock.settimeout(0.5)
        deadline = start + order.get("timeout", 3) * 1000
        tries = 0
        while True:
            tries += 1
            sock.send(text)
            sent = now()
            try:
                back = sock.recv(65536)
                break
            except TimeoutError:
                if now() > deadline:
                    raise
        if back != text:
            raise ValueError(f"the echo is not what was sent: {back[:80]!r}")
        return {
            "answers": answers,
            "name_ms": name_ms,
            "answer_ms": now() - sent,
            "ms": now() - start + name_ms,
            "tries": tries,
            "source": sock.getsockname(),
            "destination": sock.getpeername(),
        }


def srv_call(order: dict) -> dict:  # type: ignore[type-arg]
    """RFC 2782, asked with one datagram; names of the answer may be compressed (RFC 1035, 4.1.4)."""
    labels = order["name"].rstrip(".").split(".")
    number = random.getrandbits(16)
    question = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0" + struct.pack("!HH", 33, 1)
    start = now()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(order.get("timeout", 3))
        sock.connect((order["server"], 53))
        sock.send(struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + question)
        reply = sock.recv(4096)
    took = now() - start
    identity, flags, _, count, _, _ = struct.unpack_from("!HHHHHH", reply)
    if identity != number or flags & 0xF:
        raise ValueError(f"the resolver answers with code {flags & 0xF}")
    position = 12 + len(question)
    targets = []
    for _ in range(count):
        _, position = read_name(reply, position)
        kind, _, _, length = struct.unpack_from("!HHIH", reply, position)
        position += 10
        if kind == 33:
            priority, weight, port = struct.unpack_from("!HHH", reply, position)
            target, _ = read_name(reply, position + 6)
            targets.append({"priority": priority, "weight": weight, "port": port, "target": target})
        position += length
    if not targets:
        raise ValueError("no SRV record in the answer")
    return {"targets": targets, "ms": took, "name_ms": took}


def series(order: dict) -> dict:  # type: ignore[type-arg]
    answers, _ = resolve(order["name"], order["port"], socket.SOCK_STREAM)
    connection = Connection(order["name"], order["port"], timeout=order.get("timeout", 3))
    connection.address = answers[0]
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(order["count"]):
        start = now()
        connection.request("GET", order.get("path", "/"))
        connection.getresponse().read()
        times.append(now() - start)
    connection.close()
    return {"median_ms": sorted(times)[len(times) // 2], "count": len(times)}


def read_name(message: bytes, position: int) -> tuple[str, int]:
    labels: list[str] = []
    end = 0
    while length := message[position]:
        if length >= 0xC0:
            end = end or position + 2
            position = struct.unpack_from("!H", message, position)[0] & 0x3FFF
            continue
        labels.append(message[position + 1 : position + 1 + length].decode())
        position += 1 + length
    return ".".join(labels), end or position + 1


class Flow:
    """Bytes under way over one connection, in a thread of its own."""

    def __init__(self, order: dict) -> None:  # type: ignore[type-arg]
        self.kind: str = order["kind"]
        answers, _ = resolve(order["name"], order["port"], socket.SOCK_STREAM)
        self.sock = socket.create_connection((answers[0], order["port"]), order.get("timeout", 5))
        self.sock.settimeout(None)
        self.ends = {"source": self.sock.getsockname(), "destination": self.sock.getpeername()}
        self.bytes = 0
        self.longest = 0.0
        self.last = now()
        self.error = ""
        self.shut = False
        self.path = order.get("path", "/")
        self.host = order["name"]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def got(self, count: int) -> None:
        at = now()
        self.longest = max(self.longest, at - self.last)
        self.last = at
        self.bytes += count

    def mark(self) -> None:
        self.longest = 0.0
        self.bytes = 0

    def state(self) -> dict:  # type: ignore[type-arg]
        silent = now() - self.last
        return {
            "bytes": self.bytes,
            "longest_gap_ms": max(self.longest, silent),
            "silent_ms": silent,
            "broken": self.error,
            **self.ends,
        }

    def _run(self) -> None:
        try:
            (self._echo if self.kind == "echo" else self._download)()
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
        else:
            if not self.shut:
                self.error = "the other side has closed the connection"

    def _read(self, wait: float) -> bytes | None:
        """Bytes, none (b'') at the end, None when nothing came within `wait` seconds."""
        if not select.select([self.sock], [], [], wait)[0]:
            return None
        data = self.sock.recv(262144)
        if data:
            self.got(len(data))
        return data

    def _echo(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        sent, expected, due = bytearray(), bytearray(), time.monotonic()
        number = 0
        while not self.shut:
            at = time.monotonic()
            if at >= due and len(expected) < 64 * BLOCK:
                block = struct.pack("!Q", number) * (BLOCK // 8)
                number += 1
                sent += block
                expected += block
                due = at + PACE
            if sent:
                with contextlib.suppress(BlockingIOError):
                    del sent[: self.sock.send(sent)]
            data = self._read(max(0.001, due - time.monotonic()) if len(expected) < 64 * BLOCK else TICK)
            if data is None:
                continue
            if not data:
                return
            if expected[: len(data)] != data:
                raise ValueError("what came back is not what was sent")
            del expected[: len(data)]

    def _download(self) -> None:
        request = f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n"
        self.sock.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            if self.shut:
                return
            data = self._read(TICK)
            if data == b"":
                raise ValueError("the connection closed before an answer")
            head += data or b""
        head, body = head.split(b"\r\n\r\n", 1)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise ValueError(head.split(b"\r\n", 1)[0].decode("latin-1"))
        position = 0
        while True:
            self._compare(position, body)
            position += len(body)
            data = None
            while data is None:
                if self.shut:
                    return
                data = self._read(TICK)
            if not data:
                return
            body = data

    @staticmethod
    def _compare(position: int, data: bytes) -> None:
        offset = position % len(PATTERN)
        whole = PATTERN * ((offset + len(data)) // len(PATTERN) + 1)
        if whole[offset : offset + len(data)] != data:
            raise ValueError(f"byte {position} and on are not what the server sends")


PATTERN = bytes(range(251))
"""What the server of downloads repeats."""

FLOWS: dict[str, Flow] = {}


def open_flow(order: dict) -> dict:  # type: ignore[type-arg]
    FLOWS[order["flow"]] = Flow(order)
    return FLOWS[order["flow"]].state()


def flow_state(order: dict) -> dict:  # type: ignore[type-arg]
    flow = FLOWS[order["flow"]]
    state = flow.state()
    if order.get("mark"):
        flow.mark()
    return state


def shut_flow(order: dict) -> dict:  # type: ignore[type-arg]
    flow = FLOWS.pop(order["flow"])
    flow.shut = True
    flow.thread.join(2)
    flow.sock.close()
    return flow.state()


DO = {
    "lookup": lookup,
    "http": http_call,
    "tcp": tcp_call,
    "udp": udp_call,
    "srv": srv_call,
    "series": series,
    "open": open_flow,
    "flow": flow_state,
    "shut": shut_flow,
}


def carry_out(order: dict, lock: threading.Lock) -> None:  # type: ignore[type-arg]
    try:
        answer = {"ok": True, **DO[order["do"]](order)}
    except Exception as error:
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    with lock:
        print(json.dumps({"id": order["id"], **answer}), flush=True)


def main() -> None:
    lock = threading.Lock()
    for line in sys.stdin:
        threading.Thread(target=carry_out, args=(json.loads(line), lock), daemon=True).start()
    os._exit(0)


if __name__ == "__main__":
    main()
