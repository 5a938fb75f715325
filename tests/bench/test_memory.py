"""What a process's pages and its clock say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import memory

HOLD = "print('ready', flush=True); input()"


@pytest.fixture
def two() -> Iterator[tuple[int, int]]:
    """Two processes of one program."""
    children = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
        yield children[0].pid, children[1].pid
    finally:
        for child in children:
            child.communicate()


def rss(process: int) -> float:
    found = re.search(r"^Rss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def test_one_alone_has_all_that_it_uses(two: tuple[int, int]) -> None:
    value = memory.alone({"one": two[0]})["one"]
    assert value == pytest.approx(rss(two[0]), rel=0.02)
    assert memory.pss(two[0]) <= value * 1.02


def test_two_divide_what_they_share(two: tuple[int, int]) -> None:
    apart = [memory.alone({"one": process})["one"] for process in two]
    together = memory.alone({"one": two[0], "other": two[1]})
    assert max(apart) < sum(together.values()) < sum(apart)
    assert together["one"] == pytest.approx(together["other"], rel=0.1)


def test_the_clock_of_a_process() -> None:
    before = memory.used(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert 0.04 < memory.used(os.getpid()) - before < 5
