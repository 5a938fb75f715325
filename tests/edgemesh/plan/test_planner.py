"""The incremental plan is the full one, whatever changed, and touches no more than it must."""

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dns.records import Name
from edgemesh.config import Config
from edgemesh.plan.planner import Difference, Planner
from edgemesh.snapshot import Affected, Snapshot
from proxy.service import ServicePort
from sync.controllers.slices import MANAGER
from sync.resources.kinds import MANAGED_BY, Key, Resource
from tests.edgemesh import objects

CONFIG = Config(node_name="a", service_range="10.96.0.0/28")
"""Fourteen addresses: clashes are common."""
OWN_KEY = objects.public_key(1)


class Receiver:
    """What whoever takes the differences has after them."""

    def __init__(self) -> None:
        self.names: dict[str, Name] = {}
        self.ports: dict[str, ServicePort] = {}

    def take(self, difference: Difference) -> None:
        for gone in difference.names_gone:
            del self.names[gone]
        for gone in difference.ports_gone:
            del self.ports[gone]
        self.names |= {name.name: name for name in difference.names}
        self.ports |= {port.name: port for port in difference.ports}


def full(snapshot: Snapshot, unreachable: set[str]) -> tuple[Receiver, Planner]:
    """A new planner's view of the same objects, in another order."""
    everything = list(snapshot.objects.values())
    random.Random(1).shuffle(everything)
    again = Snapshot()
    again.apply(everything)
    planner, receiver = Planner(CONFIG, OWN_KEY), Receiver()
    receiver.take(planner.update(again, again.everything(), unreachable))
    return receiver, planner


NAMES = st.sampled_from([f"s{i}" for i in range(8)])
NODES = st.sampled_from(["a", "b", "c"])
HOSTS = st.integers(1, 6)

services = st.builds(
    objects.service,
    name=NAMES,
    clusterIP=st.sampled_from(["", "", "", "10.96.0.5", "10.96.0.6", "None"]),
    selector=st.sampled_from([None, {"app": "x"}, {"app": "y"}]),
    trafficDistribution=st.sampled_from(["", "PreferSameZone"]),
    labels=st.sampled_from([{}, {"service.edgemesh.kubeedge.io/service-proxy-name": "x"}]),
)
pods = st.builds(
    objects.pod,
    name=st.integers(0, 9).map(lambda i: f"p{i}"),
    address=HOSTS.map(lambda i: f"10.244.1.{i}") | HOSTS.map(lambda i: f"192.0.2.{i}"),
    node=NODES,
    app=st.sampled_from(["x", "y"]),
    ready=st.booleans(),
)
slices = st.builds(
    lambda i, service, endpoints, ours: objects.piece(
        *endpoints, name=f"e{i}", service=service, labels={MANAGED_BY: MANAGER} if ours else {}
    ),
    st.integers(0, 9),
    NAMES,
    st.lists(
        st.builds(
            objects.endpoint,
            address=HOSTS.map(lambda i: f"10.244.2.{i}"),
            node=NODES,
            ready=st.booleans(),
            hostname=st.sampled_from(["", "h"]),
        ),
        max_size=3,
    ),
    st.booleans(),
)
rules = st.builds(objects.rule, name=NAMES, simple=st.sampled_from(["ROUND_ROBIN", "RANDOM", "LEAST_CONN"]))
nodes = st.builds(objects.node, name=NODES, zone=st.sampled_from(["", "site-a", "site-b"]))
mesh_nodes = st.builds(objects.mesh_node, name=NODES, number=HOSTS)
any_object: st.SearchStrategy[Resource] = st.one_of(services, services, pods, slices, rules, nodes, mesh_nodes)


