"""The mesh over engines and sockets in memory."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import trio

from tests.tunnel.mesh.fakes import FakeEngine, FakeLinks, Wire
from tests.tunnel.paths.keys import KEYS, public
from tunnel.endpoint import Address, Endpoint
from tunnel.mesh import Datagrams, Mesh, Routes
from tunnel.paths.socket import PathSocketError
from tunnel.peer import LocalNode, PathKind, Peer

ADDRESSES = (Address("192.168.7.1", 4001), Address("192.168.7.2", 4002))


class End:
    """One node of two on a LAN."""

    def __init__(self, wire: Wire, index: int) -> None:
        self.engine = FakeEngine()
        self.links = FakeLinks()
        self.refuse = False
        self.wire, self.index = wire, index
        self.node = LocalNode(f"n{index}", KEYS[index], ADDRESSES[index].port, f"10.99.0.{index + 1}")
        self.mesh = Mesh(self.node, self.engine, self.open, cast(Routes, self.links))
        other = 1 - index
        self.peer = Peer("peer", public(KEYS[other]), (f"10.99.0.{other + 1}/32", "fd99::/64"), (ADDRESSES[other],))
        self.mesh.apply({"peer": self.peer})

    def open(self, port: int) -> Datagrams:
        if self.refuse:
            raise PathSocketError("no raw socket")
        return self.wire.open(Address(ADDRESSES[self.index].host, port))

    def kind(self) -> PathKind:
        return self.mesh.paths()[0].kind


@asynccontextmanager
async def two() -> AsyncIterator[tuple[End, End]]:
    wire = Wire()
    ends = End(wire, 0), End(wire, 1)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for end in ends:
                end.engine.up.set()
                await nursery.start(end.mesh.run)
            yield ends
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for are plain fields of fakes
        await trio.sleep(0.005)


def run(test: Callable[[End, End], Awaitable[None]]) -> None:
    async def main() -> None:
        async with two() as ends:
            await test(*ends)

    trio.run(main)


def test_neighbours_find_each_other_and_routes_are_set() -> None:
    async def test(left: End, right: End) -> None:
        await until(lambda: left.kind() is right.kind() is PathKind.LAN)
        path = left.mesh.paths()[0]
        assert path.endpoint == Endpoint(*ADDRESSES[1])
        assert path.round_trip is not None
        assert path.since is not None
        assert path.framing == "packets"
        assert left.links.routes[-1] == {"10.99.0.2/32": "10.99.0.1", "fd99::/64": ""}
        assert left.mesh.trouble == ""
        assert left.mesh.buffers == (1, 2)
        pinned = {pinned for _, _, pinned in left.engine.moves}, {pinned for _, _, pinned in right.engine.moves}
        chooser = public(KEYS[0]) < public(KEYS[1])
        assert pinned == ({chooser}, {not chooser})

    run(test)


def test_a_restarted_engine_gets_all_again() -> None:
    async def test(left: End, right: End) -> None:
        await until(lambda: left.kind() is PathKind.LAN)
        left.engine.stop()
        await until(lambda: "away" in left.mesh.trouble)
        configs, routes = len(left.engine.configs), len(left.links.routes)
        left.engine.up.set()
        await until(lambda: len(left.engine.configs) > configs and left.mesh.trouble == "")
        config = left.engine.configs[-1]
        assert config.private_key == left.node.private_key
        assert config.peers[0].endpoint == Endpoint(*ADDRESSES[1])
        assert len(left.links.routes) > routes

    run(test)


def test_peers_come_and_go() -> None:
    async def test(left: End, right: End) -> None:
        await until(lambda: left.kind() is PathKind.LAN)
        other = Peer("other", b"\x09" * 32, ("10.99.0.9/32",))
        left.mesh.apply({"other": other, "low": Peer("low", bytes(32))})
        paths = {path.name: path for path in left.mesh.paths()}
        assert "none of X25519" in paths["low"].reason
        assert paths["other"].kind is PathKind.NONE
        await until(lambda: [peer.public_key for peer in left.engine.configs[-1].peers] == [other.public_key])
        left.mesh.apply({"peer": left.peer})
        await until(lambda: left.kind() is PathKind.LAN)
        left.mesh.apply({})
        assert left.mesh.paths() == []
        await until(lambda: left.engine.configs[-1].peers == () and left.links.routes[-1] == {})

    run(test)


def test_changes_are_told() -> None:
    async def test(left: End, right: End) -> None:
        while left.kind() is not PathKind.LAN:
            await left.mesh.changed()

    run(test)


def test_no_socket_and_no_device_are_trouble_that_ends() -> None:
    async def test(left: End, right: End) -> None:
        left.refuse = True
        left.links.device = False
        left.mesh.set_node(LocalNode("n0", KEYS[0], ADDRESSES[0].port + 1, "10.99.0.1"))
        await until(lambda: "no raw socket" in left.mesh.trouble and "no such device" in left.mesh.trouble)
        left.refuse = False
        left.links.device = True
        await until(lambda: left.mesh.trouble == "")

    run(test)


def test_a_new_key_begins_anew() -> None:
    async def test(left: End, right: End) -> None:
        await until(lambda: left.kind() is PathKind.LAN)
        key = bytes(range(3, 35))
        left.mesh.set_node(LocalNode("n0", key, ADDRESSES[0].port, "10.99.0.1"))
        await until(lambda: left.engine.configs[-1].private_key == key)
        right.mesh.apply({"peer": Peer("peer", public(key), ("10.99.0.1/32",), (ADDRESSES[0],))})
        await until(lambda: left.kind() is right.kind() is PathKind.LAN)

    run(test)


def test_what_somebody_else_changed_at_the_engine_is_set_again() -> None:
    async def test(left: End, right: End) -> None:
        await until(lambda: left.kind() is right.kind() is PathKind.LAN)
        configs = left.engine.configs
        before = len(configs)
        left.engine.peers.clear()
        await until(lambda: len(configs) > before)
        await until(lambda: left.engine.peers.keys() == {left.peer.public_key} and not left.mesh.trouble)
        before = len(configs)
        left.engine.port = 12345
        await until(lambda: len(configs) > before and not left.mesh.trouble)
        assert left.engine.port == left.node.listen_port
        before, polls = len(configs), left.engine.polls
        await until(lambda: left.engine.polls > polls + 3)
        assert len(configs) == before

    run(test)
