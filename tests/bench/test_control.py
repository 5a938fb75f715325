"""What is asked of an engine's control socket, and what is made of the answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench import control
from e2e.lab.namespaces import BedError
from e2e.lab.topology import DEVICE, Node

Serve = Callable[..., AbstractContextManager[tuple[Node, list[bytes]]]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """A node whose engine answers one question in such parts, and what it was asked."""

    @contextmanager
    def answering(*parts: bytes) -> Iterator[tuple[Node, list[bytes]]]:
        asked: list[bytes] = []
        path = tmp_path / f"{DEVICE}.sock"

        def take(listener: socket.socket) -> None:
            with listener.accept()[0] as one:
                asked.append(one.recv(4096))
                for part in parts:
                    one.sendall(part)

        node: Any = SimpleNamespace(name="b1", space=SimpleNamespace(path=lambda inside: tmp_path / Path(inside).name))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            thread = threading.Thread(target=take, args=(listener,))
            thread.start()
            yield cast(Node, node), asked
            thread.join()

    return answering


def test_the_answer_is_in_its_order_however_it_is_cut(serve: Serve) -> None:
    with serve(b"listen_port=1\npublic_key=a\nend", b"point=b:1\nerrno=0\n", b"\n") as (node, asked):
        said = control.ask(node, "get=1")
    assert said == [("listen_port", "1"), ("public_key", "a"), ("endpoint", "b:1")]
    assert asked == [b"get=1\n\n"]


@pytest.mark.parametrize("answer", [b"errno=22\n\n", b"", b"listen_port=1\n"])
def test_a_refusal_and_a_torn_answer_are_told(serve: Serve, answer: bytes) -> None:
    with serve(answer) as (node, _), pytest.raises(BedError, match="engine of b1"):
        control.ask(node, "set=1\nciphers=none")
