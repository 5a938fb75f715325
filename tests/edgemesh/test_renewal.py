"""Renewal: when, and against the endpoint over HTTPS."""

import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from edgemesh import proof, renewal
from edgemesh.authority import load_or_make
from edgemesh.join import csr, join, record
from edgemesh.join.files_of_node import Places
from edgemesh.join.join import Wish
from edgemesh.join.record import Record
from edgemesh.renewal import Renewal, due, retry
from tests.edgemesh.join.cluster import Cloud, at, https


@given(
    begins=st.floats(0, 2e9),
    life=st.floats(3600, 4e8),
    name=st.text(),
    serial=st.integers(0, 2**160),
)
def test_due_in_the_window_and_always_the_same(begins: float, life: float, name: str, serial: int) -> None:
    when = due(begins, begins + life, name, serial)
    assert begins + 0.7 * life - 1 <= when <= begins + 0.9 * life + 1
    assert due(begins, begins + life, name, serial) == when


def test_nodes_do_not_renew_together() -> None:
    times = sorted(due(0, 1000, f"n{n}", 7) for n in range(200))
    assert times[0] < 710
    assert times[-1] > 890
    assert max(b - a for a, b in pairwise(times)) < 20


def test_retries_get_slower() -> None:
    assert [retry(n) for n in (1, 2, 3, 7, 1000)] == [60, 120, 240, 3600, 3600]


def certificate(places: Places) -> x509.Certificate:
    return x509.load_pem_x509_certificate(places.certificate.read_bytes())


@pytest.fixture
def places(tmp_path: Path) -> Places:
    node = tmp_path / "node"
    return Places(state_dir=node / "state", config_dir=node / "config", systemd_dir=node / "systemd")


def run(places: Places, seconds: float, until: str = "") -> Renewal:
    """Run the task until it renews, or has a problem."""

    async def main() -> Renewal:
        task = Renewal(str(places.state_dir), "a1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task.run)
            with trio.move_on_after(seconds):
                if until:
                    while until not in task.problem:  # noqa: ASYNC110
                        await trio.sleep(0.01)
                else:
                    await task.renewed.wait()
            nursery.cancel_scope.cancel()
        return task

    return trio.run(main)


DAY = 86400.0


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """One whose CA is older than its nodes."""
    monkeypatch.setattr(renewal, "BEGIN_AFTER", 0)
    load_or_make(tmp_path / "cloud", at(time.time() - 500 * DAY))
    return Cloud(tmp_path / "cloud", time.time())


def age(cloud: Cloud, places: Places, days: float) -> x509.Certificate:
    """Give the node a certificate that is so old."""
    key = csr.read_key(places.key.read_bytes())
    pem = cloud.authority.sign_node(csr.check(csr.make(key, "a1"), "a1"), "a1", at(cloud.now - days * DAY))
    kept = Record("a1", "", {}).with_certificate(pem, at(cloud.now)).object()
    cloud.api.objects[record.path("a1")] = kept
    places.certificate.write_bytes(pem)
    return certificate(places)


@pytest.mark.parametrize("days", [330, 375])  # at 90 %, and ten days past its end
def test_renews(tmp_path: Path, cloud: Cloud, places: Places, days: float) -> None:
    with https(cloud, tmp_path) as url:
        join.join(Wish(url=url, token=cloud.token(), name="a1", places=places, systemd=False), lambda line: None)
        first, key = certificate(places), places.key.read_bytes()
        assert run(places, 0.2).problem == ""
        assert certificate(places) == first  # not due
        aged = age(cloud, places, days)
        before = proof.own(str(places.state_dir), "a1", bytes(32), time.time())
        assert run(places, 10).problem == ""
        renewed = certificate(places)
        assert renewed.not_valid_after_utc - aged.not_valid_after_utc >= timedelta(days=days - 1)
        assert places.key.read_bytes() == key
        after = proof.own(str(places.state_dir), "a1", bytes(32), time.time())
        assert proof.read(after).serial > proof.read(before).serial


def test_problems_are_said(tmp_path: Path, cloud: Cloud, places: Places) -> None:
    with https(cloud, tmp_path) as url:
        join.join(Wish(url=url, token=cloud.token(), name="a1", places=places, systemd=False), lambda line: None)
        age(cloud, places, 397)
        assert "past the grace of 30" in run(places, 10, "refuses").problem
        age(cloud, places, 330)
        del cloud.api.objects[record.path("a1")]
        assert "node a1 was deleted: it has to join anew" in run(places, 10, "refuses").problem
    assert "Connection refused" in run(places, 10, "refused").problem
    for url in ("https://h:port", "https://h:99999", "https://[::1", "http://127.0.0.1:1", ""):
        (places.pki / "cluster.json").write_text(f'{{"apiServer": "https://h", "join": "{url}"}}')
        assert f"cluster.json: '{url}' is no join URL" in run(places, 10, "URL").problem
    (places.pki / "cluster.json").write_text("{")
    assert "is damaged" in run(places, 10, "damaged").problem
    (places.pki / "cluster.json").unlink()
    assert run(places, 10, "cluster.json").problem.endswith("cluster.json: No such file or directory")
    places.certificate.write_text("")
    assert "is no certificate: restore it, or join anew" in run(places, 10, "restore").problem


def test_who_has_not_joined_has_nothing_to_renew(tmp_path: Path) -> None:
    trio.run(Renewal(str(tmp_path), "a1").run)
