"""A client that costs little, so that what is measured is the way and not the client.

Run by path inside a bed (`python -I -S call.py WHAT JSON`), it imports nothing of the project. The JSON object has what
the function WHAT takes. Most measure several ways, `places`, in turn, in `rounds`, every other round the other way
round, and print one JSON document: a list of rounds, each a list of figures in the order of `places` (pairs of
address and port).

    stream         {seconds}                    Mbit/s into the stream port of `answer.py`
    connections    {seconds, in_flight, reset}  connections a second, each answered by a word, and those that failed
    download       {path, size}                 ms from connecting to the last byte of an HTTP body
    keep_alive     {count}                      µs of the middle one of so many HTTP requests over one connection
    ping           {size, count}                µs of the middle one of so many UDP round trips

Three begin at a line on standard input and tell as they go, in lines of JSON with times of CLOCK_MONOTONIC:

    first          {name, server, port}         asks for a name, then by HTTP, again and again until both are answered
                                                (without a port a name is all)
    follow         {address, port}              connects again and again, and tells each new word that answers
    watch          {place, path, size}          reads a long HTTP body: the longest gap between two reads (ms), bytes
                                                that did not come or are not what the server of `examples/` sends
"""

import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable

COMMAND = (sys.executable, "-I", "-S", os.path.abspath(__file__))
"""How to run this."""
RESET = struct.pack("ii", 1, 0)
BLOCK = bytes(1 << 20)
PATIENCE = 10.0
"""Seconds after which a call is given up."""
ASK_AGAIN = 0.005
"""Seconds between two questions, or two connections, for an answer that has not come."""
AT_ONCE = 64
"""Connections that a first call has under way at most: of those lost in between, only later ones are answered."""

Place = tuple[str, int]


def stream(place: Place, seconds: float) -> float:
    with socket.create_connection(place, PATIENCE) as one:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            one.sendall(BLOCK)
        one.shutdown(socket.SHUT_WR)
        total = int.from_bytes(one.recv(8), "big")
        return total * 8 / 1e6 / (time.perf_counter() - began)


def connections(place: Place, seconds: float, in_flight: int, reset: bool) -> list[float]:
    """With `reset`, a connection ends at once, and leaves no TIME_WAIT to run out of ports by."""
    poll, flying, made, failed = select.epoll(), {}, 0, 0

    def start() -> None:
        one = socket.socket()
        one.setblocking(False)
        if reset:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.connect_ex(place)
        flying[one.fileno()] = one
        poll.register(one, select.EPOLLIN)

    for _ in range(in_flight):
        start()
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        for number, _ in poll.poll(1):
            one = flying.pop(number)
            try:
                answered = bool(one.recv(16))
            except OSError:
                answered = False
            one.close()
            made += answered
            failed += not answered
            start()
    for one in flying.values():
        one.close()
    return [made / (now - began), failed]


def download(place: Place, path: str, size: int) -> float:
    buffer = memoryview(bytearray(1 << 20))
    began = time.perf_counter()
    with socket.create_connection(place, PATIENCE) as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += _some(one, buffer)
        left = size - len(head.partition(b"\r\n\r\n")[2])
        while left > 0:
            if not (got := one.recv_into(buffer)):
                sys.exit(f"the body ended {left} bytes early")
            left -= got
        return (time.perf_counter() - began) * 1e3