class Plan(RuleBasedStateMachine):
    """Objects come and go, paths too; after each step the receiver has what a new planner would give it."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = Snapshot()
        self.planner = Planner(CONFIG, OWN_KEY)
        self.receiver = Receiver()
        self.unreachable: set[str] = set()

    def step(self, affected: Affected) -> None:
        self.receiver.take(self.planner.update(self.snapshot, affected, self.unreachable))

    @rule(changed=st.lists(any_object, min_size=1, max_size=5, unique_by=lambda found: found.key), data=st.data())
    def change(self, changed: list[Resource], data: st.DataObject) -> None:
        there = sorted(self.snapshot.objects.keys() - {found.key for found in changed})
        gone = data.draw(st.lists(st.sampled_from(there), max_size=3, unique=True)) if there else []
        self.step(self.snapshot.apply(changed, gone))

    @rule(unreachable=st.sets(NODES))
    def paths(self, unreachable: set[str]) -> None:
        self.unreachable = unreachable
        self.step(Affected(set(), set()))

    @invariant()
    def is_the_full_plan(self) -> None:
        expected, planner = full(self.snapshot, self.unreachable)
        assert self.receiver.names == expected.names
        assert self.receiver.ports == expected.ports
        assert self.planner.mesh == planner.mesh
        assert self.planner.problems == planner.problems

    @invariant()
    def indexes_are_those_of_the_objects(self) -> None:
        again = Snapshot()
        again.apply(self.snapshot.objects.values())
        for field in ("objects", "services", "nodes", "mesh_nodes", "_pods", "_selectors"):
            assert getattr(self.snapshot, field) == getattr(again, field)
        assert {key: set(map(id, found)) for key, found in self.snapshot._slices.items()} == {
            key: set(map(id, found)) for key, found in again._slices.items()
        }


Plan.TestCase.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
TestPlan = Plan.TestCase


def start(*found: Resource, **kwargs: Any) -> tuple[Snapshot, Planner, Receiver]:
    snapshot, planner, receiver = Snapshot(), Planner(Config(node_name="a"), OWN_KEY, **kwargs), Receiver()
    receiver.take(planner.update(snapshot, snapshot.apply(found)))
    return snapshot, planner, receiver


def test_a_change_gives_only_what_differs() -> None:
    found = [objects.service(f"s{i}") for i in range(50)]
    pieces = [objects.piece(objects.endpoint("10.244.2.1", "b"), name=f"e{i}", service=f"s{i}") for i in range(50)]
    snapshot, planner, _ = start(*found, *pieces)
    moved = objects.piece(objects.endpoint("10.244.2.9", "b"), name="e7", service="s7")
    difference = planner.update(snapshot, snapshot.apply([moved]))
    assert [port.name for port in difference.ports] == ["shop/s7:http"]
    assert difference._replace(ports=[]) == Difference([], [], [], [])
    assert not planner.update(snapshot, snapshot.apply([moved]))
    assert not planner.update(snapshot, Affected(set(), set()), set())


def test_addresses_and_slices_are_the_controllers_or_the_apis() -> None:
    service, pod = objects.service(selector={"app": "orders"}), objects.pod("p", "10.244.1.2")
    _, planner, receiver = start(service, pod)
    assert receiver.ports["shop/orders:http"].address == planner.address(service)
    assert [backend.address for backend in receiver.ports["shop/orders:http"].backends] == ["10.244.1.2"]
    _, _, receiver = start(service, pod, controllers=False)
    assert (receiver.names, receiver.ports) == ({}, {})
    given = objects.service(selector={"app": "orders"}, clusterIP="10.96.0.9")
    ours = objects.piece(objects.endpoint("10.244.3.3"), labels={MANAGED_BY: MANAGER})
    _, _, receiver = start(given, pod, ours, controllers=False)
    assert [backend.address for backend in receiver.ports["shop/orders:http"].backends] == ["10.244.3.3"]
    _, _, receiver = start(given, pod, ours)
    assert [backend.address for backend in receiver.ports["shop/orders:http"].backends] == ["10.244.1.2"]


def test_two_headless_services_share_a_reverse_name() -> None:
    one, two = (objects.service(name, clusterIP="None", selector={"app": "orders"}) for name in ("one", "two"))
    snapshot, planner, receiver = start(one, two, objects.pod("p", "10.244.1.2"))
    reverse = "2.1.244.10.in-addr.arpa"
    hosts = [f"10-244-1-2.{name}.shop.svc.cluster.local" for name in ("one", "two")]
    assert receiver.names[reverse].ptr == tuple(hosts)
    receiver.take(planner.update(snapshot, snapshot.apply([], [one.key])))
    assert receiver.names[reverse].ptr == (hosts[1],)
    receiver.take(planner.update(snapshot, snapshot.apply([], [two.key])))
    assert receiver.names == {}


def test_path_lost_and_found() -> None:
    piece = objects.piece(objects.endpoint("10.244.1.2", "a"), objects.endpoint("10.244.2.2", "b"))
    snapshot, planner, receiver = start(objects.service(), piece)
    for away, expected in (({"b"}, ["10.244.1.2"]), (set[str](), ["10.244.1.2", "10.244.2.2"])):
        receiver.take(planner.update(snapshot, Affected(set(), set()), away))
        assert [backend.address for backend in receiver.ports["shop/orders:http"].backends] == expected


def test_node_moves_its_mesh_address() -> None:
    piece = objects.piece(objects.endpoint("192.0.2.2", "b"))
    snapshot, planner, receiver = start(objects.service(), piece, objects.mesh_node("b", 2))
    assert receiver.ports["shop/orders:http"].backends[0].address == "10.222.0.2"
    status = {"meshAddresses": ["10.222.0.77"]}
    difference = planner.update(snapshot, snapshot.apply([objects.mesh_node("b", 2, status=status)]))
    assert difference.mesh is not None
    assert difference.mesh.peers[0].allowed_ips == ("10.222.0.77/32",)
    receiver.take(difference)
    assert receiver.ports["shop/orders:http"].backends[0].address == "10.222.0.77"


def test_problems_name_their_object() -> None:
    _, planner, _ = start(
        objects.service("x", clusterIP="10.96.0.9"), objects.service("y", clusterIP="10.96.0.9"), objects.service(),
        objects.rule(simple="PASSTHROUGH"), objects.mesh_node("b", 1),
    )  # fmt: skip
    assert [problem.subject for problem in planner.problems] == [
        "MeshNode b",
        "MeshNode a",
        "Service shop/y",
        "DestinationRule shop/orders",
    ]
    assert planner.address(objects.service("y")) == ""
    assert Key("Service", "shop", "x") in planner._allocation.addresses


def addresses(receiver: Receiver) -> list[str]:
    return [backend.address for backend in receiver.ports["shop/orders:http"].backends]


def test_node_that_goes_frees_its_address_for_another() -> None:
    status = {"meshAddresses": ["10.222.0.2"]}
    second = objects.mesh_node("c", 3, status=status)
    piece = objects.piece(objects.endpoint("192.0.2.3", "c"))
    first = objects.mesh_node("b", 2)
    snapshot, planner, receiver = start(objects.service(), piece, first, second)
    assert addresses(receiver) == ["192.0.2.3"]
    receiver.take(planner.update(snapshot, snapshot.apply([], [first.key])))
    assert addresses(receiver) == ["10.222.0.2"]


def test_this_node_moves_to_another_zone() -> None:
    ends = [
        objects.endpoint(f"10.244.{i}.2", name, hints={"forZones": [{"name": f"site-{name}"}]})
        for i, name in enumerate("bc")
    ]
    snapshot, planner, receiver = start(
        objects.service(), objects.piece(*ends), objects.node("a", "site-b"), *map(objects.node, "bc")
    )
    assert addresses(receiver) == ["10.244.0.2"]
    receiver.take(planner.update(snapshot, snapshot.apply([objects.node("a", "site-c")])))
    assert addresses(receiver) == ["10.244.1.2"]
