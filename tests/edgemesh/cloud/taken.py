"""A cluster in a bed whose API is taken over: cloud, relay, and two nodes that reach each other by the relay alone.

    a 10.1.0.2 ──── 10.1.0.1 cloud 10.2.0.1 ──── 10.2.0.2 b          the cloud, 203.0.113.1, forwards nothing

All is honest first. What an attacker then has is kept in `kept`: MeshNodes and a list of the revoked as they once were.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from e2e.lab.api import JSON, MERGE_PATCH
from e2e.lab.namespaces import Bed
from edgemesh import proof
from tests.edgemesh.running import CONFIG, ENVIRONMENT, STATE, Host, Role, until

ADDRESS = "203.0.113.1"
RELAY_PORT = 20006
SECOND_PORT = 20007
"""Of a relay that the nodes know and that does not run at first."""
API_PORT = 6443
CLOUD_STATE = "/var/lib/edgemesh-cloud"
ADMIN = f"{CLOUD_STATE}/admin.kubeconfig"
MESH_NODES = "/apis/edgemesh.kubeedge.io/v1alpha1/meshnodes"
CONFIG_MAPS = "/api/v1/namespaces/edgemesh-system/configmaps"
REVOKED = f"{CONFIG_MAPS}/edgemesh-revoked"
ONLY_TUNNEL = "modules:\n  edgeDNS: {enable: false}\n  edgeProxy: {enable: false}\n"
REGISTER = """
import os, socket, sys, time
from tunnel.endpoint import Address
from tunnel.relay.client import Pending, Refused, RelayClient
relay = Address(sys.argv[1], int(sys.argv[2]))
client = RelayClient(relay, bytes.fromhex(sys.argv[3]), os.urandom)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(0.1)
    while not client.events:
        client.tick(time.monotonic())
        while client.outbox:
            sock.sendto(client.outbox.popleft(), relay)
        try:
            client.receive(sock.recv(2048), time.monotonic())
        except TimeoutError:
            pass
event = client.events.popleft()
print(event.reason if isinstance(event, Pending | Refused) else type(event).__name__)
"""
PRIVATE = bytes([7]) * 32
"""A WireGuard key of the attacker's."""

Object = dict[str, Any]