def keep_alive(place: Place, count: int) -> float:
    buffer = memoryview(bytearray(4096))
    times = []
    with socket.create_connection(place, PATIENCE) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.perf_counter()
            one.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer[:-1]:
                answer += _some(one, buffer)
            times.append(time.perf_counter() - began)
    return sorted(times)[count // 2] * 1e6


def ping(place: Place, size: int, count: int) -> float:
    text = bytes(size)
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(PATIENCE)
        one.connect(place)
        for _ in range(count):
            began = time.perf_counter()
            one.send(text)
            one.recv(65536)
            times.append(time.perf_counter() - began)
    return sorted(times)[count // 2] * 1e6


def _some(one: socket.socket, buffer: memoryview) -> bytes:
    got = one.recv_into(buffer)
    if not got:
        sys.exit("the connection ended early")
    return bytes(buffer[:got])


MEASURES: dict[str, Callable[..., object]] = {
    each.__name__: each for each in (stream, connections, download, keep_alive, ping)
}


def in_turn(what: str, places: list[Place], rounds: int, **how: object) -> None:
    """Measure all places so often, every other round the other way round."""
    table = []
    for number in range(rounds):
        order = list(range(len(places)))[:: -1 if number % 2 else 1]
        figures = {index: MEASURES[what]((places[index][0], places[index][1]), **how) for index in order}
        table.append([figures[index] for index in range(len(places))])
    print(json.dumps(table))


def first(name: str, server: str, port: int) -> None:
    """One question and one connection are begun every `ASK_AGAIN`; a refusal is no answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = b"\x11\x11\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    until = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(ASK_AGAIN)
        asking.connect((server, 53))
        address = ""
        while not address and time.monotonic() < until:
            try:
                asking.send(question)
                answer = asking.recv(1500)
                if answer[6:8] == b"\0\1":
                    address = socket.inet_ntoa(answer[-4:])
            except TimeoutError:
                pass
            except OSError:
                time.sleep(ASK_AGAIN)
    named = time.monotonic()
    answered = bool(address and port) and _call((address, port), until)
    print(
        json.dumps({"named": named if address else None, "answered": time.monotonic() if answered else None}),
        flush=True,
    )


def _call(place: Place, until: float) -> bool:
    """One HTTP request, over whichever connection comes about."""
    poll = select.epoll()
    flying: dict[int, socket.socket] = {}
    due = 0.0
    while (now := time.monotonic()) < until:
        if now >= due:
            due = now + ASK_AGAIN
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(place)
            flying[one.fileno()] = one
            poll.register(one, select.EPOLLOUT)
            if len(flying) > AT_ONCE:
                flying.pop(next(iter(flying))).close()
        for number, what in poll.poll(max(0.0, due - time.monotonic())):
            one = flying[number]
            try:
                if what & (select.EPOLLERR | select.EPOLLHUP):
                    flying.pop(number).close()
                elif what & select.EPOLLIN:
                    return b" 200 " in one.recv(4096)
                else:
                    one.send(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                    poll.modify(one, select.EPOLLIN)
            except OSError:
                flying.pop(number).close()
    return False


def follow(address: str, port: int) -> None:
    before = b""
    while True:
        try:
            with socket.create_connection((address, port), 1) as one:
                word = one.recv(64)
        except OSError:
            continue
        if word != before:
            print(json.dumps({"at": time.monotonic(), "word": word.decode()}), flush=True)
            before = word
        time.sleep(0.001)


def watch(place: Place, path: str, size: int) -> None:
    pattern = bytes(range(251)) * 4200
    buffer = memoryview(bytearray(1 << 19))
    with socket.create_connection((place[0], place[1]), PATIENCE) as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += _some(one, buffer)
        data = memoryview(head.partition(b"\r\n\r\n")[2])
        position, wrong, gap, last = 0, 0, 0.0, time.monotonic()
        while True:
            first = position % 251
            wrong += len(data) * (data != pattern[first : first + len(data)])
            position += len(data)
            if position >= size:
                break
            try:
                data = buffer[: one.recv_into(buffer)]
            except OSError:
                break
            if not data:
                break
            now = time.monotonic()
            gap, last = max(gap, now - last), now
    lost = size - position + wrong
    print(json.dumps({"ended": time.monotonic(), "gap": gap * 1e3, "lost": lost}), flush=True)


def main() -> None:
    what, how = sys.argv[1], json.loads(sys.argv[2])
    telling: dict[str, Callable[..., None]] = {"first": first, "follow": follow, "watch": watch}
    if what not in telling:
        return in_turn(what, **how)
    print("ready", flush=True)
    sys.stdin.readline()
    telling[what](**how)
    os._exit(0)


if __name__ == "__main__":
    main()
