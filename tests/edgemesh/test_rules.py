"""The rules follow what is said, in order, and what fails is tried again; on a proxy that can be made to fail."""

import logging
import threading
from collections.abc import Iterable, Mapping

import pytest
import trio
import trio.testing

from edgemesh import rules as module
from edgemesh.rules import Rules
from proxy.proxy import Proxy, ProxyError, ProxyStatus
from proxy.service import NodeNetwork, Protocol, ServicePort
from tests.edgemesh.running import eventually

NETWORK = NodeNetwork("10.222.0.1", "10.244.1.0/24")
OTHER = NodeNetwork("10.222.0.2", "10.244.2.0/24")


class FakeProxy(Proxy):
    """Remembers what should be as the real one does, and writes it to `kernel` unless it is `broken`."""

    def __init__(self) -> None:
        super().__init__(NETWORK)
        self.kernel: tuple[NodeNetwork, dict[str, ServicePort]] | None = None
        self.should: dict[str, ServicePort] = {}
        self.network = NETWORK
        self.broken = ""
        self.error: str | None = None
        self.writes = 0
        self.hold: threading.Event | None = None
        self.lost = False

    def intact(self) -> bool:
        return not (self.error or self.lost)

    def apply(self, services: Mapping[str, ServicePort]) -> None:
        self.should = dict(services)
        self._commit()

    def update(self, changed: Iterable[ServicePort], gone: Iterable[str]) -> None:
        for name in gone:
            self.should.pop(name, None)
        self.should |= {port.name: port for port in changed}
        self._commit()

    def set_network(self, network: NodeNetwork) -> None:
        if network != self.network:
            self.network = network
            if self.kernel or self.error:
                self._commit()

    def status(self) -> ProxyStatus:
        return ProxyStatus(len(getattr(self, "should", ())), 0, getattr(self, "error", None), 0.0)

    def _commit(self) -> None:
        if self.hold:
            self.hold.wait(5)
        self.writes += 1
        self.lost = False
        self.error = self.broken or None
        if self.broken:
            raise ProxyError(self.broken)
        self.kernel = (self.network, dict(self.should))


def port(name: str, number: int = 80) -> ServicePort:
    return ServicePort(name, "10.96.0.1", Protocol.TCP, number)


def named(*ports: ServicePort) -> dict[str, ServicePort]:
    return {each.name: each for each in ports}


@trio.testing.trio_test
async def test_nothing_is_written_before_anything_is_known() -> None:
    proxy = FakeProxy()
    rules = Rules(NETWORK, proxy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rules.run)
        rules.set_network(OTHER)
        await trio.testing.wait_all_tasks_blocked()
        assert proxy.writes == 0
        rules.set([port("a")])
        await eventually(lambda: proxy.kernel == (OTHER, named(port("a"))))
        nursery.cancel_scope.cancel()


@trio.testing.trio_test
async def test_changes_during_a_write_go_together_the_latest_of_each() -> None:
    proxy = FakeProxy()
    rules = Rules(NETWORK, proxy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rules.run)
        proxy.hold = threading.Event()
        rules.set([port("a"), port("b")])
        await trio.testing.wait_all_tasks_blocked()
        rules.update([port("a", 81), port("c")], ["b"])
        rules.update([port("b", 82)], ["c"])
        rules.update([port("a", 83)], [])
        proxy.hold.set()
        await eventually(lambda: proxy.kernel == (NETWORK, named(port("a", 83), port("b", 82))))
        assert proxy.writes == 2
        await eventually(lambda: rules.status().services == 2)
        nursery.cancel_scope.cancel()


@trio.testing.trio_test
async def test_a_failure_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    proxy = FakeProxy()
    rules = Rules(NETWORK, proxy)
    proxy.broken = "no memory for it"
    with caplog.at_level(logging.ERROR):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rules.run)
            rules.set([port("a")])
            await eventually(lambda: proxy.writes > 4)
            assert rules.status().error == "no memory for it"
            # the network changes while it fails, and a port: neither is lost
            rules.set_network(OTHER)
            rules.update([port("b")], [])
            proxy.broken = ""
            await eventually(lambda: proxy.kernel == (OTHER, named(port("a"), port("b"))))
            await eventually(lambda: rules.status().error is None)
            nursery.cancel_scope.cancel()
    assert [record.message for record in caplog.records] == ["no memory for it"]


@trio.testing.trio_test
async def test_what_somebody_else_took_away_is_written_again_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    proxy = FakeProxy()
    rules = Rules(NETWORK, proxy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rules.run)
        rules.set([port("a")])
        await eventually(lambda: proxy.writes == 1)
        await trio.sleep(0.05)
        assert proxy.writes == 1
        proxy.lost = True
        await eventually(lambda: proxy.writes == 2)
        assert not proxy.lost
        nursery.cancel_scope.cancel()
