"""A kept bed outlives its maker, can be entered, and ends with `down`; logs stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from e2e.demo import kept
from e2e.lab.namespaces import Bed, BedError
from e2e.lab.topology import ROOT
from tests.e2e.lab.test_namespaces import wait_until

MAKER = """
from e2e.demo import kept
from e2e.lab.namespaces import Bed
run = kept.new_run()
with Bed(writable=[run]) as bed:
    host = bed.host("h")
    host.space("p")
    kept.keep(run, bed)
    bed.release()
print(bed.pid)
"""


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def make() -> int:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", MAKER], capture_output=True, text=True, env=env, check=True)
    return int(done.stdout)


@pytest.mark.bed
def test_a_kept_bed_is_entered_and_taken_down(capfd: pytest.CaptureFixture[str]) -> None:
    pid = make()
    try:
        assert Path(f"/proc/{pid}/ns/net").exists()
        for name in ("h", "p"):
            assert kept.enter(name, ["hostname"]) == 0
            assert capfd.readouterr().out == f"{name}\n"
        assert kept.enter("h", ["sh", "-c", "exit 3"]) == 3
        assert kept.enter("x", []) == 1
        assert "There is no x in the demo; there are bed, h, p." in capfd.readouterr().err
        (run,) = kept.all_kept()
    finally:
        assert kept.down() == 0
    wait_until(lambda: not Path(f"/proc/{pid}/ns/net").exists())
    assert run.run.is_dir()
    assert not kept.all_kept()


def test_nothing_kept_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert kept.enter("a1", []) == 1
    assert "edgemesh demo --keep" in capsys.readouterr().err
    assert kept.down() == 0


def test_a_number_used_again_is_not_the_keeper() -> None:
    run = kept.new_run()
    (run / kept.FILE).write_text(f'{{"keeper": {os.getpid()}, "born": 1, "spaces": {{}}}}')
    assert kept.all_kept() == []
    assert not (run / kept.FILE).exists()
    assert kept.down() == 0


def test_old_runs_are_removed_and_young_ones_stay() -> None:
    old = [kept.new_run() for _ in range(kept.KEEP_RUNS + 3)]
    for path in old[:5]:
        os.utime(path, (0, 0))
    kept.new_run()
    left = set(kept.runs().iterdir())
    assert len(left) == kept.KEEP_RUNS
    assert set(old[5:]) <= left


@pytest.mark.bed
def test_a_bed_that_is_released_is_not_closed() -> None:
    bed = Bed()
    bed.release()
    bed.close()
    assert not bed.ended
    bed._released = False
    bed.close()
    assert bed.ended


def test_a_directory_that_somebody_else_made_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert kept.runs() == tmp_path / f"edgemesh-demo-{os.geteuid()}"
    assert kept.runs().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(BedError, match="another user's"):
        kept.runs()
