"""A node with pods behind routed veths, a peer behind a tunnel device, and a proxy driven from outside.

    pod1..pod3 10.244.1.1-3 --- veth --- node 10.250.0.1 --- edgemesh-wg (mtu 1420) --- peer 10.244.2.1, 10.250.0.2

Run as a program (inside the node) it is the proxy's process: a JSON object a line says what to call, the answer says
what came of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from e2e.lab.namespaces import Bed, Space
from proxy.proxy import Proxy, ProxyError, probe
from proxy.service import Backend, NodeNetwork, Policy, Protocol, ServicePort

PODS = ("10.244.1.1", "10.244.1.2", "10.244.1.3")
PEER = "10.244.2.1"
MESH = "10.250.0.1"
NETWORK = NodeNetwork(MESH, "10.244.1.0/24")

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2])}
"""Processes in a host find the project whatever their directory."""

SERVER = """
import socket, selectors, sys, threading
name = sys.argv[1].encode()
tcp = socket.create_server(("0.0.0.0", 8080), backlog=512)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 8080))
def echo():
    while True:
        _, peer = udp.recvfrom(2048)
        udp.sendto(name, peer)
threading.Thread(target=echo, daemon=True).start()
def serve(one, peer):
    with one:
        one.sendall(name + b" " + peer[0].encode() + b"\\n")
        while data := one.recv(2048):
            one.sendall(name + b" " + data)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=tcp.accept(), daemon=True).start()
"""

CALLS = """
import json, socket, sys
times, *targets = sys.argv[1:]
seen = []
for _ in range(int(times)):
    for target in targets:
        address, port = target.split(":")
        try:
            with socket.create_connection((address, int(port)), timeout=3) as one:
                seen.append(one.makefile().readline().split())
        except OSError as error:
            seen.append([type(error).__name__, ""])
print(json.dumps(seen))
"""


class Process:
    """A process inside a host that is talked to by lines."""

    def __init__(self, host: Space, args: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            host.command(args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )

    def say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the process ended"
        return line.rstrip("\n")

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Let it end by itself: its input closes. A second time does nothing."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()


class Agent:
    """The proxy in a process of its own, as it is in the agent."""

    def __init__(self, node: Space, network: NodeNetwork = NETWORK) -> None:
        self._process = Process(node, [sys.executable, "-m", "tests.proxy.node"])
        self._ask("start", network=network)

    def _ask(self, call: str, **arguments: object) -> Any:
        self._process.say(msgspec.json.encode({"call": call, **arguments}).decode())
        answer = json.loads(self._process.hear())
        if "error" in answer:
            raise ProxyError(answer["error"])
        return answer["result"]

    def apply(self, *services: ServicePort) -> None:
        self._ask("apply", services=services)

    def update(self, changed: Iterable[ServicePort] = (), gone: Iterable[str] = ()) -> None:
        self._ask("update", services=list(changed), gone=list(gone))

    def set_network(self, network: NodeNetwork) -> None:
        self._ask("set_network", network=network)

    def remove(self) -> None:
        self._ask("remove")

    def status(self) -> Any:
        return self._ask("status")

    def intact(self) -> bool:
        said = self._ask("intact")
        assert isinstance(said, bool)
        return said

    def probe(self) -> str | None:
        said = self._ask("probe")
        assert said is None or isinstance(said, str)
        return said

    def close(self) -> None:
        self._process.close()

    def kill(self) -> None:
        self._process.kill()


class Node:
    """The topology; `pods` and `peer` answer on port 8080 with their names."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.host = bed.host("node")
        self.host.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratemask=0")
        self.peer = bed.host("peer")
        bed.link(self.host, "edgemesh-wg", self.peer, "edgemesh-wg")
        self.host.run(f"ip link set edgemesh-wg mtu 1420; ip address add {MESH}/24 dev edgemesh-wg")
        self.host.run(f"ip route add 10.244.2.0/24 dev edgemesh-wg; ip route add 10.96.0.0/12 dev lo src {MESH}")
        self.peer.run("ip link set edgemesh-wg mtu 1420; ip address add 10.250.0.2/24 dev edgemesh-wg")
        self.peer.run(f"ip address add {PEER}/32 dev lo; ip route add 10.244.1.0/24 via {MESH} src {PEER}")
        self.pods = [self._pod(number, address) for number, address in enumerate(PODS, 1)]
        servers = [host.popen([sys.executable, "-c", SERVER, host.name]) for host in (*self.pods, self.peer)]
        for server in servers:
            assert server.stdout
            assert server.stdout.readline() == "ready\n"

    def _pod(self, number: int, address: str) -> Space:
        pod = self.bed.host(f"pod{number}")
        self.bed.link(self.host, f"veth{number}", pod, "eth0")
        self.host.run(f"ip address add 169.254.1.1/32 dev veth{number}; ip route add {address} dev veth{number}")
        gateway = "ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1"
        pod.run(f"ip address add {address}/32 dev eth0; {gateway}")
        return pod

    def call(self, host: Space, *targets: str, times: int = 1) -> list[list[str]]:
        """Connect to each target in turn, `times` times: (who answered, who it saw), or the error's name."""
        done = host.run([sys.executable, "-c", CALLS, str(times), *targets])
        seen: list[list[str]] = json.loads(done.stdout)
        return seen

    def wait_for_connection(self, protocol: str, text: str) -> None:
        """Until the kernel remembers a connection whose entry has `text`."""
        until = time.monotonic() + 5
        while text not in self.host.run(f"conntrack -L -p {protocol}").stdout:
            assert time.monotonic() < until, f"no {protocol} connection with {text}"
            time.sleep(0.02)

    def tables(self) -> str:
        return self.host.run("nft list ruleset").stdout


def service(
    name: str = "shop/orders:http",
    address: str = "10.96.0.1",
    backends: Iterable[str] = PODS,
    protocol: Protocol = Protocol.TCP,
    policy: Policy = Policy.RANDOM,
    affinity: int | None = None,
) -> ServicePort:
    return ServicePort(name, address, protocol, 80, tuple(Backend(each, 8080) for each in backends), policy, affinity)


class _Request(msgspec.Struct):
    call: str
    services: list[ServicePort] = []
    gone: list[str] = []
    network: NodeNetwork = NodeNetwork()


def _serve() -> None:
    proxy = Proxy(NodeNetwork())
    for line in sys.stdin:
        request = msgspec.json.decode(line, type=_Request)
        result: object = None
        try:
            match request.call:
                case "start":
                    proxy = Proxy(request.network)
                case "apply":
                    proxy.apply({each.name: each for each in request.services})
                case "update":
                    proxy.update(request.services, request.gone)
                case "set_network":
                    proxy.set_network(request.network)
                case "remove":
                    proxy.remove()
                case "intact":
                    result = proxy.intact()
                case "probe":
                    result = probe()
                case "status":
                    status = proxy.status()
                    result = {"services": status.services, "backends": status.backends, "error": status.error}
            answer: dict[str, object] = {"result": result}
        except ProxyError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    proxy.close()


if __name__ == "__main__":
    _serve()
