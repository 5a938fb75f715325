"""The snapshot on disk: whole, or moved aside; a full disk is survived."""

import errno
import logging
import os
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgemesh.snapshot import Snapshot
from edgemesh.snapshot_file import VERSION, SnapshotError, SnapshotFile, decode, encode
from sync.client.manifest import parse
from sync.client.manifests import UNREAD, FileState, Stamp
from sync.resources.kinds import Resource

RANGE = "10.96.0.0/12"
STAMP: Stamp = (1, 2, 3, 4)
TEXT = b"""
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop, labels: {x: y}}
spec: {ports: [{port: 80, targetPort: http}], selector: {app: a}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, namespace: shop, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.2], nodeName: n, conditions: {ready: false}}]
ports: [{port: 8080}]
"""


def known() -> tuple[Snapshot, dict[str, FileState]]:
    objects, problems = parse("a.yaml", TEXT)
    assert problems == []
    snapshot = Snapshot()
    snapshot.apply(objects)
    return snapshot, {"a.yaml": FileState(STAMP, objects)}


DATA = encode(*known(), RANGE)


def test_round_trip_shares_objects() -> None:
    snapshot, files = known()
    read, states, *_ = decode(DATA, RANGE)
    assert read.objects == snapshot.objects
    assert states == files
    held: list[Resource] = list(states["a.yaml"].objects)
    assert all(read.objects[item.key] is item for item in held)
    assert encode(read, states, RANGE) == DATA


def test_other_service_range_reads_manifests_again() -> None:
    _, states, *_ = decode(DATA, "10.97.0.0/16")
    assert states["a.yaml"].stamp == UNREAD


def test_what_another_file_has_is_read_again() -> None:
    snapshot, files = known()
    service, _ = files["a.yaml"].objects
    snapshot.apply([], [service.key])
    _, states, *_ = decode(encode(snapshot, files, RANGE), RANGE)
    assert states["a.yaml"].stamp == UNREAD
    assert len(states["a.yaml"].objects) == 1


def test_torn_at_each_byte() -> None:
    for length in range(len(DATA)):
        with pytest.raises(SnapshotError):
            decode(DATA[:length], RANGE)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_one_byte_flipped(at: int, flip: int) -> None:
    damaged = bytearray(DATA)
    damaged[at] ^= flip
    if at in (6, 7):  # padding of the header
        decode(bytes(damaged), RANGE)
        return
    with pytest.raises(SnapshotError):
        decode(bytes(damaged), RANGE)


def test_unusable_file_is_moved_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(DATA[:-1])
    file = SnapshotFile(str(path))
    loaded = file.load(RANGE)
    assert loaded.snapshot.objects == {}
    assert loaded.files == {}
    assert "it is torn or corrupt; it is now" in loaded.message
    assert loaded.message in caplog.text
    assert (tmp_path / "snapshot.bad").read_bytes() == DATA[:-1]
    assert file.load(RANGE).message == ""  # there is none now
    newer = bytearray(DATA)
    newer[5] = VERSION + 1
    path.write_bytes(bytes(newer))
    assert f"of version {VERSION + 1}, this program writes {VERSION}" in file.load(RANGE).message


def test_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "state" / "snapshot"
    file = SnapshotFile(str(path))
    assert file.write(DATA)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["snapshot"]
    assert file.load(RANGE).snapshot.objects == known()[0].objects


def test_full_disk_is_said_once_and_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = SnapshotFile(str(tmp_path / "snapshot"))
    assert file.write(DATA)

    def full(fd: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    caplog.set_level(logging.INFO)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert not file.write(b"x")
        assert not file.write(b"y")
    assert caplog.text.count("No space left on device") == 1
    assert "No space left on device" in file.trouble
    assert os.listdir(tmp_path) == ["snapshot"]
    assert (tmp_path / "snapshot").read_bytes() == DATA
    assert file.write(DATA)
    assert file.trouble == ""
    assert "is written again" in caplog.text
