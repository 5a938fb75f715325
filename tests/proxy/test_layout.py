"""Packets traced through the rendered ruleset: who is picked, who is refused, whose source changes."""

from collections import Counter

import pytest

from proxy.address import LayoutError, Prefix
from proxy.change import AddElements, Contents, FlushChain
from proxy.layout import Names, place
from proxy.service import Backend, NodeNetwork, Policy, Protocol, ServicePort

from .machine import ACK, ICMP, SCTP, SYN, TCP, UDP, Machine, Packet

NETWORK = NodeNetwork("10.250.0.1", "10.244.1.0/24")
THREE = tuple(Backend(f"10.244.1.{last}", 8080) for last in (1, 2, 3))
ENDPOINTS = {f"{each.address}:{each.port}" for each in THREE}


def service(
    name: str = "shop/orders:http",
    address: str = "10.96.0.1",
    protocol: Protocol = Protocol.TCP,
    port: int = 80,
    backends: tuple[Backend, ...] = THREE,
    policy: Policy = Policy.RANDOM,
    affinity: int | None = None,
) -> ServicePort:
    return ServicePort(name, address, protocol, port, backends, policy, affinity)


def loaded(*services: ServicePort, network: NodeNetwork = NETWORK) -> tuple[Machine, Contents]:
    machine, contents = Machine(), Contents(network, 1)
    machine.apply(contents.load(services))
    machine.apply(contents.switch())
    return machine, contents


def picked(machine: Machine, times: int, to: str = "10.96.0.1", source: str = "10.244.1.9") -> list[str]:
    return [machine.connect(Packet(source, to)).endpoint for _ in range(times)]


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("protocol", list(Protocol))
def test_random_spreads_evenly_for_pods_and_node(protocol: Protocol, local: bool) -> None:
    machine, _ = loaded(service(protocol=protocol))
    number = {Protocol.TCP: TCP, Protocol.UDP: UDP, Protocol.SCTP: SCTP}[protocol]
    counts = Counter(
        machine.connect(Packet("10.244.1.9", "10.96.0.1", number), local=local).endpoint for _ in range(900)
    )
    assert set(counts) == ENDPOINTS
    assert min(counts.values()) > 240


def test_protocols_are_told_apart() -> None:
    machine, _ = loaded(service(protocol=Protocol.SCTP))
    assert machine.connect(Packet("10.244.1.9", "10.96.0.1", SCTP)).endpoint in ENDPOINTS
    assert machine.connect(Packet("10.244.1.9", "10.96.0.1", TCP)).reset


def test_round_robin_takes_turns_and_counts_each_service_alone() -> None:
    two = THREE[:2]
    machine, _ = loaded(
        service("a/a:p", "10.96.0.1", backends=two, policy=Policy.ROUND_ROBIN),
        service("b/b:p", "10.96.0.2", backends=two, policy=Policy.ROUND_ROBIN),
    )
    called: dict[str, Counter[str]] = {"10.96.0.1": Counter(), "10.96.0.2": Counter()}
    for _ in range(50):
        for address, counts in called.items():
            counts[machine.connect(Packet("10.244.1.9", address)).endpoint] += 1
    assert [sorted(counts.values()) for counts in called.values()] == [[25, 25], [25, 25]]


def test_source_hash_depends_on_the_client_alone() -> None:
    machine, _ = loaded(service(policy=Policy.SOURCE_HASH))
    clients = [f"10.244.1.{last}" for last in range(9, 200)]
    first = {client: machine.connect(Packet(client, "10.96.0.1")).endpoint for client in clients}
    again, _ = loaded(service(policy=Policy.SOURCE_HASH, backends=THREE[::-1]))
    assert first == {client: again.connect(Packet(client, "10.96.0.1")).endpoint for client in clients}
    assert set(first.values()) == ENDPOINTS


