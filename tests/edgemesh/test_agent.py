"""An agent with its resolver, engine and kernel, and what may happen to them: real processes on a host of a bed."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from e2e.lab.namespaces import Bed, Space
from edgemesh.snapshot_file import SnapshotFile
from sync.resources.kinds import Key
from tests.edgemesh.running import CONFIG, MANIFESTS, STATE, Host, Role, until

pytestmark = pytest.mark.bed

WEB = """\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, clusterIP: 10.96.7.7, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: NODE, containers: [{name: web, image: none}]}
status: {phase: Running, podIP: 10.244.1.2, conditions: [{type: Ready, status: "True"}]}
"""
SERVER = """
import socket
listener = socket.create_server(("", 8080))
print("ready", flush=True)
connection, _ = listener.accept()
while data := connection.recv(100):
    connection.sendall(data.upper())
"""
CLIENT = """
import socket, sys
with socket.create_connection(("10.96.7.7", 80), timeout=10) as connection:
    for line in sys.stdin:
        connection.sendall(line.encode())
        print(connection.recv(100).decode(), end="", flush=True)
"""


@dataclass
class Node:
    """A node that serves `web.shop` from a pod of its own."""

    host: Host
    engine: Role
    resolver: Role
    agent: Role
    manifests: dict[str, str]

    def ask(self, name: str = "web.shop.svc.cluster.local") -> str:
        """What the resolver answers."""
        args = ["dig", "+short", "+tries=1", "+time=2", "@169.254.96.16", name]
        return self.host.space.run(args, check=False).stdout.strip()

    def healthy(self) -> bool:
        return bool(self.host.status().get("healthy"))

    def problems(self) -> str:
        return "\n".join(self.host.status().get("problems", []))

    def serves(self) -> bool:
        """Whether the name is answered and the kernel translates its address."""
        return self.ask() == "10.96.7.7" and "10.96.7.7 . tcp . 80" in " ".join(self.host.rules().split())

    def end_agent(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.agent.signal(number)
        return self.agent.ends()

    def start_agent(self, *args: str) -> None:
        self.agent = self.host.agent(*args)

    def restore(self) -> None:
        """As at the beginning, whatever a test has done: its manifests, no configuration, all roles running."""
        host = self.host
        host.space.run(f"[ -d {MANIFESTS} ] || mv {MANIFESTS}.away {MANIFESTS}; umount {STATE} 2>/dev/null || true")
        for path in host.path(MANIFESTS).iterdir():
            if path.name not in self.manifests:
                path.unlink()
        for name, text in self.manifests.items():
            if not (host.path(MANIFESTS) / name).exists() or (host.path(MANIFESTS) / name).read_text() != text:
                host.write(name, text)
        if host.path(CONFIG).exists():
            host.path(CONFIG).unlink()
            self.end_agent()
        if self.engine.process.poll() is not None:
            self.engine = host.start("engine")
        if self.resolver.process.poll() is not None:
            self.resolver = host.start("resolver")
        if self.agent.process.poll() is not None:
            self.start_agent()
        until(self.healthy, 20, "healthy", lambda: (self.problems(), self.agent.said, self.resolver.said))
        until(self.serves, 10, "the service", lambda: (self.ask(), host.rules()))


@pytest.fixture(scope="module")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Bed() as bed:
        host = Host(bed, "n1", tmp_path_factory.mktemp("logs"))
        manifests = {
            "own.yaml": host.mesh_node("--mesh-address", "10.222.0.1", "--pod-range", "10.244.1.0/24"),
            "web.yaml": WEB.replace("NODE", host.name),
        }
        for name, text in manifests.items():
            host.write(name, text)
        yield Node(host, host.start("engine"), host.start("resolver"), host.agent(), manifests)


@pytest.fixture
def node(one_node: Node) -> Node:
    one_node.restore()
    return one_node


def pod(host: Host) -> Space:
    """The service's pod: a space behind the host's device."""
    space = host.space.space("web")
    host.space.link(host.space, "pod", space, "eth0")
    host.space.run("ip address add 10.244.1.1/24 dev pod")
    space.run("ip address add 10.244.1.2/24 dev eth0; ip route add default via 10.244.1.1")
    server = space.popen(["python3", "-c", SERVER])
    assert server.stdout
    assert server.stdout.readline() == "ready\n"
    return space


class Call:
    """A connection to the service that stays open."""

    def __init__(self, host: Host) -> None:
        self._client = host.space.popen(["python3", "-c", CLIENT], stdin=subprocess.PIPE)

    def says(self, line: str) -> str:
        assert self._client.stdin
        assert self._client.stdout
        self._client.stdin.write(line + "\n")
        self._client.stdin.flush()
        return self._client.stdout.readline().strip()


def test_a_connection_outlives_its_agent(node: Node) -> None:
    pod(node.host)
    call = Call(node.host)
    assert call.says("before") == "BEFORE"
    node.end_agent(signal.SIGKILL)
    assert call.says("while it is away") == "WHILE IT IS AWAY"
    assert node.serves()
    node.start_agent()
    until(node.healthy, 10, "healthy again", node.problems)
    assert call.says("after") == "AFTER"
    (node.host.path(MANIFESTS) / "web.yaml").unlink()
    until(lambda: not node.ask(), 5, "the name gone")
    assert "10.96.7.7" not in node.host.rules()


def test_nothing_is_taken_down_at_the_end(node: Node) -> None:
    rules = node.host.rules()
    routes = node.host.space.run("ip -4 route show proto 98; ip -4 -o address show dev edgemesh0").stdout
    assert "10.96.0.0/12" in routes
    assert "10.222.0.1/32" in routes
    assert node.end_agent() == 0
    assert "Traceback" not in node.agent.said
    assert not node.host.path("/run/edgemesh/agent.sock").exists()
    assert node.ask() == "10.96.7.7"
    assert node.host.rules() == rules
    node.engine.signal(signal.SIGTERM)
    node.resolver.signal(signal.SIGTERM)
    assert (node.engine.ends(), node.resolver.ends()) == (0, 0)
    assert node.host.space.run("ip -4 route show proto 98; ip -4 -o address show dev edgemesh0").stdout == routes
    assert "edgemesh-wg" in node.host.space.run("ip -o link").stdout
    assert (node.host.path(STATE) / "dns.table").exists()


def test_the_last_change_is_on_disk_at_the_end(node: Node) -> None:
    late = WEB.replace("NODE", node.host.name).replace("name: web,", "name: late,").replace("10.96.7.7", "10.96.7.8")
    node.host.write("late.yaml", late)
    until(lambda: node.ask("late.shop.svc.cluster.local"), 5, "the new name")
    assert node.end_agent() == 0
    snapshot = SnapshotFile(str(node.host.path(STATE) / "snapshot")).load("10.96.0.0/12").snapshot
    assert Key("Service", "shop", "late") in snapshot.objects


def test_a_boot_without_manifests(node: Node) -> None:
    node.end_agent()
    node.host.space.run(f"mv {MANIFESTS} {MANIFESTS}.away; nft delete table ip edgemesh; ip link delete edgemesh0")
    node.start_agent()
    until(node.healthy, 10, "healthy", node.problems)
    until(node.serves, 5, "the service")
    assert f"manifest {MANIFESTS}: can't be read: No such file" in node.problems()
    assert node.agent.said.count("can't be read") == 1
    node.end_agent()
    node.agent = node.host.start("agent", "--node-name", node.host.name)
    until(node.healthy, 10, "healthy on the snapshot alone", node.problems)
    assert node.host.status()["source"] == "the snapshot alone"
    assert node.serves()
    node.end_agent()


def test_manifests_vanish_and_return(node: Node) -> None:
    node.host.space.run(f"mv {MANIFESTS} {MANIFESTS}.away")
    until(lambda: "can't be read" in node.problems(), 5, "said")
    assert node.serves()
    node.host.space.run(f"sed -i s/10.96.7.7/10.96.7.9/ {MANIFESTS}.away/web.yaml; mv {MANIFESTS}.away {MANIFESTS}")
    until(lambda: node.ask() == "10.96.7.9", 5, "the new address", node.problems)
    assert "can't be read" not in node.problems()


@pytest.mark.parametrize("with_manifests", [True, False])
def test_a_torn_snapshot_is_moved_aside(node: Node, with_manifests: bool) -> None:
    assert node.end_agent() == 0
    snapshot = node.host.path(STATE) / "snapshot"
    snapshot.write_bytes(snapshot.read_bytes()[:-7])
    mesh_address = node.host.space.run("ip -4 -o address show dev edgemesh0").stdout
    if not with_manifests:
        node.host.space.run(f"mv {MANIFESTS} {MANIFESTS}.away")
    node.start_agent()
    node.agent.says(f"{STATE}/snapshot can't be used: it is torn or corrupt; it is now {STATE}/snapshot.bad")
    until(node.host.status, 5, "a status")
    assert "torn or corrupt" in node.problems()
    assert (node.host.path(STATE) / "snapshot.bad").exists()
    # what served before goes on, though without manifests nothing of it is known
    assert node.serves()
    assert node.host.space.run("ip -4 -o address show dev edgemesh0").stdout == mesh_address
    if not with_manifests:
        node.host.space.run(f"mv {MANIFESTS}.away {MANIFESTS}")
    until(node.healthy, 10, "healthy", node.problems)
    assert node.serves()
    until(snapshot.exists, 5, "a snapshot again")


def test_a_full_disk(node: Node) -> None:
    node.end_agent()
    node.host.space.run(f"""cp -a {STATE} /run/kept
        mount -t tmpfs -o size=64k tmpfs {STATE}
        cp -a /run/kept/node.* {STATE}
        dd if=/dev/zero of={STATE}/ballast bs=4k 2>/dev/null || true""")
    node.start_agent()
    until(node.healthy, 10, "healthy", node.problems)
    node.agent.says("can't be written: No space left on device")
    node.host.space.run(f"sed -i s/10.96.7.7/10.96.7.9/ {MANIFESTS}/web.yaml")
    until(lambda: node.ask() == "10.96.7.9", 5, "the new address")
    assert f"{STATE}/snapshot can't be written: No space left on device" in node.problems()
    assert node.agent.said.count("No space left") == 1
    node.host.space.run(f"rm {STATE}/ballast")
    node.agent.says("is written again")
    assert f"{STATE}/snapshot can't be written" not in node.problems()
    node.end_agent()
    node.resolver.signal(signal.SIGTERM)
    node.resolver.ends()


def test_a_broken_manifest(node: Node) -> None:
    path = node.host.path(MANIFESTS) / "web.yaml"
    node.host.write("web.yaml", path.read_text().replace("port: 80,", "prot: 80,"))
    until(lambda: "web.yaml:4" in node.problems(), 5, "the problem")
    assert "port" in node.problems()
    assert node.healthy()
    assert node.serves()
    shown = node.host.run("status")
    assert shown.returncode == 0
    assert "problem: manifest web.yaml:4: " in shown.stdout
    node.host.write("web.yaml", path.read_text().replace("prot: 80,", "port: 80,"))
    until(lambda: "web.yaml" not in node.problems(), 5, "in order again")


def test_two_nodes_of_one_name_and_of_one_range(node: Node) -> None:
    own = (node.host.path(MANIFESTS) / "own.yaml").read_text()
    lines = own.splitlines()
    (key,) = (line.split()[-1] for line in lines if "publicKey" in line)
    other = own.replace(key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=")
    node.host.write("zz.yaml", other.replace(f"name: {node.host.name}", "name: zz"))
    until(lambda: "zz" in node.problems(), 5, "the clash")
    told = f"MeshNode zz: 10.244.1.0/24 is refused: it overlaps what {node.host.name} has"
    assert told in node.problems()
    until(lambda: f"WARNING edgemesh.agent: {told}" in node.agent.said, 5, "said")
    assert node.healthy()
    node.host.write("zz.yaml", other)
    until(lambda: "is also in own.yaml" in node.problems(), 5, "two files with one node", node.problems)
    node.host.write("own.yaml", other)
    until(lambda: "two nodes have one name" in node.problems(), 5, "another's key", node.problems)
    assert node.agent.said.count(told) == 1


def test_status_says_what_is_ill(node: Node) -> None:
    well = node.host.run("status")
    assert (well.returncode, well.stderr) == (0, "")
    assert f"{node.host.name}: healthy" in well.stdout
    document = json.loads(node.host.run("status", "--json").stdout)
    assert document["healthy"] is True
    assert document.keys() == node.host.status().keys()
    assert "services: 1 ports, 1 endpoints" in well.stdout
    node.resolver.signal(signal.SIGKILL)
    node.engine.signal(signal.SIGKILL)
    until(lambda: not node.healthy(), 10, "ill")
    until(lambda: "edgemesh-wg.sock" in node.problems(), 10, "the engine missed", node.problems)
    assert node.host.run("status").returncode == 1
    assert "the resolver does not answer on /run/edgemesh/resolver.sock" in node.problems()
    status = node.host.status()
    assert status["resolver"]["connected"] is False
    assert status["engine"]["connected"] is False
    assert status["services"] == {"ports": 1, "backends": 1, "error": ""}
    node.host.start("resolver")
    node.host.start("engine")
    until(node.healthy, 10, "healthy again", node.problems)


def test_notices_of_the_configuration(node: Node) -> None:
    node.end_agent()
    node.host.path(CONFIG).parent.mkdir(parents=True, exist_ok=True)
    node.host.path(CONFIG).write_text(
        "apiVersion: agent.edgemesh.config.kubeedge.io/v1alpha1\nkind: EdgeMeshAgent\n"
        "modules: {edgeProxy: {socks5Proxy: {enable: true}}}\n"
    )
    node.start_agent()
    until(node.healthy, 10, "healthy", node.problems)
    notice = f"{CONFIG}:3: modules.edgeProxy.socks5Proxy has no effect: nodes are reached at their mesh addresses"
    (told,) = node.host.status()["notices"]
    assert told.startswith(notice)
    assert f"notice: {notice}" in node.host.run("status").stdout
    assert node.agent.said.count(notice) == 1


def test_devices_and_rules_are_set_right(node: Node) -> None:
    node.host.space.run("ip link delete edgemesh0")
    until(lambda: node.ask() == "10.96.7.7", 5, "the resolver's address", node.problems)
    routes = node.host.space.run("ip -4 route show proto 98").stdout
    assert "10.96.0.0/12 dev edgemesh0" in routes
    assert "src 10.222.0.1" in routes


def test_a_fault_ends_the_agent_with_its_trace(node: Node) -> None:
    node.end_agent()
    broken = "import edgemesh.report as r; r.Report._wrong = None; from edgemesh.cli import main; main()"
    args = ["agent", "--manifests", MANIFESTS, "--node-name", node.host.name]
    agent = Role(node.host.space, [sys.executable, "-c", broken, *args], node.host.logs / "broken.log")
    agent.says("objects known")
    until(lambda: node.host.run("status").returncode == 2 and agent.process.poll() is not None, 10, "its end")
    assert agent.ends() == 1
    assert "TypeError: 'NoneType' object is not callable" in agent.said