@dataclass
class Node:
    """A node: its host, its running roles, and its mesh address once it has one."""

    host: Host
    engine: Role
    agent: Role
    address: str = ""

    @property
    def problems(self) -> list[str]:
        """Of `status`."""
        found: list[str] = self.host.status().get("problems", [])
        return found

    def until(self, what: str, condition: Callable[[Node], object], within: float = 10) -> None:
        """Wait for something about this node."""
        what = f"{self.host.name}: {what}"
        until(lambda: condition(self), within, what, lambda: f"{self.problems}\n{self.agent.said}")

    def says(self, *words: str, within: float = 10) -> None:
        """Wait until one problem of the status has all these words."""
        self.until(f"says {words}", lambda it: any(all(word in text for word in words) for text in it.problems), within)

    def is_silent_about(self, *words: str) -> None:
        """Wait until there is a status, and no problem in it has one of these words."""
        self.until(
            f"is silent about {words}",
            lambda it: it.host.status() and not any(word in text for word in words for text in it.problems),
        )

    def peers(self) -> set[str]:
        """The public keys in the engine, in base64."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.host.path("/run/wireguard/edgemesh-wg.sock")))
            connection.sendall(b"get=1\n\n")
            answer = b""
            while b"errno=" not in answer:
                answer += connection.recv(1 << 16)
        keys = (line.removeprefix("public_key=") for line in answer.decode().splitlines() if "public_key=" in line)
        return {base64.b64encode(bytes.fromhex(key)).decode() for key in keys}

    def path(self, name: str) -> Object:
        """What the status says of a peer."""
        peers: list[Object] = self.host.status().get("peers", [])
        return next((peer for peer in peers if peer["name"] == name), {})

    def reaches(self, other: Node) -> bool:
        """Whether an echo through the tunnel is answered within a second."""
        args = ["ping", "-c1", "-W1", "-n", other.address]
        return self.host.space.run(args, check=False).returncode == 0

    def restart_agent(self) -> None:
        """End the agent, and start it again; the engine goes on."""
        self.agent.signal(signal.SIGTERM)
        assert self.agent.ends() == 0, self.agent.said
        self.agent = self.host.start("agent", "--node-name", self.host.name)


@dataclass
class Kept:
    """What was true once."""

    mesh_nodes: dict[str, Object] = field(default_factory=dict)
    crl: str = ""
    thief: tuple[bytes, bytes] = (b"", b"")
    """Certificate and key (PEM) of a node that joined and is none of the two."""


class Taken:
    """The cluster."""

    def __init__(self, bed: Bed, logs: Path) -> None:
        self.cloud = Host(bed, "cloud", logs)
        hosts = {name: Host(bed, name, logs) for name in "ab"}
        self.cloud.space.run(f"echo 0 > /proc/sys/net/ipv4/ip_forward; ip address add {ADDRESS}/32 dev lo")
        for number, (name, host) in enumerate(hosts.items(), 1):
            bed.link(self.cloud.space, name, host.space, "eth0")
            self.cloud.space.run(f"ip address add 10.{number}.0.1/24 dev {name}")
            host.space.run(f"ip address add 10.{number}.0.2/24 dev eth0; ip route add default via 10.{number}.0.1")
        relays = [word for port in (RELAY_PORT, SECOND_PORT) for word in ("--relay", f"{ADDRESS}:{port}")]
        self.api = self.cloud.start("cloud", "--state-dir", CLOUD_STATE, "--advertise", ADDRESS, *relays)
        self.api.says("nodes join at", 20)
        self._client: subprocess.Popen[str] | None = None
        until(lambda: self.ask("GET", REVOKED)[0] == 200, 20, "the cluster is set up", lambda: self.api.said)
        self.relay = self.start_relay()
        with ThreadPoolExecutor(2) as pool:
            self.a, self.b = pool.map(self._start, hosts.values())
        self.kept = Kept()

    # the API

    def ask(self, method: str, path: str, body: object = None, type: str = JSON) -> tuple[int, Object]:
        """What the API answers the administrator; code 0 where it does not."""
        if self._client is None:
            if not self.cloud.path(ADMIN).exists():
                return 0, {}
            command = [sys.executable, "-m", "e2e.lab.api", ADMIN]
            self._client = self.cloud.space.popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE)
            assert self._client.stdout
            assert self._client.stdout.readline() == "ready\n"
        assert self._client.stdin
        assert self._client.stdout
        order = {"method": method, "path": path, "body": body, "type": type}
        self._client.stdin.write(json.dumps(order) + "\n")
        self._client.stdin.flush()
        answer = json.loads(self._client.stdout.readline())
        return answer["code"], answer["body"] or {}

    def do(self, method: str, path: str, body: object = None, type: str = JSON) -> Object:
        """The same, and it is done."""
        code, found = self.ask(method, path, body, type)
        assert 200 <= code < 300, (method, path, code, found)
        return found

    def mesh_node(self, name: str) -> Object:
        """As the API has it."""
        return self.do("GET", f"{MESH_NODES}/{name}")

    def put(self, mesh_node: Object) -> None:
        """Make a MeshNode what this one is, or was: its spec and its status."""
        name = mesh_node["metadata"]["name"]
        bare = {**mesh_node, "metadata": {"name": name}}
        if self.ask("GET", f"{MESH_NODES}/{name}")[0] == 404:
            self.do("POST", MESH_NODES, bare)
        self.do("PATCH", f"{MESH_NODES}/{name}", {"spec": mesh_node["spec"]}, MERGE_PATCH)
        if status := mesh_node.get("status"):
            self.do("PATCH", f"{MESH_NODES}/{name}/status", {"status": status}, MERGE_PATCH)

    @contextlib.contextmanager
    def lie(self, name: str, **spec: object) -> Iterator[None]:
        """Say this in the spec of a MeshNode, and in the end what was said before."""
        before = self.mesh_node(name)
        self.do("PATCH", f"{MESH_NODES}/{name}", {"spec": spec}, MERGE_PATCH)
        try:
            yield
        finally:
            self.put(before)

    def take_over(self) -> None:
        """From now on the API is a liar's."""
        self.api.signal(signal.SIGTERM)
        assert self.api.ends() == 0, self.api.said
        command = [sys.executable, "-m", "tests.edgemesh.cloud.lying_api", CLOUD_STATE, ADDRESS, str(API_PORT)]
        self.api = Role(self.cloud.space, command, self.cloud.logs / "liar.log")
        until(lambda: self.ask("GET", "/readyz")[0] == 200, 20, "the liar's API", lambda: self.api.said)
        for node in (self.a, self.b):
            node.until("follows the API", lambda it: it.host.status()["api"]["reachable"], 30)

    # nodes, and the relay

    def start_relay(self, port: int = RELAY_PORT) -> Role:
        """An honest one, at the API."""
        listen = ["--listen", f"{ADDRESS}:{port}", "--kubeconfig", ADMIN, "--state-dir", f"/run/relay-{port}"]
        relay = self.cloud.start("relay", *listen)
        relay.says("relaying on", 20)
        return relay

    def relay_answers(self, private: bytes) -> str:
        """What the relay says to whoever has a WireGuard key: Up, or the reason to refuse it."""
        command = [sys.executable, "-c", REGISTER, ADDRESS, str(RELAY_PORT), private.hex()]
        return self.cloud.space.run(command, env=ENVIRONMENT).stdout.strip()

    def start_rogue(self, mode: str) -> Role:
        """A relay of the attacker's in the place of the honest one, which has ended."""
        command = [sys.executable, "-m", "tests.edgemesh.cloud.rogue_relay", mode, ADDRESS, str(RELAY_PORT)]
        rogue = Role(self.cloud.space, command, self.cloud.logs / f"rogue-{mode}.log")
        rogue.says("ready", 20)
        return rogue

    def join(self, host: Host, name: str, *places: str) -> None:
        """Join by the printed command."""
        words = shlex.split(self.cloud.run("token", "create", "--kubeconfig", ADMIN, "--node", name).stdout)[1:]
        done = host.run(*words, "--node-name", name, "--no-systemd", *places)
        assert done.returncode == 0, done.stdout + done.stderr

    def _start(self, host: Host) -> Node:
        self.join(host, host.name)
        config = host.path(CONFIG)
        config.write_text(config.read_text().replace("modules:\n", ONLY_TUNNEL))
        return Node(host, host.start("engine"), host.start("agent", "--node-name", host.name))

    def until_connected(self, within: float = 20) -> None:
        """Wait until the nodes reach each other."""
        a, b = self.a, self.b
        for node in (a, b):
            node.until("has an address", lambda it: it.host.status().get("mesh_address"), within)
            node.address = node.host.status()["mesh_address"]
        a.until("reaches b", lambda it: it.reaches(b), within)


