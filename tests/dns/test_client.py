"""The agent's client, against a resolver that comes, goes and refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dns import client as module
from dns.client import ResolverClient
from dns.control import Codec, Done, GetStatus, Message, Refused, Replace, Status, Update, encode
from dns.records import Name, Zone
from dns.table import Table

ZONES = (Zone("shop"),)


def name(text: str, last: int) -> Name:
    return Name(text, a=(f"10.0.0.{last}",))


class Resolver:
    """Speaks the protocol from a Table, and remembers what it was sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = Table()
        self.got: list[Message] = []
        self.scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.path.unlink(missing_ok=True)
        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        with sock:
            await sock.bind(str(self.path))
            sock.listen()
            with self.scope:
                await trio.serve_listeners(self.serve, [trio.SocketListener(sock)], task_status=task_status)  # type: ignore[arg-type]

    async def serve(self, stream: trio.SocketStream) -> None:
        codec = Codec()
        async with stream:
            async for data in stream:
                for message in codec.feed(bytes(data)):
                    await stream.send_all(encode(self.handle(message)))

    def handle(self, message: Message) -> Message:
        self.got.append(message)
        if isinstance(message, Replace):
            faults = self.table.replace(message.zones, message.names)
        elif isinstance(message, Update):
            faults = self.table.update(message.changed, message.gone)
        else:
            assert isinstance(message, GetStatus)
            return Status(1.0, len(self.table.names), 1, 2, 3, 4, 5, 6)
        return Refused("; ".join(faults)) if faults else Done()

    @property
    def names(self) -> set[bytes]:
        return set(self.table.names)


@contextmanager
def quick(seconds: float = 5) -> Iterator[None]:
    with trio.fail_after(seconds):
        yield


def test_whole_table_then_only_changes(tmp_path: Path) -> None:
    async def main() -> None:
        resolver = Resolver(tmp_path / "sock")
        client = ResolverClient(resolver.path)
        async with trio.open_nursery() as nursery:
            await nursery.start(resolver.run)
            nursery.start_soon(client.run)
            with quick():
                client.set(ZONES, {"a.shop": name("a.shop", 1), "b.shop": name("b.shop", 2)})
                await client.applied()
                client.update([name("a.shop", 3)], ["b.shop"])
                client.update([name("a.shop", 4), name("c.shop", 5)])
                await client.applied()
                client.set(ZONES, {"a.shop": name("a.shop", 4), "d.shop": name("d.shop", 6)})
                await client.applied()
                client.set((Zone("other"),), {"a.shop": name("a.shop", 4)})
                await client.applied()
                client.update()
                await client.applied()
            assert client.connected
            nursery.cancel_scope.cancel()
        assert resolver.got == [
            Replace(ZONES, (name("a.shop", 1), name("b.shop", 2))),
            resolver.got[1],
            resolver.got[2],
            Replace((Zone("other"),), (name("a.shop", 4),)),
        ]
        first, second = resolver.got[1:3]
        assert isinstance(first, Update)
        assert isinstance(second, Update)
        assert (set(first.changed), first.gone) == ({name("a.shop", 4), name("c.shop", 5)}, ("b.shop",))
        assert (second.changed, second.gone) == ((name("d.shop", 6),), ("c.shop",))

    trio.run(main)


def test_nothing_is_sent_before_anything_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        resolver = Resolver(tmp_path / "sock")
        client = ResolverClient(resolver.path)
        async with trio.open_nursery() as nursery:
            await nursery.start(resolver.run)
            nursery.start_soon(client.run)
            client.update([name("a.shop", 1)])
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert resolver.got == []
            client.set(ZONES, {})
            with quick():
                await client.applied()
            assert resolver.got == [Replace(ZONES, ())]
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_resolver_that_comes_late_and_starts_again(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "sock"
        client = ResolverClient(path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            client.set(ZONES, {"a.shop": name("a.shop", 1)})
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert "not reachable" in client.problem
            assert await client.status() is None
            for _ in range(2):
                resolver = Resolver(path)
                await nursery.start(resolver.run)
                with quick():
                    client.update([name("b.shop", 2)])
                    await client.applied()
                assert resolver.names == {b"\1a\4shop\0", b"\1b\4shop\0"}
                assert client.problem == ""
                status = await client.status()
                assert status is not None
                assert status.names == 2
                resolver.scope.cancel()
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_is_refused_is_shown_and_the_rest_is_applied(tmp_path: Path) -> None:
    async def main() -> None:
        resolver = Resolver(tmp_path / "sock")
        client = ResolverClient(resolver.path)
        async with trio.open_nursery() as nursery:
            await nursery.start(resolver.run)
            nursery.start_soon(client.run)
            with quick():
                client.set(ZONES, {"a.shop": name("a.shop", 999), "b.shop": name("b.shop", 2)})
                await client.applied()
                assert "a.shop" in client.problem
                assert resolver.names == {b"\1b\4shop\0"}
                client.update([name("a.shop", 1)])
                await client.applied()
            assert client.problem == ""
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("answer", [b"\0\0\0\2\1\xc0", b""])
def test_a_resolver_that_speaks_nonsense_or_nothing(tmp_path: Path, answer: bytes) -> None:
    """Connections end, with a reason, and are made again; virtual time makes the wait for an answer short."""

    async def main() -> None:
        taken = 0
        enough = trio.Event()
        path = tmp_path / "sock"

        async def serve(stream: trio.SocketStream) -> None:
            nonlocal taken
            taken += 1
            if taken == 3:
                enough.set()
            async with stream:
                async for _ in stream:
                    if answer:
                        await stream.send_all(answer)

        sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        await sock.bind(str(path))
        sock.listen()
        client = ResolverClient(path)
        client.set(ZONES, {})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(sock)])
            nursery.start_soon(client.run)
            await enough.wait()
            assert ("not a message" in client.problem) if answer else ("did not answer within" in client.problem)
            assert await client.status() is None
            nursery.cancel_scope.cancel()
        sock.close()

    trio.run(main, clock=MockClock(autojump_threshold=0.05))
    assert module.ANSWER_WITHIN < 60