def test_affinity_keeps_a_client_until_its_timeout_which_each_connection_renews() -> None:
    machine, _ = loaded(service(affinity=10))
    stuck = picked(machine, 1)[0]
    for _ in range(20):
        machine.now += 9
        assert picked(machine, 1) == [stuck]
    seen = set()
    for _ in range(60):
        machine.now += 11
        seen.update(picked(machine, 1))
    assert seen == ENDPOINTS


@pytest.mark.parametrize("policy", list(Policy))
def test_affinity_spreads_new_clients_by_the_policy(policy: Policy) -> None:
    machine, _ = loaded(service(affinity=10, policy=policy))
    clients = [f"10.{low}.{last}.7" for low in range(3) for last in range(100)]
    picks = [machine.connect(Packet(client, "10.96.0.1")).endpoint for client in clients]
    if policy is Policy.ROUND_ROBIN:
        assert picks == (picks[:3] * 100)
    assert set(picks) == ENDPOINTS
    assert min(Counter(picks).values()) > 60


def test_affinity_ends_with_its_endpoint_and_not_for_the_others() -> None:
    before = service(affinity=10_800)
    machine, contents = loaded(before)
    clients = [f"10.244.2.{last}" for last in range(1, 60)]
    stuck = {client: machine.connect(Packet(client, "10.96.0.1")).endpoint for client in clients}
    gone = f"{THREE[1].address}:{THREE[1].port}"
    assert gone in stuck.values()
    machine.apply(contents.update([service(affinity=60, backends=(THREE[0], THREE[2]))], []).operations)
    for client, endpoint in stuck.items():
        now = machine.connect(Packet(client, "10.96.0.1")).endpoint
        assert now == endpoint if endpoint != gone else now in ENDPOINTS - {gone}


def test_a_full_set_of_clients_serves_new_ones_without_remembering() -> None:
    machine, _ = loaded(service(affinity=10))
    machine.cap = 2
    clients = [f"10.244.2.{last}" for last in range(1, 60)]
    picks = [machine.connect(Packet(client, "10.96.0.1")) for client in clients]
    assert {packet.endpoint for packet in picks} == ENDPOINTS
    assert [len(clients) for clients in machine.remembered.values()] == [2, 2, 2]


@pytest.mark.parametrize("local", [False, True])
def test_without_endpoints_or_with_an_unknown_port_it_is_refused(local: bool) -> None:
    machine, _ = loaded(service(backends=()), service("a/b:c", port=53, protocol=Protocol.UDP, backends=()))
    assert machine.connect(Packet("10.244.1.9", "10.96.0.1"), local=local).reset
    assert machine.connect(Packet("10.244.1.9", "10.96.0.1", UDP, 53), local=local).unreachable
    assert machine.connect(Packet("10.244.1.9", "10.96.0.1", port=81), local=local).reset
    assert machine.connect(Packet("10.244.1.9", "10.96.0.77", UDP), local=local).unreachable
    assert machine.connect(Packet("10.244.1.9", "10.111.255.255", ICMP), local=local).unreachable


def test_what_is_no_service_passes_as_it_is() -> None:
    machine, _ = loaded(service())
    for to in ("10.244.1.2", "192.0.2.1", "10.112.0.1"):
        packet = machine.connect(Packet("10.244.1.9", to))
        assert not packet.refused
        assert packet.endpoint == f"{to}:80"
        assert packet.source == "10.244.1.9"


def test_a_pod_that_reaches_itself_sees_the_node() -> None:
    machine, _ = loaded(service(backends=THREE[:1]))
    assert machine.connect(Packet("10.244.1.1", "10.96.0.1")).source == "10.250.0.1"
    assert machine.connect(Packet("10.244.1.2", "10.96.0.1")).source == "10.244.1.2"


def test_a_pod_that_reaches_itself_sees_the_service_on_a_node_without_addresses() -> None:
    machine, _ = loaded(service(backends=THREE[:1]), network=NodeNetwork())
    assert machine.connect(Packet("10.244.1.1", "10.96.0.1")).source == "10.96.0.1"


