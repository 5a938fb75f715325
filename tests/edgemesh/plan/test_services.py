"""Services to the proxy's ports: which endpoints, and how they are chosen."""

import pytest

from edgemesh.agent_file import FilterMode
from edgemesh.config import Config
from edgemesh.plan.peers import Mesh
from edgemesh.plan.services import FILTER_LABEL, View, ports
from proxy.service import Backend, Policy, Protocol, ServicePort
from sync.resources.kinds import DestinationRule, EndpointSlice, Service
from tests.edgemesh.objects import endpoint, piece, rule, service

MESH = Mesh(addresses={"b": "10.222.0.2"}, hosts={"b": frozenset({"192.0.2.2"})}, zone="site-a")
VIEW = View(Config(node_name="a"), MESH)


def look(found: Service, *pieces: EndpointSlice, view: View = VIEW) -> list[str]:
    """Addresses of the first port's endpoints."""
    return [backend.address for backend in ports(found, "10.96.7.8", pieces, None, view)[0][0].backends]


def test_ports() -> None:
    two = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "none", "port": 9, "protocol": "SCTP"},
    ]
    pieces = [
        piece(endpoint("10.244.2.2"), endpoint("10.244.1.2"), ports=[{"name": "http", "port": 8080}]),
        piece(endpoint("10.244.1.3"), name="p2", ports=[{"name": "http", "port": 9090}]),
        piece(endpoint("10.244.1.3"), name="p3", ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}]),
        piece(endpoint("10.244.1.4"), name="p4", ports=[{"name": "dns", "port": 5353}, {"name": "http"}]),
        piece(endpoint("fd00::1"), name="p5", addressType="IPv6"),
    ]
    assert ports(service(ports=two), "10.96.7.8", pieces, None, VIEW) == (
        [
            ServicePort(
                "shop/orders:http",
                "10.96.7.8",
                Protocol.TCP,
                80,
                (Backend("10.244.1.2", 8080), Backend("10.244.1.3", 9090), Backend("10.244.2.2", 8080)),
            ),
            ServicePort("shop/orders:dns", "10.96.7.8", Protocol.UDP, 53, (Backend("10.244.1.3", 5353),)),
            ServicePort("shop/orders:none", "10.96.7.8", Protocol.SCTP, 9),
        ],
        [],
    )
    unnamed, _ = ports(service(ports=[{"port": 80}]), "10.96.7.8", [], None, VIEW)
    assert unnamed[0].name == "shop/orders"


def test_not_proxied() -> None:
    assert ports(service(), "", [], None, VIEW) == ([], [])
    assert ports(service(clusterIP="None"), "10.96.7.8", [], None, VIEW) == ([], [])
    external = service(type="ExternalName", externalName="x.example")
    assert ports(external, "10.96.7.8", [], None, VIEW) == ([], [])


@pytest.mark.parametrize("mode", list(FilterMode))
def test_filter(mode: FilterMode) -> None:
    view = View(Config(node_name="a", filter_mode=mode), MESH)
    labelled = ports(service(labels={FILTER_LABEL: ""}), "10.96.7.8", [], None, view)[0]
    plain = ports(service(), "10.96.7.8", [], None, view)[0]
    assert (bool(labelled), bool(plain)) == (mode is FilterMode.DOES_NOT_EXIST, mode is FilterMode.EXISTS)


def test_ready_else_serving_while_terminating() -> None:
    dying = endpoint("10.244.1.3", "a", ready=False, serving=True, terminating=True)
    dead = endpoint("10.244.1.4", "a", ready=False, serving=False, terminating=True)
    starting = endpoint("10.244.1.5", "a", ready=False)
    assert look(service(), piece(endpoint("10.244.1.2", "a"), dying, dead, starting)) == ["10.244.1.2"]
    assert look(service(), piece(dying, dead, starting)) == ["10.244.1.3"]
    assert look(service(), piece(dead, starting)) == []
    assert look(service(), piece(endpoint("10.244.1.2", ready=None))) == ["10.244.1.2"]


def test_one_endpoint_in_two_slices_is_ready_if_it_is_in_one() -> None:
    for order in (1, -1):
        both = [piece(endpoint("10.244.1.2", ready=False)), piece(endpoint("10.244.1.2"), name="second")]
        assert look(service(), *both[::order]) == ["10.244.1.2"]


def test_nodes_without_a_path_are_left_out_while_others_remain() -> None:
    pieces = piece(endpoint("10.244.1.2", "a"), endpoint("10.244.2.2", "b"), endpoint("10.244.3.2", "c"))
    for away, expected in (
        ({"b"}, ["10.244.1.2", "10.244.3.2"]),
        ({"b", "c"}, ["10.244.1.2"]),
        ({"a", "b", "c"}, ["10.244.1.2", "10.244.2.2", "10.244.3.2"]),
    ):
        assert look(service(), pieces, view=VIEW._replace(unreachable=away)) == expected
        refused = VIEW._replace(mesh=MESH._replace(cut_off=frozenset(away)))
        assert look(service(), pieces, view=refused) == expected
    last = piece(endpoint("10.244.2.2", "b"), endpoint("10.244.3.2", "c", ready=False, serving=True, terminating=True))
    assert look(service(), last, view=VIEW._replace(unreachable={"b"})) == ["10.244.3.2"]


