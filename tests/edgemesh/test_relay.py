"""The relay role: who is admitted, and how it starts and ends."""

import base64
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed
from edgemesh.relay import Admission
from sync.client.manifests import Changes
from sync.resources.kinds import Key
from tests.edgemesh import objects
from tests.edgemesh.running import MANIFESTS, Host
from tunnel.relay.forward import Relay


class FakeRelay(Relay):
    def __init__(self) -> None:
        self.admits: Callable[[bytes], bool] = lambda _: True
        self.told = 0

    def set_admission(self, admit: Callable[[bytes], bool]) -> None:
        self.admits = admit
        self.told += 1


def test_keys_follow_the_mesh_nodes() -> None:
    relay = FakeRelay()
    admission = Admission(relay)
    one, two = objects.public_key(1), objects.public_key(2)
    assert not relay.admits(one)
    admission.take(Changes([objects.mesh_node("a", 1), objects.service()], []))
    assert relay.admits(one)
    assert not relay.admits(two)
    told = relay.told
    admission.take(Changes([objects.service(), objects.mesh_node("a", 1)], [Key("Service", "shop", "orders")]))
    assert relay.told == told
    admission.take(Changes([objects.mesh_node("a", 1, key=2)], []))
    assert relay.admits(two)
    assert not relay.admits(one)
    admission.take(Changes([], [Key("MeshNode", "", "a"), Key("MeshNode", "", "stranger")]))
    assert not relay.admits(two)


@pytest.mark.bed
def test_start_and_end(tmp_path: Path) -> None:
    with Bed() as bed:
        host = Host(bed, "cloud", tmp_path)
        key = base64.b64encode(objects.public_key(1)).decode()
        host.write("a1.yaml", host.mesh_node().replace("name: cloud", "name: a1"))
        relay = host.start("relay", "--manifests", MANIFESTS)
        relay.says("relaying on 0.0.0.0:20006")
        # what is known is admitted before anybody can come
        assert relay.said.index("admitting 1 nodes: a1") < relay.said.index("relaying on")
        second = host.start("relay", "--manifests", MANIFESTS)
        assert second.ends() == 1
        assert second.said == (
            "INFO edgemesh.relay: admitting 1 nodes: a1\n"
            "edgemesh: UDP 0.0.0.0 port 20006 is taken: stop what has it (ss -ulnp shows it) or give another port\n"
        )
        elsewhere = host.start("relay", "--listen", "192.0.2.99:20006", "--manifests", MANIFESTS)
        assert elsewhere.ends() == 1
        assert "edgemesh: can't listen on UDP 192.0.2.99 port 20006: Cannot assign" in elsewhere.said
        b1 = host.path(MANIFESTS) / "a1.yaml"
        host.write("b1.yaml", b1.read_text().replace("name: a1", "name: b1").replace(_key(b1), key))
        relay.says("admitting 2 nodes: a1, b1")
        b1.unlink()
        relay.says("admitting 1 nodes: b1")
        relay.signal(signal.SIGTERM)
        assert relay.ends() == 0
        assert "Traceback" not in relay.said


def _key(path: Path) -> str:
    line = next(line for line in path.read_text().splitlines() if "publicKey" in line)
    return line.split()[-1]
