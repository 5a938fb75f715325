"""Two nodes behind two masquerading routers, an internet and a cloud host with a relay: real processes and packets."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from e2e.lab.namespaces import Bed, Space

RELAY = ("198.18.0.10", 20006)
ROOT = Path(__file__).parents[3]

ROUTER = """
table ip nat {
    chain post { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
}
table ip filter {
    chain input { type filter hook input priority 0; iifname "wan" ct state new drop; }
    chain forward { type filter hook forward priority 0; iifname "wan" ct state new drop; }
    chain broken { type filter hook forward priority -10; }
}
"""


class Node:
    """A host with an engine and a mesh."""

    def __init__(self, space: Space, directory: Path, config: dict[str, Any]) -> None:
        self.space = space
        self.config = config
        self.directory = directory
        self.engine: subprocess.Popen[str] | None = None
        self.mesh: subprocess.Popen[str] | None = None
        self.log = directory / f"{space.name}.mesh"
        self.file = directory / f"{space.name}.json"
        self.file.touch(mode=0o600)
        self.file.write_text(json.dumps(config))

    def start_engine(self) -> None:
        """Start our engine."""
        command = [sys.executable, "-m", "tunnel.engine.engine"]
        self.engine = self.space.popen(command, log=self.directory / f"{self.space.name}.engine", env=ENV)

    def start_mesh(self) -> None:
        """Start the mesh; what it says comes into `told`."""
        self.log.write_text("")
        command = [sys.executable, "-m", "tests.tunnel.mesh.node", str(self.file)]
        self.mesh = self.space.popen(command, log=self.log, env=ENV)

    def told(self) -> list[dict[str, Any]]:
        """What the mesh has said, line by line."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def kinds(self) -> dict[str, str]:
        """The kind of path to each peer, as last told."""
        told = self.told()
        return {path["name"]: path["kind"] for path in told[-1]["paths"]} if told else {}


ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT)])}


def pair(spaces: list[Space], directory: Path, relays: list[tuple[str, int]], lan: list[str]) -> list[Node]:
    """Two nodes that know each other; `lan` are their addresses in one network, if they share one."""
    keys = [os.urandom(32), os.urandom(32)]
    public = [X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw() for key in keys]
    nodes = []
    for index, name in enumerate("ab"):
        other = 1 - index
        peer = {
            "name": "ab"[other],
            "key": public[other].hex(),
            "allowed": [f"10.99.0.{other + 1}/32"],
            "lan": [[lan[other], 40001 + other]] if lan else [],
        }
        config = {
            "name": name,
            "key": keys[index].hex(),
            "port": 40001 + index,
            "mesh": f"10.99.0.{index + 1}",
            "relays": relays,
            "socket": "/run/wireguard/edgemesh-wg.sock",
            "peers": [peer],
        }
        spaces[index].run(f"ip addr add 10.99.0.{index + 1}/32 dev lo; mkdir -p /run/wireguard")
        nodes.append(Node(spaces[index], directory, config))
    return nodes


def neighbours(bed: Bed, directory: Path) -> list[Node]:
    """Two nodes on one link, without anything else."""
    spaces = [bed.host("a"), bed.host("b")]
    bed.link(spaces[0], "eth0", spaces[1], "eth0")
    lan = ["192.168.1.1", "192.168.1.2"]
    for space, address in zip(spaces, lan, strict=True):
        space.run(f"ip addr add {address}/24 dev eth0")
    return pair(spaces, directory, [], lan)


class Network:
    """The bed; `a` and `b` are the nodes, `routers` their routers."""

    def __init__(self, bed: Bed, directory: Path) -> None:
        self.bed = bed
        self.internet = bed.host("internet")
        self.internet.run("sysctl -qw net.ipv4.ip_forward=1")
        self.cloud = bed.host("cloud")
        bed.link(self.internet, "cloud", self.cloud, "eth0")
        self.internet.run("ip addr add 198.18.0.1/24 dev cloud")
        self.cloud.run("ip addr add 198.18.0.10/24 dev eth0; ip route add default via 198.18.0.1")
        self.hosts: list[Space] = []
        self.routers = [self._site(index, "ab"[index]) for index in (0, 1)]
        self.a, self.b = pair(self.hosts, directory, [RELAY], [])
        self.relay: subprocess.Popen[str] | None = None

    def _site(self, index: int, name: str) -> Space:
        bed, number = self.bed, index + 1
        router, host = bed.host(f"router-{name}"), bed.host(name)
        self.hosts.append(host)
        bed.link(self.internet, f"site-{name}", router, "wan")
        bed.link(router, "lan", host, "eth0")
        self.internet.run(f"ip addr add 198.18.{number}.1/24 dev site-{name}")
        router.run(f"ip addr add 198.18.{number}.2/24 dev wan; ip addr add 192.168.{number}.1/24 dev lan")
        router.run(f"ip route add default via 198.18.{number}.1; sysctl -qw net.ipv4.ip_forward=1")
        router.run(["nft", "-f", "-"], input=ROUTER)
        host.run(f"ip addr add 192.168.{number}.2/24 dev eth0; ip route add default via 192.168.{number}.1")
        return router

    def start_relay(self) -> None:
        """Start the relay on the cloud host."""
        command = [sys.executable, "-m", "tests.tunnel.mesh.node", "--relay", RELAY[0], str(RELAY[1])]
        self.relay = self.cloud.popen(command, env=ENV)

    def break_direct(self, router: int, what: str = "") -> None:
        """Drop silently what goes straight between the sites at one router: `what` narrows it down."""
        peer = f"198.18.{2 - router}.2"
        rules = [f"ip saddr {peer} {what} drop", f"ip daddr {peer} {what} drop"]
        for rule in rules:
            self.routers[router].run(f"nft add rule ip filter broken {rule}")

    def heal(self) -> None:
        """Take all breaks away."""
        for router in self.routers:
            router.run("nft flush chain ip filter broken")


def until(condition: Callable[[], bool], within: float, what: str) -> float:
    """Wait for a condition; how long it took. Fails when it takes longer than that many seconds."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > within:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - start
