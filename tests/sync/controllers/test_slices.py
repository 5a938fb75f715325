"""Slices from selectors and pods, against a naive model of upstream's controller."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync.controllers.slices import MANAGER, MAX_ENDPOINTS, made_here, selects, slices
from sync.resources.decode import decode
from sync.resources.kinds import MANAGED_BY, EndpointSlice, Node, Pod, Service


def service(**spec: Any) -> Service:
    data = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": {"selector": {"app": "orders"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]} | spec,
    }
    found, faults = decode(data)
    assert isinstance(found, Service), faults
    return found


def pod(
    name: str = "a",
    ip: str = "10.244.1.2",
    *,
    ready: bool = True,
    phase: str = "Running",
    deleted: bool = False,
    labels: dict[str, str] | None = None,
    namespace: str = "shop",
    **spec: Any,
) -> Pod:
    container = {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}
    data: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": "orders"} if labels is None else labels},
        "spec": {"containers": [container], "nodeName": "node-a"} | spec,
        "status": {
            "phase": phase,
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }
    if deleted:
        data["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found, faults = decode(data)
    assert isinstance(found, Pod), faults
    return found


def node(name: str = "node-a", zone: str = "site-a") -> Node:
    labels = {"topology.kubernetes.io/zone": zone}
    found, faults = decode({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})
    assert isinstance(found, Node), faults
    return found


NODES = {"node-a": node()}


def conditions(piece: EndpointSlice) -> tuple[bool | None, bool | None, bool | None]:
    found = piece.endpoints[0].conditions
    return found.ready, found.serving, found.terminating


def test_one_pod() -> None:
    (piece,) = slices(service(), [pod()], NODES)
    assert piece.service == service().key
    assert made_here(piece)
    assert piece.metadata.labels[MANAGED_BY] == MANAGER
    (port,) = piece.ports
    assert (port.name, port.protocol, port.port) == ("http", "TCP", 8080)
    (endpoint,) = piece.endpoints
    assert endpoint.addresses == ("10.244.1.2",)
    assert (endpoint.node_name, endpoint.zone, endpoint.hostname, endpoint.hints) == ("node-a", "site-a", "", None)
    assert conditions(piece) == (True, True, False)


def test_conditions() -> None:
    for kwargs, expected in (
        ({"ready": False}, (False, False, False)),
        ({"deleted": True}, (False, True, True)),
        ({"deleted": True, "ready": False}, (False, False, True)),
    ):
        (piece,) = slices(service(), [pod(**kwargs)], NODES)  # type: ignore[arg-type]
        assert conditions(piece) == expected
        (piece,) = slices(service(publishNotReadyAddresses=True), [pod(**kwargs)], NODES)  # type: ignore[arg-type]
        assert conditions(piece) == (True, *expected[1:])


def test_who_is_no_endpoint() -> None:
    assert slices(service(), [pod(ip="")], NODES) == ()
    assert slices(service(), [pod(phase="Succeeded"), pod(phase="Failed")], NODES) == ()
    assert slices(service(), [pod(labels={"app": "other"}), pod(labels={}), pod(namespace="bank")], NODES) == ()
    assert slices(service(selector=None), [pod()], NODES) == ()
    assert not selects(service(type="ExternalName", externalName="x.example"), pod())


def test_named_ports_that_differ_make_several_slices() -> None:
    other = {"name": "c", "ports": [{"name": "web", "containerPort": 9090}]}
    sidecar = {"name": "s", "restartPolicy": "Always", "ports": [{"name": "web", "containerPort": 7070}]}
    pods = [
        pod("a", "10.244.1.1"),
        pod("b", "10.244.1.2", containers=[other]),
        pod("c", "10.244.1.3", containers=[{"name": "c"}], initContainers=[sidecar]),
        pod("d", "10.244.1.4", containers=[{"name": "c"}], initContainers=[sidecar | {"restartPolicy": None}]),
        pod("e", "fd00::5"),
    ]
    found = {
        piece.endpoints[0].addresses[0]: (piece.address_type, [port.port for port in piece.ports])
        for piece in slices(service(), pods, NODES)
    }
    assert found == {
        "10.244.1.1": ("IPv4", [8080]),
        "10.244.1.2": ("IPv4", [9090]),
        "10.244.1.3": ("IPv4", [7070]),
        "10.244.1.4": ("IPv4", []),
        "fd00::5": ("IPv6", [8080]),
    }


def test_target_port_by_number_or_the_same() -> None:
    two = [{"name": "x", "port": 80}, {"name": "y", "port": 53, "protocol": "UDP", "targetPort": 5353}]
    (piece,) = slices(service(ports=two), [pod()], NODES)
    assert [(port.name, port.protocol, port.port) for port in piece.ports] == [("x", "TCP", 80), ("y", "UDP", 5353)]


def test_hostname_only_in_its_own_subdomain() -> None:
    for spec, expected in (
        ({"hostname": "db-0", "subdomain": "orders"}, "db-0"),
        ({"hostname": "db-0", "subdomain": "other"}, ""),
        ({"hostname": "db-0"}, ""),
    ):
        (piece,) = slices(service(), [pod(**spec)], NODES)  # type: ignore[arg-type]
        assert piece.endpoints[0].hostname == expected


def test_hints_as_traffic_distribution_says() -> None:
    for distribution, zones, nodes in (
        ("PreferClose", ["site-a"], []),
        ("PreferSameZone", ["site-a"], []),
        ("PreferSameNode", ["site-a"], ["node-a"]),
    ):
        (piece,) = slices(service(trafficDistribution=distribution), [pod()], NODES)
        hints = piece.endpoints[0].hints
        assert hints is not None
        assert [hint.name for hint in hints.for_zones] == zones
        assert [hint.name for hint in hints.for_nodes] == nodes
        (piece,) = slices(service(trafficDistribution=distribution), [pod()], {})
        assert piece.endpoints[0].hints is None


def test_no_slice_is_larger_than_the_limit() -> None:
    pods = [pod(f"p{i:03}", f"10.244.1.{i}") for i in range(1, 251)]
    found = slices(service(), pods, NODES)
    assert [len(piece.endpoints) for piece in found] == [MAX_ENDPOINTS, MAX_ENDPOINTS, 50]
    assert len({piece.metadata.name for piece in found}) == 3


pods = st.builds(
    pod,
    name=st.integers(0, 99).map(lambda i: f"p{i}"),
    ip=st.sampled_from(["", "10.244.1.1", "10.244.1.2", "10.244.2.1", "fd00::1"]),
    ready=st.booleans(),
    phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
    deleted=st.booleans(),
    labels=st.sampled_from([{"app": "orders"}, {"app": "orders", "x": "y"}, {"app": "other"}, {}]),
    namespace=st.sampled_from(["shop", "bank"]),
    nodeName=st.sampled_from(["", "node-a", "node-b"]),
    containers=st.lists(st.sampled_from([{"name": "c", "ports": [{"name": "web", "containerPort": 1}]}]), max_size=1),
)


@given(st.lists(pods, max_size=8, unique_by=lambda pod: pod.key), st.booleans(), st.randoms())
def test_against_a_naive_model(found: list[Pod], publish: bool, random: Any) -> None:
    expected = set()
    for each in found:
        if each.metadata.namespace != "shop" or each.metadata.labels.get("app") != "orders":
            continue
        if not each.status.pod_ip or each.status.phase in ("Succeeded", "Failed"):
            continue
        serving = each.status.conditions[0].status == "True"
        terminating = each.metadata.deletion_timestamp != ""
        ready = publish or (serving and not terminating)
        ports = tuple(port.container_port for container in each.spec.containers for port in container.ports)
        zone = "site-a" if each.spec.node_name == "node-a" else ""
        expected.add((each.status.pod_ip, ready, serving, terminating, each.spec.node_name, zone, ports))
    made = slices(service(publishNotReadyAddresses=publish), found, NODES)
    actual = {
        (
            endpoint.addresses[0],
            endpoint.conditions.ready,
            endpoint.conditions.serving,
            endpoint.conditions.terminating,
            endpoint.node_name,
            endpoint.zone,
            tuple(port.port for port in piece.ports),
        )
        for piece in made
        for endpoint in piece.endpoints
    }
    assert actual == expected
    shuffled = list(found)
    random.shuffle(shuffled)
    assert slices(service(publishNotReadyAddresses=publish), shuffled, NODES) == made


def test_an_address_that_no_endpoint_can_have_keeps_no_other_pod_out() -> None:
    lies = ("127.0.0.1", "169.254.96.16", "224.0.0.1", "0.0.0.0", "::1", "fe80::1", "ff02::1", "::")
    pods = [pod(f"liar-{number}", ip) for number, ip in enumerate(lies)] + [pod("good", "10.244.1.9")]
    (found,) = slices(service(), pods, {})
    assert [each.addresses for each in found.endpoints] == [("10.244.1.9",)]
