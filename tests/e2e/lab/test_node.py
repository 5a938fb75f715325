"""The node's supervisor: restarts a second after an end, stays away when told to, reaps what others leave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed, BedError
from e2e.lab.topology import A1, Node
from e2e.lab.topology import OTHERS_RESTART_AFTER as RESTART_AFTER
from tests.e2e.lab.test_namespaces import wait_until

pytestmark = pytest.mark.bed


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Bed(writable=[tmp_path]) as bed:
        yield Node(bed, A1, tmp_path)


def test_a_killed_process_comes_back_a_second_later(node: Node) -> None:
    node.start("p", ["sh", "-c", "echo here; exec sleep 100"])
    first = node.processes()["p"]
    assert node.outer_pid("p")
    wait_until(lambda: node.log("p").exists() and "here" in node.log("p").read_text())
    node.kill("p")
    killed = time.monotonic()
    wait_until(lambda: node.processes()["p"]["starts"] == 2)
    assert RESTART_AFTER * 0.9 < time.monotonic() - killed < RESTART_AFTER + 0.5
    second = node.processes()["p"]
    assert second["pid"] not in (0, first["pid"])
    assert second["status"] == 9
    wait_until(lambda: node.log("p").read_text().count("here") == 2)
    assert "p ended (signal 9), starts again in 1 s" in node.log("p").read_text()


def test_a_stopped_process_is_gone_and_stays_away(node: Node) -> None:
    node.start("p", ["sleep", "100"])
    node.stop("p")
    assert node.processes()["p"]["pid"] == 0
    assert node.outer_pid("p") == 0
    time.sleep(RESTART_AFTER + 0.2)
    assert node.processes()["p"] == {"pid": 0, "starts": 1, "status": 9, "args": []}
    node.start("p", ["sleep", "100"])
    assert node.processes()["p"]["pid"]


def test_what_cannot_be_started_says_why_and_is_tried_again(node: Node) -> None:
    node.start("p", ["/no/such/program"])
    wait_until(lambda: node.processes()["p"]["starts"] == 2)
    assert "No such file or directory: '/no/such/program'" in node.log("p").read_text()


def test_orphans_are_reaped(node: Node) -> None:
    node.space.run("(sleep 0.1 &)")
    wait_until(lambda: not node.space.run("ps -eo stat= | grep Z", check=False).stdout)


def test_a_supervisor_that_is_gone_is_said(node: Node) -> None:
    node.space.kill()
    with pytest.raises(BedError, match="a1: the node's supervisor has ended"):
        node.processes()
