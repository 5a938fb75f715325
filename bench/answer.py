"""Servers to measure against, in one process: streams of bytes swallowed, connections answered with one word.

Run by path inside a bed (`python -I -S answer.py WORD STREAM_PORT CONNECT_PORT...`), it imports nothing of the project.
What comes to the stream port is read to its end and answered with its length (8 bytes, network order). A connection
to any other port gets WORD and is closed.
"""

import os
import select
import socket
import sys
import threading

COMMAND = (sys.executable, "-I", "-S", os.path.abspath(__file__))
"""How to run this."""


def take(one: socket.socket) -> None:
    """Read one stream to its end."""
    buffer, total = bytearray(1 << 20), 0
    while size := one.recv_into(buffer):
        total += size
    one.sendall(total.to_bytes(8, "big"))
    one.close()


def streams(port: int) -> None:
    """One stream at a time."""
    listener = socket.create_server(("0.0.0.0", port))
    while True:
        take(listener.accept()[0])


def connections(word: bytes, ports: list[int]) -> None:
    """As many connections as come."""
    poll = select.epoll()
    listeners = {}
    for port in ports:
        listener = socket.create_server(("0.0.0.0", port), backlog=4096)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        poll.register(listener, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            try:
                while True:
                    with listeners[number].accept()[0] as one:
                        one.send(word)
            except OSError:
                pass  # there are no more, or the client was at its end and reset it


if __name__ == "__main__":
    stream_port, *connect_ports = map(int, sys.argv[2:])
    threading.Thread(target=streams, args=(stream_port,), daemon=True).start()
    connections(sys.argv[1].encode(), connect_ports)
