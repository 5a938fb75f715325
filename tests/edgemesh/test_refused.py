"""What a node says of an API that does not take its certificate: why, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
import trio.testing
import yaml

from edgemesh import renewal
from edgemesh.cluster import Cluster, Location
from edgemesh.publish import Publisher
from sync.client.connection import Api
from tests.edgemesh.running import eventually
from tests.edgemesh.test_vetting import Cluster as Nodes
from tests.sync.client.serving import saying, serving, status


class Silent(SimpleNamespace):
    """What publishes, with nothing to write."""

    problems: tuple[str, ...] = ()
    unanswered = None

    def seen(self, node: object) -> None:
        raise AssertionError

    async def run(self) -> None:
        await trio.sleep_forever()


@pytest.fixture
def location(tmp_path: Path) -> Callable[[str], Location]:
    """Of a node that has joined, whose API has this URL."""
    certificate, key = Nodes(tmp_path / "ca").join("a")
    pki = tmp_path / "pki"
    pki.mkdir()
    (pki / "node.crt").write_bytes(certificate)
    (pki / "node.key").write_bytes(key)
    (pki / "cluster.json").write_text('{"apiServer": "https://127.0.0.1:1", "join": "https://127.0.0.1:1"}')
    (pki / "ca.crt").write_bytes((tmp_path / "ca" / "ca.crt").read_bytes())

    def make(server: str) -> Location:
        user = {"client-certificate": str(pki / "node.crt"), "client-key": str(pki / "node.key")}
        kubeconfig = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        return Location(str(tmp_path / "kubeconfig"), "", str(tmp_path))

    return make


def publish(_api: Api) -> Publisher:
    return Silent()  # type: ignore[return-value]


@trio.testing.trio_test
async def test_a_certificate_that_is_not_accepted(
    location: Callable[[str], Location], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "BEGIN_AFTER", 0)
    async with serving(saying(status(401, "Unauthorized", "Unauthorized"))) as server, trio.open_nursery() as nursery:
        cluster = Cluster(location(server.access.server), {}, {}, own="a", publish=publish)
        nursery.start_soon(cluster.run, lambda changes: None)
        await eventually(lambda: "not answered yet" not in (text := cluster.state().reason) and "edgemesh join" in text)
        state = cluster.state()
        assert not state.reachable
        assert re.fullmatch(
            rf"Unauthorized: the client certificate {tmp_path}/pki/node\.crt, (good until|which ended on) .* UTC, "
            r"is not accepted; if this node was deleted, "
            r"run 'edgemesh join' with a new token",
            state.reason,
        )
        assert cluster.problems == []
        nursery.cancel_scope.cancel()


@trio.testing.trio_test
async def test_a_renewal_that_fails_is_tried_again_at_a_time(
    location: Callable[[str], Location], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "BEGIN_AFTER", 0)
    monkeypatch.setattr(renewal, "due", lambda *_: 0.0)
    async with serving(saying(status(401, "Unauthorized", "Unauthorized"))) as server, trio.open_nursery() as nursery:
        cluster = Cluster(location(server.access.server), {}, {}, own="a", publish=publish)
        nursery.start_soon(cluster.run, lambda changes: None)
        await eventually(lambda: cluster.problems and "renewal" in cluster.state().reason)
        again = r"tried again at \d\d:\d\d:\d\d UTC"
        assert re.search(rf"is not accepted; its renewal is {again}$", cluster.state().reason)
        assert re.fullmatch(rf"the certificate is not renewed: .*: Connection refused; {again}", cluster.problems[0])
        nursery.cancel_scope.cancel()