def test_only_pods_of_this_node_are_kept_as_hairpins() -> None:
    remote = Backend("10.244.2.1", 8080)
    _, contents = loaded()
    change = contents.update([service(backends=(*THREE, remote))], [])
    added = {op.name: len(op.elements) for op in change.operations if isinstance(op, AddElements)}
    assert added["hairpins.1"] == 3


@pytest.mark.parametrize(
    ("source", "seen"), [("10.244.1.9", "10.244.1.9"), ("10.250.0.1", "10.250.0.1"), ("192.168.5.5", "10.250.0.1")]
)
def test_sources_by_the_tunnel(source: str, seen: str) -> None:
    machine, _ = loaded(service(backends=(Backend("10.244.2.1", 80),)))
    by_tunnel = machine.connect(Packet(source, "10.96.0.1", leaves="edgemesh-wg"))
    assert by_tunnel.source == seen
    assert by_tunnel.translated_source, "settled, so that no other table masquerades it"
    assert not machine.connect(Packet(source, "192.0.2.1", leaves="eth0")).translated_source


def test_segment_sizes_are_lowered_on_the_tunnel_only_and_data_meets_one_rule() -> None:
    machine, _ = loaded(service())
    assert machine.forward(Packet("10.244.1.9", "10.244.2.1", leaves="edgemesh-wg")).clamped
    assert machine.forward(Packet("10.244.2.1", "10.244.1.9", entered="edgemesh-wg", flags=SYN | ACK)).clamped
    assert not machine.forward(Packet("10.244.1.9", "10.244.1.2")).clamped
    data = machine.forward(Packet("10.244.1.9", "10.244.2.1", flags=ACK, leaves="edgemesh-wg"))
    assert not data.clamped
    assert data.rules == 1


def test_a_change_of_one_endpoint_names_that_endpoint_alone() -> None:
    others = [service(f"ns/s{number}:p", f"10.97.0.{number}") for number in range(100)]
    _, contents = loaded(service(), *others)
    moved = Backend("10.244.1.3", 9090)
    change = contents.update([service(backends=(*THREE[:2], moved))], [])
    assert [(type(op).__name__, op.name) for op in change.operations] == [
        ("DropElements", "slots.1"),
        ("AddElements", "slots.1"),
    ]
    assert not contents.update([service(backends=(*THREE[:2], moved))], []).operations
    assert not any(isinstance(op, FlushChain) for op in change.operations)


@pytest.mark.parametrize(
    "wrong",
    [
        service(address="fd00::1"),
        service(address="10.96.0.1 "),
        service(backends=(Backend("nowhere", 1),)),
        service(port=0),
        service(backends=(Backend("10.244.1.1", 65536),)),
        service(affinity=0),
    ],
)
def test_what_cannot_be_expressed_is_left_out_and_said(wrong: ServicePort, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LayoutError):
        place(wrong, Names(1))
    machine, contents = loaded(wrong, service("fine/fine:p", "10.96.0.9"))
    assert picked(machine, 1, "10.96.0.9")[0] in ENDPOINTS
    assert "shop/orders:http is left out" in caplog.text
    machine.apply(contents.update([service()], []).operations)
    assert picked(machine, 1)[0] in ENDPOINTS


@pytest.mark.parametrize("text", ["10.96.0.0", "10.96.0.0/33", "10.96.0/12", "10.96.0.0/²", ""])
def test_wrong_ranges_are_named(text: str) -> None:
    with pytest.raises(LayoutError):
        Prefix.parse(text)


def test_ranges() -> None:
    assert bytes((10, 111, 255, 255)) in Prefix.parse("10.96.0.0/12")
    assert bytes((10, 112, 0, 0)) not in Prefix.parse("10.96.0.0/12")
    assert bytes((1, 2, 3, 4)) in Prefix.parse("0.0.0.0/0")
    with pytest.raises(LayoutError):
        Contents(NodeNetwork(tunnel_device="a-name-far-too-long"), 1)
