"""What a node's engine says on its control socket (WireGuard's cross-platform userspace API, and our keys)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from e2e.lab.namespaces import BedError
from e2e.lab.topology import DEVICE, Node


def ask(node: Node, operation: str) -> list[tuple[str, str]]:
    """Keys and values of the answer, in its order; `operation` is without its last, empty line.

    Raises OSError when there is no engine, BedError when it refuses.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(node.space.path(f"/run/wireguard/{DEVICE}.sock")))
        asking.sendall(f"{operation}\n\n".encode())
        answer = b"".join(_parts(asking)).decode()
    pairs = [(key, value) for key, _, value in (line.partition("=") for line in answer.splitlines() if line)]
    if pairs[-1:] != [("errno", "0")]:
        raise BedError(f"the engine of {node.name} answers {operation!r} with {answer.strip()!r}")
    return pairs[:-1]


def _parts(asking: socket.socket) -> Iterator[bytes]:
    """All that comes, up to the empty line that ends an answer, or the end."""
    end = b""
    while not end.endswith(b"\n\n") and (part := asking.recv(1 << 16)):
        end = (end + part)[-2:]
        yield part
