"""The course that tunnels are compared on: the demo's routers let both ways through, and loss reaches every packet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.tunnel import AES, LOSS, PACKETS, RAW, Course, Way
from e2e.lab.namespaces import Bed

pytestmark = [pytest.mark.bed, pytest.mark.timeout(60)]


@pytest.mark.parametrize("way", [RAW, AES, PACKETS], ids=lambda way: way.name)
def test_a_stream_passes_and_is_carried_as_asked(way: Way, tmp_path: Path) -> None:
    with Bed() as bed:
        course = Course(bed, tmp_path, way, lossy=False)
        rate, _ = course.run(1)
        assert rate > 0
        assert course.framing.startswith(way.framing)


def test_single_packets_are_lost_on_the_way(tmp_path: Path) -> None:
    with Bed() as bed:
        course = Course(bed, tmp_path, RAW, lossy=True)
        internet = course.topology.internet
        for place, what in (("insert", "counter"), ("insert", "meta length > 1500 counter"), ("add", "counter")):
            internet.run(["nft", place, "rule", "ip", "weather", "forward", *what.split()])
        course.run(1)
        listed = internet.run(["nft", "list", "chain", "ip", "weather", "forward"]).stdout
    trains, came, went = map(int, re.findall(r"counter packets (\d+)", listed))
    assert trains == 0
    assert came > 1000
    assert 0 < came - went < came * LOSS * 2
