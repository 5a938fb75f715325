"""The table on disk: round trips, torn files, and disks that are full."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns.records import Name, Srv, Zone
from dns.tablefile import SPACING, TRY_AGAIN, WRITE_AFTER, TableFile, Torn, load, pack, unpack, write
from tests.dns.conftest import SHOP, ZONES


def packed(*names: Name) -> bytes:
    return pack(ZONES, map(msgspec.msgpack.encode, names))


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dns.table"
    assert load(path) is None
    write(path, packed(*SHOP))
    assert load(path) == (ZONES, SHOP)
    write(path, packed())
    assert load(path) == (ZONES, ())
    assert os.listdir(path.parent) == ["dns.table"]


@given(st.integers(0, 400), st.integers(1, 255))
def test_any_damage_is_noticed(at: int, flip: int) -> None:
    data = bytearray(packed(*SHOP))
    data[at % len(data)] ^= flip
    with pytest.raises(Torn):
        unpack(bytes(data))
    with pytest.raises(Torn):
        unpack(bytes(packed(*SHOP)[: at % len(data)]))


def test_a_right_checksum_over_something_else() -> None:
    with pytest.raises(Torn):
        unpack(pack([Zone("a")], [msgspec.msgpack.encode(Srv("x", 1))]))


def test_a_torn_file_is_moved_aside_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "dns.table"
    path.write_bytes(packed(*SHOP)[:-3])
    assert load(path) is None
    assert [each.name for each in tmp_path.iterdir()] == ["dns.table.bad"]
    assert "is torn" in caplog.text
    assert "dns.table.bad" in caplog.text


def test_a_file_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "dns.table").mkdir()
    assert load(tmp_path / "dns.table") is None
    assert "can't be read" in caplog.text


def settle(file: TableFile, now: float, data: Callable[[], bytes]) -> float:
    """Let the writing thread end, and the file look at what came of it."""
    if file._thread is not None:
        file._thread.join()
    now = max(now, file.due or now)
    file.advance(now, data)
    return now


def test_changes_are_written_together_in_the_background(tmp_path: Path) -> None:
    path = tmp_path / "dns.table"
    file = TableFile(path)
    assert file.due is None
    file.changed(10.0)
    file.changed(10.1)
    assert file.due == 10.0 + WRITE_AFTER
    file.advance(10.2, lambda: packed(SHOP[0]))
    file.changed(10.3)
    now = settle(file, 10.4, lambda: packed(SHOP[1]))
    assert load(path) == (ZONES, (SHOP[0],))
    assert file.due == 10.2 + SPACING  # not again so soon
    now = settle(file, now, lambda: packed(SHOP[1]))
    settle(file, now, lambda: packed(SHOP[2]))
    assert load(path) == (ZONES, (SHOP[1],))
    assert file.due is None


def test_a_full_disk_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "dns.table"
    write(path, packed(SHOP[0]))
    full = Path("/dev/full")
    opened = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda name, *how: opened(full if str(name).endswith(".new") else name, os.O_WRONLY),
    )
    file = TableFile(path)
    now = 0.0
    file.changed(now)
    for _ in range(3):
        now = file.due or now
        file.advance(now, lambda: packed(*SHOP))
        now = settle(file, now, lambda: packed(*SHOP))
        assert file.due == now + TRY_AGAIN
        file.changed(now)  # further changes don't hurry it
    assert caplog.text.count("can't be written") == 1
    assert "No space left" in file.problem
    assert load_only(path, monkeypatch, opened) == (ZONES, (SHOP[0],))
    now = file.due or now
    file.advance(now, lambda: packed(*SHOP))
    settle(file, now, lambda: packed(*SHOP))
    assert file.problem == ""
    assert "is written again" in caplog.text
    assert load(path) == (ZONES, SHOP)


def load_only(path: Path, monkeypatch: pytest.MonkeyPatch, opened: object) -> object:
    """The disk has room again, and what is on it is what was there before."""
    monkeypatch.setattr(os, "open", opened)
    return load(path)


def test_the_end_writes_what_is_not_written_yet(tmp_path: Path) -> None:
    path = tmp_path / "dns.table"
    file = TableFile(path)
    file.finish(lambda: packed())
    assert not path.exists()
    file.changed(0.0)
    file.finish(lambda: packed(*SHOP))
    assert load(path) == (ZONES, SHOP)
