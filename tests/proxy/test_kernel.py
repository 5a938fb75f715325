"""The proxy on a real kernel, with real connections."""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from e2e.lab.namespaces import Bed, Space
from proxy.proxy import Proxy, ProxyError
from proxy.service import NodeNetwork, Policy, Protocol, ServicePort

from .node import ENVIRONMENT, MESH, NETWORK, PEER, PODS, Agent, Node, Process, service

pytestmark = pytest.mark.bed

SERVICE = "10.96.0.1:80"
Client = Callable[[Space, str], Process]

UDP_CLIENT = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(1)
one.connect(("10.96.0.1", 80))
print("ready", flush=True)
for line in sys.stdin:
    try:
        one.send(b"?")
        print(one.recv(2048).decode(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""

TCP_CLIENT = """
import socket, sys
one = socket.create_connection(("10.96.0.1", 80), timeout=10)
lines = one.makefile()
print(lines.readline().strip(), flush=True)
for line in sys.stdin:
    one.sendall(line.encode())
    print(lines.readline().strip(), flush=True)
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Bed() as bed:
        yield Node(bed)


@pytest.fixture
def start(node: Node) -> Iterator[Callable[[], Agent]]:
    """Starts an agent's proxy; the table and all processes are gone after the test."""
    agents: list[Agent] = []

    def make() -> Agent:
        agents.append(Agent(node.host))
        return agents[-1]

    yield make
    for agent in agents:
        agent.close()
    node.host.run("nft delete table ip edgemesh", check=False)


@pytest.fixture
def agent(start: Callable[[], Agent]) -> Agent:
    return start()


@pytest.fixture
def client() -> Iterator[Client]:
    """Starts a client's code in a host, and ends it after the test."""
    clients: list[Process] = []

    def make(host: Space, code: str) -> Process:
        clients.append(Process(host, [sys.executable, "-c", code]))
        return clients[-1]

    yield make
    for each in clients:
        each.close()


def test_probe_says_yes_where_it_may_and_leaves_nothing(node: Node, agent: Agent) -> None:
    assert agent.probe() is None
    assert "edgemesh-probe" not in node.tables()


def test_probe_and_proxy_say_what_is_missing_without_privilege(node: Node) -> None:
    code = (
        "from proxy.proxy import *; from proxy.service import *; print(probe())\n"
        "try: Proxy(NodeNetwork()).apply({})\n"
        "except ProxyError as error: print(error)"
    )
    said = node.host.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", sys.executable, "-c", code],
        env=ENVIRONMENT,
    )
    lines = said.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.endswith("Operation not permitted; run as root, or with CAP_NET_ADMIN in this network namespace")


@pytest.mark.parametrize("policy", list(Policy))
def test_pods_reach_endpoints_with_their_own_source(node: Node, agent: Agent, policy: Policy) -> None:
    agent.apply(service(policy=policy, backends=(*PODS[1:], PEER)))
    seen = node.call(node.pods[0], SERVICE, times=60)
    assert {source for _, source in seen} == {PODS[0]}
    who = Counter(name for name, _ in seen)
    if policy is Policy.SOURCE_HASH:
        assert len(who) == 1
        assert who.keys() < {"pod2", "pod3", "peer"}
    else:
        assert who.keys() == {"pod2", "pod3", "peer"}
    if policy is Policy.ROUND_ROBIN:
        assert set(who.values()) == {20}


def test_two_services_with_round_robin_called_in_turn_are_each_balanced(node: Node, agent: Agent) -> None:
    agent.apply(
        service("a/a:p", "10.96.0.1", PODS[1:], policy=Policy.ROUND_ROBIN),
        service("b/b:p", "10.96.0.2", PODS[1:], policy=Policy.ROUND_ROBIN),
    )
    seen = node.call(node.pods[0], "10.96.0.1:80", "10.96.0.2:80", times=20)
    for calls in (seen[::2], seen[1::2]):
        assert Counter(name for name, _ in calls) == {"pod2": 10, "pod3": 10}


def test_the_node_itself_calls_with_its_mesh_address(node: Node, agent: Agent) -> None:
    agent.apply(service(backends=(PODS[0], PEER)))
    seen = node.call(node.host, SERVICE, times=20)
    assert {name for name, _ in seen} == {"pod1", "peer"}
    assert {source for _, source in seen} == {MESH}


def test_a_client_sticks_until_its_endpoint_goes(node: Node, agent: Agent) -> None:
    sticky = service(affinity=10_800)
    agent.apply(sticky)
    seen = node.call(node.host, SERVICE, times=10)
    assert len({name for name, _ in seen}) == 1
    stuck = int(seen[0][0][-1]) - 1
    agent.update([service(affinity=10_800, backends=(*PODS[:stuck], *PODS[stuck + 1 :]))])
    after = {name for name, _ in node.call(node.host, SERVICE, times=10)}
    assert len(after) == 1
    assert after < {"pod1", "pod2", "pod3"} - {seen[0][0]}


def test_a_pod_that_reaches_itself_sees_the_node(node: Node, agent: Agent) -> None:
    agent.apply(service(backends=PODS[:1]))
    assert node.call(node.pods[0], SERVICE) == [["pod1", MESH]]
    assert node.call(node.pods[1], SERVICE) == [["pod1", PODS[1]]]
    agent.set_network(NodeNetwork())
    assert node.call(node.pods[0], SERVICE) == [["pod1", "10.96.0.1"]]


def test_other_sources_leave_by_the_tunnel_as_the_node(node: Node, agent: Agent) -> None:
    agent.apply()
    assert node.call(node.host, f"{PEER}:8080") == [["peer", MESH]]
    node.host.run(
        "ip address add 192.168.7.7/32 dev lo; ip route replace 10.244.2.0/24 dev edgemesh-wg src 192.168.7.7"
    )
    try:
        assert node.call(node.host, f"{PEER}:8080") == [["peer", MESH]]
    finally:
        node.host.run(
            f"ip route replace 10.244.2.0/24 dev edgemesh-wg src {MESH}; ip address del 192.168.7.7/32 dev lo"
        )
    assert node.call(node.pods[0], f"{PEER}:8080") == [["peer", PODS[0]]]


def test_refused_at_once_without_endpoints_and_at_unknown_ports(node: Node, agent: Agent, client: Client) -> None:
    agent.apply(service(backends=()), service("b/b:p", "10.96.0.2"))
    for caller in (node.pods[0], node.host):
        refused = node.call(caller, "10.96.0.1:80", "10.96.0.2:81", "10.111.1.1:80")
        assert refused == [["ConnectionRefusedError", ""]] * 3
        one = client(caller, UDP_CLIENT)
        assert one.hear() == "ready"
        one.say("")
        assert one.hear() in ("ConnectionRefusedError", "PermissionError")


def test_a_udp_client_that_keeps_its_socket_reaches_who_is_there(node: Node, agent: Agent, client: Client) -> None:
    def udp(*backends: str) -> None:
        agent.update([service(backends=backends, protocol=Protocol.UDP)])

    agent.apply(service(backends=PODS[1:2], protocol=Protocol.UDP))
    one = client(node.pods[0], UDP_CLIENT)
    assert one.hear() == "ready"
    seen = []
    for backends in (PODS[1:2], PODS[2:3], (), PODS[1:2]):
        udp(*backends)
        one.say("")
        seen.append(one.hear())
    assert seen == ["pod2", "pod3", "ConnectionRefusedError", "pod2"]


def test_flows_begun_before_there_were_rules_are_translated_afterwards(
    node: Node, agent: Agent, client: Client
) -> None:
    one = client(node.pods[0], UDP_CLIENT)
    assert one.hear() == "ready"
    # another table that tracks connections, and none of ours yet
    node.host.run(["nft", "add table ip other; add chain ip other c { type filter hook forward priority 0; }"])
    node.host.run(["nft", "add rule ip other c ct state new counter"])
    node.host.run("conntrack -F 2>/dev/null")
    # the service's address leads to the peer, which drops it: the kernel remembers a flow to the service itself
    node.host.run("ip route replace 10.96.0.0/12 dev edgemesh-wg via 10.250.0.2")
    node.peer.run("ip route replace blackhole 10.96.0.0/12")
    try:
        one.say("")
        node.wait_for_connection("udp", "dst=10.96.0.1")
        one.hear()
        agent.apply(service(backends=PODS[1:2], protocol=Protocol.UDP))
        one.say("")
        assert one.hear() == "pod2"
        assert "src=10.96.0.1" not in node.host.run("conntrack -L -p udp").stdout
        agent.remove()
        early = client(node.pods[0], TCP_CLIENT)
        node.wait_for_connection("tcp", "SYN_SENT")
        agent.apply(service(backends=PODS[1:2]))
        assert early.hear().split()[0] == "pod2", "the SYN's repetition, a second later"
    finally:
        node.host.run(f"ip route replace 10.96.0.0/12 dev lo src {MESH}; nft delete table ip other")


def test_a_restart_keeps_connections_and_who_sticks_to_whom(
    node: Node, start: Callable[[], Agent], client: Client
) -> None:
    first = start()
    first.apply(service(affinity=10_800), service("b/b:p", "10.96.0.2", PODS[:1]))
    one = client(node.host, TCP_CLIENT)
    endpoint = one.hear().split()[0]
    first.kill()
    assert node.call(node.host, SERVICE) == [[endpoint, MESH]], "the kernel serves without the agent"
    second = start()
    second.apply(service(affinity=10_800))
    one.say("still there")
    assert one.hear() == f"{endpoint} still there"
    assert node.call(node.host, SERVICE, times=5) == [[endpoint, MESH]] * 5
    assert node.call(node.pods[0], "10.96.0.2:80") == [["ConnectionRefusedError", ""]], "gone while no agent ran"
    names = re.findall(r"\w+\.(\d+) \{", node.tables())
    assert len(set(names)) == 1, "one generation is left"
    second.update([], ["shop/orders:http"])
    one.say("and now")
    assert one.hear() == f"{endpoint} and now"


def test_connections_are_made_without_a_gap_while_everything_is_written_anew(
    node: Node, agent: Agent, client: Client
) -> None:
    services = [service("a/a:p", backends=PODS[1:])]
    services += [service(f"ns/s{number}:p", f"10.97.{number}.1", PODS) for number in range(100)]
    agent.apply(*services)
    code = (
        "import socket, sys, threading\n"
        "over = []\nthreading.Thread(target=lambda: over.append(sys.stdin.readline()), daemon=True).start()\n"
        "count = 0\nprint('ready', flush=True)\n"
        "while not over:\n"
        "    socket.create_connection(('10.96.0.1', 80), timeout=3).close()\n"
        "    count += 1\n"
        "print(count, flush=True)"
    )
    one = client(node.pods[0], code)
    assert one.hear() == "ready"
    for _ in range(20):
        agent.apply(*services)
    one.say("over")
    assert int(one.hear()) > 20


def test_other_tables_stay_and_a_lost_table_is_written_again(node: Node, agent: Agent) -> None:
    node.host.run(["nft", "add table ip other; add chain ip other c; add rule ip other c counter"])
    agent.apply(service(backends=PODS[:1]))
    agent.update([service(backends=PODS[1:2])])
    node.host.run("nft delete table ip edgemesh")
    agent.update([service("b/b:p", "10.96.0.2", PODS[2:3])])
    assert node.call(node.host, "10.96.0.1:80", "10.96.0.2:80") == [["pod2", MESH], ["pod3", MESH]]
    agent.remove()
    agent.remove()
    assert "".join(node.tables().split()) == "tableipother{chainc{counterpackets0bytes0}}"
    node.host.run("nft delete table ip other")


@pytest.mark.parametrize(
    "loss",
    [
        "flush ruleset",
        "delete table ip edgemesh",
        "flush table ip edgemesh",
        "flush chain ip edgemesh postrouting",
        "delete table ip edgemesh; add table ip edgemesh",
    ],
)
def test_what_somebody_else_takes_away_is_noticed_and_written_again(node: Node, agent: Agent, loss: str) -> None:
    assert agent.intact()
    agent.apply(service(backends=PODS[:1]))
    agent.update([service("b/b:p", "10.96.0.2", PODS[1:2])])
    assert agent.intact()
    node.host.run(["nft", loss])
    assert not agent.intact()
    assert not agent.intact()
    agent.update()
    assert agent.intact()
    assert node.call(node.host, SERVICE, "10.96.0.2:80") == [["pod1", MESH], ["pod2", MESH]]


def test_changes_of_other_tables_are_nobodys_loss(node: Node, agent: Agent) -> None:
    agent.apply(service(backends=PODS[:1]))
    for number in range(3):
        node.host.run(f"nft add table ip other{number}; nft delete table ip other{number}")
        assert agent.intact()
    agent.remove()
    assert agent.intact()


def test_an_error_is_shown_until_the_next_call_repairs(node: Node, agent: Agent) -> None:
    agent.apply(service(backends=PODS[:1]))
    # a base chain of another kind under our name can't be made ours
    node.host.run(["nft", "delete table ip edgemesh; add table ip edgemesh; add chain ip edgemesh prerouting"])
    with pytest.raises(ProxyError, match="chain prerouting"):
        agent.update([service(backends=PODS[1:2])])
    assert "chain prerouting" in agent.status()["error"]
    node.host.run("nft delete table ip edgemesh")
    agent.update([])
    assert node.call(node.host, SERVICE) == [["pod2", MESH]]
    assert agent.status() == {"services": 1, "backends": 1, "error": None}


def test_after_any_changes_the_kernel_has_what_a_fresh_load_gives(node: Node, agent: Agent) -> None:
    dice = random.Random(8)
    there: dict[str, ServicePort] = {}
    agent.apply()
    for _ in range(60):
        name = dice.choice("abcd")
        if dice.random() < 0.2:
            there.pop(name, None)
            agent.update([], [name])
            continue
        there[name] = service(
            name,
            dice.choice(["10.96.0.1", "10.96.0.2"]),
            dice.sample([*PODS, PEER], dice.randrange(5)),
            dice.choice(list(Protocol)),
            dice.choice(list(Policy)),
            dice.choice([None, None, 10, 60]),
        )
        agent.update([there[name]])
    assert agent.status()["error"] is None
    changed = node.tables()
    agent.apply(*there.values())
    fresh = node.tables()
    assert changed != fresh, "another generation"
    assert _words(changed) == _words(fresh)


def _words(listing: str) -> list[str]:
    """What a listing says, without order and generation."""
    return sorted(re.sub(r"\.\d+(?=[ ,]|$)", "", re.sub(r"elements = |[{},]", " ", listing), flags=re.M).split())


def test_a_saved_ruleset_can_be_loaded(node: Node, agent: Agent) -> None:
    every = [service(f"a/{policy}:p", f"10.96.1.{number}", policy=policy) for number, policy in enumerate(Policy)]
    agent.apply(*every, service(affinity=5), service("n/n:p", "10.96.0.3", ()))
    saved = node.tables()
    agent.remove()
    node.host.run(["nft", "-f", "-"], input=saved)
    sort = sorted(saved.split())
    assert sorted(node.tables().split()) == sort


def test_segment_sizes_fit_the_tunnel(node: Node, agent: Agent) -> None:
    agent.apply()
    code = (
        "import socket\nclient = socket.create_connection(('10.244.2.1', 8080))\nclient.recv(100)\n"
        "print(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))"
    )
    # the pod's own device has 1500; a SYN of 1460 crosses as 1380 = 1420 - 40, and so does the answer's
    assert int(node.pods[0].run([sys.executable, "-c", code]).stdout) <= 1380
    agent.remove()
    node.peer.run("ip link set edgemesh-wg mtu 1500")
    try:
        assert int(node.pods[0].run([sys.executable, "-c", code]).stdout) > 1380
        agent.apply()
        assert int(node.pods[0].run([sys.executable, "-c", code]).stdout) <= 1380
    finally:
        node.peer.run("ip link set edgemesh-wg mtu 1420")


def test_sctp_is_translated(node: Node, agent: Agent) -> None:
    agent.apply(service(protocol=Protocol.SCTP, backends=PODS[1:2]))
    send = (
        "import logging; logging.disable(logging.CRITICAL)\n"
        "from scapy.all import IP, SCTP, SCTPChunkInit, conf, send\n"
        "conf.verb = 0\n"
        "init = SCTPChunkInit(init_tag=7, n_out_streams=1, n_in_streams=1)\n"
        "send(IP(src='10.244.1.1', dst='10.96.0.1') / SCTP(sport=4000, dport=80) / init)"
    )
    node.pods[0].run([sys.executable, "-c", send])
    entries = node.host.run("conntrack -L -p sctp").stdout
    assert re.search(rf"src={PODS[0]} dst=10.96.0.1 .*dport=80 .*src={PODS[1]} dst={PODS[0]} sport=8080", entries), (
        entries
    )
    agent.update([service(protocol=Protocol.SCTP, backends=PODS[2:3])])
    assert PODS[1] not in node.host.run("conntrack -L -p sctp").stdout, "its endpoint went"


def test_thousands_of_services_load_in_portions(node: Node, agent: Agent) -> None:
    many = [service(f"ns/s{number}:p", f"10.{98 + number // 250}.{number % 250}.1") for number in range(3000)]
    many[7] = service("ns/s7:p", "10.96.0.1", [f"10.{200 + number // 250}.{number % 250}.9" for number in range(4000)])
    agent.apply(*many)
    assert agent.status() == {"services": 3000, "backends": 2999 * 3 + 4000, "error": None}
    # more than one transaction holds: written beside, and switched
    agent.update([service("ns/s7:p", "10.96.0.1", PODS[:1])])
    assert node.call(node.host, SERVICE) == [["pod1", MESH]]


def test_nothing_is_done_before_the_first_call() -> None:
    proxy = Proxy(NETWORK)
    proxy.set_network(NodeNetwork())
    assert proxy.status().services == 0
    proxy.close()
