"""Which node a pod gets."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.lab.scheduler import ZONE, Unschedulable, choose


def node(name: str, zone: str, *, ready: bool = True, **spec: object) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    labels = {"kubernetes.io/hostname": name, ZONE: zone}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"conditions": conditions}}


def pod(on: str = "", **selector: str) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"nodeName": on, "nodeSelector": selector}}


NODES = [node("cloud", "cloud"), node("a2", "site-a"), node("a1", "site-a"), node("b1", "site-b")]


def test_the_one_with_the_fewest_pods_then_the_first_by_name() -> None:
    assert choose(pod(), NODES, []) == "a1"
    assert choose(pod(), NODES, [pod("a1")]) == "a2"
    assert choose(pod(), NODES, [pod("a1"), pod("a2")]) == "b1"


def test_selectors_are_obeyed_and_the_cloud_is_for_those_who_ask() -> None:
    assert choose(pod(**{ZONE: "site-b"}), NODES, [pod("b1")] * 9) == "b1"
    assert choose(pod(**{ZONE: "cloud"}), NODES, []) == "cloud"
    with pytest.raises(Unschedulable, match=r"no ready node has the labels \{'disk': 'fast'\}"):
        choose(pod(disk="fast"), NODES, [])
    with pytest.raises(Unschedulable):
        choose(pod(), NODES[:1], [])


def test_neither_a_lost_nor_a_cordoned_node() -> None:
    nodes = [node("a1", "x", ready=False), node("a2", "x", unschedulable=True), node("a3", "x")]
    assert choose(pod(), nodes, []) == "a3"
