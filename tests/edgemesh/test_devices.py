"""The node's bridge is set, healed, and left alone while nothing is known."""

import logging
import socket
from collections.abc import Iterable, Iterator, Mapping

import pytest
import trio
import trio.testing

from edgemesh import devices as module
from edgemesh.config import Config
from edgemesh.devices import Devices
from tests.edgemesh.running import eventually
from tunnel.links import Changes, Device, LinkError, Links, NoDevice

CONFIG = Config(node_name="a")
BRIDGE = CONFIG.bridge_device


class FakeChanges(Changes):
    def __init__(self) -> None:
        self._socket, self._other = socket.socketpair()
        self._socket.setblocking(False)

    def say(self) -> None:
        self._other.send(b"x")

    def drain(self) -> bool:
        try:
            return bool(self._socket.recv(100))
        except BlockingIOError:
            return False

    def close(self) -> None:
        super().close()
        self._other.close()


class FakeLinks(Links):
    def __init__(self) -> None:
        self.bridges: dict[str, list[str]] = {}
        self.routed: dict[str, dict[str, str]] = {}
        self.broken = ""
        self.notes = FakeChanges()

    def device(self, name: str) -> Device:
        if name not in self.bridges:
            raise NoDevice(name)
        return Device(1, name, "bridge", 1)

    def ensure_bridge(self, name: str, addresses: Iterable[str]) -> None:
        if self.broken:
            raise LinkError(self.broken)
        self.bridges[name] = list(addresses)

    def apply_routes(self, device: str, desired: Mapping[str, str]) -> int:
        self.routed[device] = dict(desired)
        return len(desired)

    def changes(self) -> Changes:
        return self.notes


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLinks]:
    monkeypatch.setattr(module, "enable_forwarding", lambda: None)
    links = FakeLinks()
    yield links
    links.notes.close()


def test_addresses_and_route(links: FakeLinks) -> None:
    devices = Devices(links, CONFIG, lambda: None)
    devices.set("10.222.0.7")
    assert links.bridges == {BRIDGE: ["169.254.96.16/32", "10.222.0.7/32"]}
    assert links.routed == {BRIDGE: {CONFIG.service_range: "10.222.0.7"}}
    devices.set("")
    assert links.bridges == {BRIDGE: ["169.254.96.16/32"]}
    assert links.routed == {BRIDGE: {CONFIG.service_range: ""}}


def test_what_an_earlier_agent_left_stays_while_nothing_is_known(links: FakeLinks) -> None:
    left = ["169.254.96.16/32", "10.222.0.7/32"]
    links.bridges[BRIDGE] = left
    Devices(links, CONFIG, lambda: None).begin()
    assert links.bridges == {BRIDGE: left}
    del links.bridges[BRIDGE]
    Devices(links, CONFIG, lambda: None).begin()
    assert links.bridges == {BRIDGE: ["169.254.96.16/32"]}


@trio.testing.trio_test
async def test_what_others_change_is_set_right(links: FakeLinks) -> None:
    told: list[str] = []
    devices = Devices(links, CONFIG, lambda: told.append("changed"))
    devices.set("10.222.0.7")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(devices.run)
        await trio.testing.wait_all_tasks_blocked()
        links.bridges.clear()
        links.notes.say()
        await eventually(lambda: links.bridges)
        nursery.cancel_scope.cancel()
    assert told == ["changed"]
    assert links.bridges == {BRIDGE: ["169.254.96.16/32", "10.222.0.7/32"]}


@trio.testing.trio_test
async def test_trouble_is_told_once_and_tried_again(
    links: FakeLinks, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    devices = Devices(links, CONFIG, lambda: None)
    links.broken = "edgemesh0: is there, and is no bridge"
    with caplog.at_level(logging.INFO):
        devices.set("10.222.0.7")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(devices.run)
            await trio.sleep(20)
            assert devices.trouble == links.broken
            links.broken = ""
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
    assert devices.trouble == ""
    assert links.bridges == {BRIDGE: ["169.254.96.16/32", "10.222.0.7/32"]}
    said = ["edgemesh0: is there, and is no bridge; trying again", "edgemesh0 is well again"]
    assert [record.message for record in caplog.records] == said