def prepare(taken: Taken) -> None:
    """All that happens before the API is taken over: a node comes and is deleted, b gets another key, a thief joins."""
    kept, cloud = taken.kept, taken.cloud
    taken.until_connected()
    kept.mesh_nodes["b"] = taken.mesh_node("b")
    kept.crl = taken.do("GET", REVOKED)["data"]["crl"]
    for name in ("gone", "thief"):
        places = (f"/run/{name}", f"/run/{name}/config")
        taken.join(cloud, name, "--state-dir", places[0], "--config-dir", places[1])
    taken.put(mesh_node("gone", credentials(cloud, "gone")))
    kept.thief = credentials(cloud, "thief")
    taken.relay.says("admitting 3 nodes: a, b, gone")
    assert taken.relay_answers(PRIVATE) == "Up"
    for node in (taken.a, taken.b):
        node.until("has the peer that is to go", lambda it: it.path("gone"))
    until(lambda: taken.mesh_node("gone").get("status"), 10, "its address")
    kept.mesh_nodes["gone"] = taken.mesh_node("gone")
    assert cloud.run("node", "delete", "gone", "--kubeconfig", ADMIN).returncode == 0
    taken.b.agent.signal(signal.SIGTERM)
    assert taken.b.agent.ends() == 0
    taken.b.host.path(f"{STATE}/node.key").unlink()
    taken.b.agent = taken.b.host.start("agent", "--node-name", "b")
    key = kept.mesh_nodes["b"]["spec"]["publicKey"]
    until(lambda: taken.mesh_node("b")["spec"]["publicKey"] != key, 20, "b's new key", lambda: taken.b.agent.said)
    for node in (taken.a, taken.b):
        node.until("has lost the peer that was deleted", lambda it: not it.path("gone"))
    new = taken.mesh_node("b")["spec"]["publicKey"]
    until(lambda: taken.mesh_node("b")["status"].get("publicKey") == new, 10, "its new key is accepted")
    taken.a.until("has b's new key", lambda it: it.peers() == {new})
    taken.until_connected()


def credentials(host: Host, name: str) -> tuple[bytes, bytes]:
    """Certificate and key (PEM) of a node that joined in /run/NAME."""
    pki = host.path(f"/run/{name}/pki")
    return (pki / "node.crt").read_bytes(), (pki / "node.key").read_bytes()


def public_key() -> bytes:
    """Of `PRIVATE`."""
    return X25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()


def mesh_node(name: str, certificate: tuple[bytes, bytes], key: bytes = b"") -> Object:
    """A MeshNode with a proof that holds, if name and certificate are one node's."""
    key = key or public_key()
    proven = proof.make(name, key, int(time.time() * 1000), *certificate)
    spec = {"publicKey": base64.b64encode(key).decode(), "listenPort": 20999, "proof": proven}
    return {
        "apiVersion": "edgemesh.kubeedge.io/v1alpha1",
        "kind": "MeshNode",
        "metadata": {"name": name},
        "spec": spec,
    }


@contextlib.contextmanager
def running(logs: Path) -> Iterator[Taken]:
    """One, prepared and taken over."""
    with Bed(writable=[logs]) as bed:
        taken = Taken(bed, logs)
        prepare(taken)
        taken.take_over()
        yield taken
