"""The UAPI client with the engines that there are: ours, and wireguard-go."""

import os
import sys
from pathlib import Path

import pytest
import trio

from e2e.lab.namespaces import Bed
from tunnel.control.engine import DeviceConfig, EngineError, PeerConfig
from tunnel.control.uapi import UapiEngine
from tunnel.endpoint import Endpoint

pytestmark = pytest.mark.bed

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
GO = CACHE / "edgemesh" / "go" / "bin" / "wireguard"
ROOT = Path(__file__).parents[3]
KEY = bytes(range(32))
FIRST, SECOND = bytes(range(1, 33)), bytes(range(2, 34))


@pytest.mark.parametrize("kind", ["ours", "go"])
def test_configure_move_and_read(kind: str, tmp_path: Path) -> None:
    if kind == "go" and not GO.exists():
        pytest.skip(f"no wireguard-go at {GO}: make peers")
    with Bed() as bed:
        host = bed.host("host")
        host.run("mkdir -p /run/wireguard")
        path = Path(f"/proc/{host.pid}/root/run/wireguard/edgemesh-wg.sock")
        command = [sys.executable, "-m", "tunnel.engine.engine"] if kind == "ours" else [str(GO), "-f", "edgemesh-wg"]
        host.popen(command, log=tmp_path / "log", env={"PYTHONPATH": str(ROOT)})
        trio.run(exercise, path, kind == "ours")


async def exercise(path: Path, ours: bool) -> None:
    engine = UapiEngine(path)
    with trio.fail_after(10):
        await engine.ready()
        assert engine.channels is ours
        first = PeerConfig(FIRST, ("10.1.0.0/24", "10.99.0.2/32"), Endpoint("127.0.0.9", 7), pinned=True)
        await engine.configure(DeviceConfig(KEY, 40123, (first, PeerConfig(SECOND, ("10.2.0.0/24",)))))
        state = await engine.state()
        assert state.listen_port == 40123
        assert state.peers.keys() == {FIRST, SECOND}
        assert state.peers[FIRST].endpoint == Endpoint("127.0.0.9", 7)
        assert state.peers[SECOND].endpoint is None
        assert (state.buffers > (0, 0)) is ours

        await engine.set_endpoint(SECOND, Endpoint("127.0.0.8", 8), pinned=False)
        await engine.configure(DeviceConfig(KEY, 40123, (PeerConfig(SECOND, ("10.2.0.0/24", "10.3.0.0/24")),)))
        state = await engine.state()
        assert state.peers.keys() == {SECOND}
        assert state.peers[SECOND].endpoint == Endpoint("127.0.0.8", 8), "kept, as the configuration says nothing of it"

        await engine.set_endpoint(FIRST, Endpoint("127.0.0.9", 7), pinned=True)
        assert FIRST not in (await engine.state()).peers, "a peer that is gone is not made anew"
        relayed = Endpoint("127.0.0.7", 20006, 77)
        if ours:
            await engine.set_endpoint(SECOND, relayed, pinned=True)
            assert (await engine.state()).peers[SECOND].endpoint == relayed
        else:
            with pytest.raises(EngineError, match="can't send through a relay"):
                await engine.set_endpoint(SECOND, relayed, pinned=True)
    await engine.aclose()