def test_nodes_that_were_deleted_are_left_out_in_any_case() -> None:
    """Their pods' ranges have no route into the mesh any more: what went there would go out in clear."""
    pieces = piece(endpoint("10.244.1.2", "a"), endpoint("10.244.2.2", "b"), endpoint("10.99.0.1"))
    for known, expected in (
        ({"a", "b"}, ["10.244.1.2", "10.244.2.2", "10.99.0.1"]),
        ({"a"}, ["10.244.1.2", "10.99.0.1"]),
        ({"c"}, ["10.99.0.1"]),
        (set(), ["10.244.1.2", "10.244.2.2", "10.99.0.1"]),
    ):
        view = VIEW._replace(mesh=MESH._replace(known=frozenset(known)))
        assert look(service(), pieces, view=view) == expected
    only_a = VIEW._replace(mesh=MESH._replace(known=frozenset("a")))
    assert look(service(), piece(endpoint("10.244.2.2", "b")), view=only_a) == []


def test_host_network_at_the_mesh_address() -> None:
    assert look(service(), piece(endpoint("192.0.2.2", "b"))) == ["10.222.0.2"]


def test_local_traffic_policy() -> None:
    pieces = piece(endpoint("10.244.1.2", "a"), endpoint("10.244.2.2", "b"))
    assert look(service(internalTrafficPolicy="Local"), pieces) == ["10.244.1.2"]
    assert look(service(internalTrafficPolicy="Local"), piece(endpoint("10.244.2.2", "b"))) == []
    dying = endpoint("10.244.1.3", "a", ready=False, serving=True, terminating=True)
    assert look(service(internalTrafficPolicy="Local"), piece(endpoint("10.244.2.2", "b"), dying)) == ["10.244.1.3"]


def hints(*zones: str, nodes: tuple[str, ...] = ()) -> dict[str, list[dict[str, str]]]:
    return {"forZones": [{"name": zone} for zone in zones], "forNodes": [{"name": node} for node in nodes]}


def test_hints() -> None:
    near = endpoint("10.244.1.2", "a", hints=hints("site-a"))
    far = endpoint("10.244.2.2", "b", hints=hints("site-b"))
    assert look(service(), piece(near, far)) == ["10.244.1.2"]
    assert look(service(), piece(far)) == ["10.244.2.2"]
    assert look(service(), piece(near, far), view=VIEW._replace(unreachable={"a"})) == ["10.244.2.2"]
    assert look(service(), piece(near, endpoint("10.244.2.2", "b"))) == ["10.244.1.2", "10.244.2.2"]
    unready = endpoint("10.244.3.2", "c", ready=False)
    assert look(service(), piece(near, far, unready)) == ["10.244.1.2"]
    zoneless = View(VIEW.config, MESH._replace(zone=""))
    assert look(service(), piece(near, far), view=zoneless) == ["10.244.1.2", "10.244.2.2"]


def test_hints_for_nodes_come_before_those_for_zones() -> None:
    here = endpoint("10.244.1.2", "a", hints=hints("site-a", nodes=("a",)))
    beside = endpoint("10.244.5.2", "a2", hints=hints("site-a", nodes=("a2",)))
    far = endpoint("10.244.2.2", "b", hints=hints("site-b", nodes=("b",)))
    assert look(service(), piece(here, beside, far)) == ["10.244.1.2"]
    assert look(service(), piece(beside, far)) == ["10.244.5.2"]
    assert look(service(), piece(far)) == ["10.244.2.2"]


def test_affinity() -> None:
    for spec, expected in (
        ({}, None),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}}}, 7),
        ({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}}}, None),
    ):
        assert ports(service(**spec), "10.96.7.8", [], None, VIEW)[0][0].affinity == expected


@pytest.mark.parametrize(
    ("found", "policy", "problem"),
    [
        (None, Policy.RANDOM, ""),
        (rule(), Policy.RANDOM, ""),
        (rule(simple="RANDOM"), Policy.RANDOM, ""),
        (rule(simple="ROUND_ROBIN"), Policy.ROUND_ROBIN, ""),
        (rule(simple="LEAST_REQUEST"), Policy.RANDOM, "loadBalancer.simple 'LEAST_REQUEST' is none of RANDOM, ROUND"),
        (rule(consistentHash={"useSourceIp": True}), Policy.SOURCE_HASH, ""),
        (rule(consistentHash={"httpHeaderName": "User"}), Policy.RANDOM, "consistentHash by HTTP header needs a proxy"),
        (rule(consistentHash={"httpCookie": {"name": "x"}}), Policy.RANDOM, "consistentHash by what it says"),
    ],
)
def test_policy(found: DestinationRule | None, policy: Policy, problem: str) -> None:
    (port,), problems = ports(service(), "10.96.7.8", [], found, VIEW)
    assert port.policy == policy
    assert [str(told)[: len(problem) + 29] for told in problems] == (
        [f"DestinationRule shop/orders: {problem}"] if problem else []
    )
