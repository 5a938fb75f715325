"""The UAPI client against a fake engine."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tunnel.control.fake import FakeUapi
from tunnel.control.engine import DeviceConfig, EngineError, PeerConfig
from tunnel.control.uapi import UapiEngine
from tunnel.endpoint import Endpoint

KEY, PEER, GONE = b"k" * 32, b"p" * 32, b"g" * 32
STATE = f"""private_key={KEY.hex()}
listen_port=4000
rcvbuf=212992
sndbuf=425984
public_key={PEER.hex()}
preshared_key={"0" * 64}
endpoint=[2001:db8::1]:7
channel=9
allowed_ip=10.1.0.0/24
allowed_ip=10.99.0.2/32
last_handshake_time_sec=1700000000
last_handshake_time_nsec=500000000
rx_bytes=11
tx_bytes=12
persistent_keepalive_interval=25
framing=segments/aes-256-gcm/47
public_key={GONE.hex()}
endpoint=192.0.2.1:8
last_handshake_time_sec=0
last_handshake_time_nsec=0
rx_bytes=0
tx_bytes=0
persistent_keepalive_interval=0
errno=0

""".encode()


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[FakeUapi, UapiEngine]]:
    fake = FakeUapi(path)
    engine = UapiEngine(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(fake.run)
        try:
            yield fake, engine
        finally:
            await engine.aclose()
            nursery.cancel_scope.cancel()


def run(path: Path, test: Callable[[FakeUapi, UapiEngine], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(10):
            async with serving(path) as (fake, engine):
                await test(fake, engine)

    trio.run(main)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.sock"


@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_state(path: Path, piece: int) -> None:
    async def test(fake: FakeUapi, engine: UapiEngine) -> None:
        fake.piece = piece
        fake.answers.append(STATE)
        state = await engine.state()
        assert state.listen_port == 4000
        assert state.buffers == (212992, 425984)
        peer = state.peers[PEER]
        assert peer.endpoint == Endpoint("2001:db8::1", 7, 9)
        assert peer.last_handshake == 1700000000.5
        assert (peer.rx_bytes, peer.tx_bytes, peer.framing) == (11, 12, "segments/aes-256-gcm/47")
        assert state.peers[GONE].endpoint == Endpoint("192.0.2.1", 8)
        assert state.peers[GONE].last_handshake == 0.0
        assert engine.channels

    run(path, test)


def test_configure_writes_differences_only(path: Path) -> None:
    new = b"n" * 32
    peers = (
        PeerConfig(PEER, ("10.99.0.2/32", "10.1.0.0/24"), Endpoint("203.0.113.1", 5, 3), pinned=True),
        PeerConfig(new, ("10.2.0.0/24",)),
    )

    async def test(fake: FakeUapi, engine: UapiEngine) -> None:
        fake.answers.append(STATE)
        await engine.configure(DeviceConfig(KEY, 4000, peers))
        assert fake.asked[1] == [
            "set=1",
            f"public_key={GONE.hex()}",
            "remove=true",
            f"public_key={PEER.hex()}",
            "endpoint=203.0.113.1:5",
            "channel=3",
            "pinned=true",
            f"public_key={new.hex()}",
            "replace_allowed_ips=true",
            "allowed_ip=10.2.0.0/24",
            "pinned=false",
            "persistent_keepalive_interval=25",
        ]
        fake.answers.append(b"errno=0\n\n")
        await engine.configure(DeviceConfig(KEY, 4000))
        assert fake.asked[3] == ["set=1", f"private_key={KEY.hex()}", "listen_port=4000"]

    run(path, test)


def test_set_endpoint_provokes_a_keepalive_and_never_makes_a_peer(path: Path) -> None:
    async def test(fake: FakeUapi, engine: UapiEngine) -> None:
        await engine.configure(DeviceConfig(KEY, 1, (PeerConfig(PEER, keepalive=20),)))
        await engine.set_endpoint(PEER, Endpoint("2001:db8::2", 9, 4), pinned=False)
        lines = fake.asked[-1]
        assert lines.count(f"public_key={PEER.hex()}") == lines.count("update_only=true") == 2
        assert [line for line in lines if line.startswith("persistent")] == [
            "persistent_keepalive_interval=0",
            "persistent_keepalive_interval=20",
        ]
        assert lines[lines.index("endpoint=[2001:db8::2]:9") + 1 :][:2] == ["channel=4", "pinned=false"]

    run(path, test)


def test_an_engine_without_our_keys(path: Path) -> None:
    async def test(fake: FakeUapi, engine: UapiEngine) -> None:
        fake.extras = False
        await engine.configure(
            DeviceConfig(KEY, 1, (PeerConfig(PEER, endpoint=Endpoint("203.0.113.1", 5), pinned=True),))
        )
        assert not engine.channels
        assert not any(line.startswith(("channel", "pinned")) for lines in fake.asked for line in lines)
        with pytest.raises(EngineError, match="edgemesh engine"):
            await engine.set_endpoint(PEER, Endpoint("203.0.113.1", 5, 3), pinned=True)
        await engine.set_endpoint(PEER, Endpoint("203.0.113.1", 6), pinned=True)
        assert fake.connections == 2, "the refused connection, and the one after it"

    run(path, test)


def test_refusals_and_hang_ups_are_errors_and_healed(path: Path) -> None:
    async def test(fake: FakeUapi, engine: UapiEngine) -> None:
        fake.answers.append(b"errno=98\n\n")
        with pytest.raises(EngineError, match="Address already in use") as caught:
            await engine.set_endpoint(PEER, Endpoint("203.0.113.1", 5), pinned=True)
        assert KEY.hex() not in str(caught.value)
        fake.answers.append(b"")
        with pytest.raises(EngineError, match="can't be reached"):
            await engine.state()
        fake.answers.append(STATE)
        assert (await engine.state()).listen_port == 4000

    run(path, test)


def test_ready_waits_for_the_socket(path: Path) -> None:
    async def main() -> None:
        fake, engine = FakeUapi(path), UapiEngine(path)
        with pytest.raises(EngineError, match="can't be reached"):
            await engine.state()
        ready = trio.Event()

        async def wait() -> None:
            await engine.ready()
            ready.set()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                assert not ready.is_set()
                await nursery.start(fake.run)
                await ready.wait()
                nursery.cancel_scope.cancel()
        await engine.aclose()

    trio.run(main)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.sampled_from(STATE.decode().split("\n")), st.text(max_size=30))))
def test_nonsense_is_an_engine_error(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    text = "\n".join(line.replace("\n", "") for line in lines if line) + "\nerrno=0\n\n"

    async def test(fake: FakeUapi, engine: UapiEngine) -> None:
        fake.answers.append(text.encode())
        with contextlib.suppress(EngineError):
            await engine.state()

    run(tmp_path_factory.mktemp("uapi") / "s", test)
