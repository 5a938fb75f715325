"""Placement converges, loses and doubles nothing, and rewrites little."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.controllers.placement import Placement, body, place
from sync.controllers.slices import MAX_ENDPOINTS, made_here
from sync.resources.decode import decode
from sync.resources.kinds import EndpointSlice, Key, Pod, Service
from tests.sync.controllers.test_slices import NODES, pod, service


@dataclass
class Cluster:
    """Slices as an API keeps them."""

    slices: dict[Key, EndpointSlice] = field(default_factory=dict)
    made: int = 0

    def write(self, placement: Placement) -> None:
        for key in placement.delete:
            del self.slices[key]
        for found in placement.update:
            assert found.key in self.slices
            self.slices[found.key] = found
        for found in placement.create:
            assert found.metadata.name == ""
            self.made += 1
            metadata = msgspec.structs.replace(found.metadata, name=f"orders-{self.made:05}")
            named = msgspec.structs.replace(found, metadata=metadata)
            self.slices[named.key] = named

    def settle(self, of: Service, pods: list[Pod]) -> Placement:
        placement = place(of, pods, NODES, self.slices.values())
        self.write(placement)
        assert not place(of, pods, NODES, self.slices.values()), "a second time there is something to do"
        return placement


def pods(numbers: set[int], ports: int = 0) -> list[Pod]:
    return [pod(f"p{number:04}", f"10.244.{number // 250}.{number % 250 + 1}") for number in sorted(numbers)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 260), max_size=260), min_size=1, max_size=6))
def test_after_each_change_every_endpoint_stands_in_one_slice(steps: list[set[int]]) -> None:
    cluster = Cluster()
    for step in steps:
        cluster.settle(service(), pods(step))
        found = [endpoint.addresses[0] for piece in cluster.slices.values() for endpoint in piece.endpoints]
        assert sorted(found) == sorted(each.status.pod_ip for each in pods(step))
        assert cluster.slices, "a service with a selector has a slice"
        for piece in cluster.slices.values():
            assert len(piece.endpoints) <= MAX_ENDPOINTS
            assert piece.endpoints or len(cluster.slices) == 1


def test_one_pod_more_rewrites_one_slice() -> None:
    cluster = Cluster()
    cluster.settle(service(), pods(set(range(250))))
    assert sorted(len(piece.endpoints) for piece in cluster.slices.values()) == [50, 100, 100]
    placement = cluster.settle(service(), pods(set(range(251))))
    assert (len(placement.create), len(placement.update), len(placement.delete)) == (0, 1, 0)
    placement = cluster.settle(service(), pods(set(range(251)) - {7}))
    assert (len(placement.create), len(placement.update), len(placement.delete)) == (0, 1, 0)


def test_a_slice_rewritten_anyway_takes_what_is_new() -> None:
    cluster = Cluster()
    cluster.settle(service(), pods(set(range(150))))
    placement = cluster.settle(service(), pods((set(range(150)) - {3}) | {200}))
    assert (len(placement.create), len(placement.update), len(placement.delete)) == (0, 1, 0)


def test_other_ports_are_other_slices_and_the_old_one_goes() -> None:
    cluster = Cluster()
    cluster.settle(service(), pods({1}))
    placement = cluster.settle(service(ports=[{"name": "http", "port": 80, "targetPort": 9000}]), pods({1}))
    assert (len(placement.create), len(placement.update), len(placement.delete)) == (1, 0, 1)


def test_slices_of_others_and_services_without_selector() -> None:
    foreign, faults = decode(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "own", "namespace": "shop", "labels": {"kubernetes.io/service-name": "orders"}},
            "addressType": "IPv4",
            "endpoints": [],
            "ports": [],
        }
    )
    assert isinstance(foreign, EndpointSlice), faults
    cluster = Cluster({foreign.key: foreign})
    cluster.settle(service(), pods({1}))
    assert foreign.key in cluster.slices
    cluster.settle(service(selector={}), pods({1}))
    assert list(cluster.slices) == [foreign.key]


def test_the_object_that_is_sent() -> None:
    placement = place(service(), [pod()], NODES, ())
    (made,) = placement.create
    assert made_here(made)
    sent: dict[str, Any] = body(made, "uid-of-service", {"10.244.1.2": "a"})
    assert sent["metadata"]["generateName"] == "orders-"
    assert "name" not in sent["metadata"]
    assert sent["metadata"]["ownerReferences"][0]["uid"] == "uid-of-service"
    assert sent["endpoints"][0]["targetRef"]["name"] == "a"
    assert sent["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}
    sent["metadata"]["name"] = "orders-x"
    read, faults = decode(sent)
    assert read is not None, faults
    assert read.metadata.labels == made.metadata.labels
