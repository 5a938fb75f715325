"""The standard topology: a cloud host with a public address, and sites A and B, each behind a NAT router of its own.

                     internet (DNS 198.18.0.53)
        192.0.2.0/24 |      203.0.113.0/24 |       | 198.51.100.0/24
            router-a |               cloud |       | router-b
      192.168.1.0/24 |                             | 192.168.2.0/24
              a1 ----+---- a2                      b1

A `Node` is a host whose first process supervises the product's processes, started as a user would start them: `python
-m edgemesh ...`, with what `edgemesh join` has put on the node's disk, or with a configuration file and a directory of
manifests of the node's own. Beside them runs the bed's kubelet.
Addresses are from RFC 5737 and RFC 2544's range, so that nothing here could be meant for the real internet.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.namespaces import Bed, BedError, Space, inner_numbers
from e2e.lab.routers import LAN, WAN, Nat, Weather, make_router

ROOT = Path(__file__).resolve().parents[2]
"""Where the packages lie, for processes in the bed."""

CONFIG = "/etc/edgemesh/config/edgemesh-agent.yaml"
MANIFESTS = "/etc/edgemesh/manifests"
STATE = "/var/lib/edgemesh"

RESOLVER = "169.254.96.16"
WORLD_DNS = "198.18.0.53"
RELAY_PORT = 20006
DEVICE = "edgemesh-wg"

LAN_MAC = "02:00:00:00:00:01"
"""Of every site's router: a bridge without an address of its own takes another when its ports change, and hosts that
know the former one then send to nobody."""

CLOUD_STATE = "/var/lib/edgemesh-cloud"
ADMIN = f"{CLOUD_STATE}/admin.kubeconfig"
NODE_KUBECONFIG = f"{STATE}/node.kubeconfig"
API_PORT, JOIN_PORT = 6443, 10002

SERVICES = ("engine", "resolver", "agent")
"""What runs on every node; the relay besides on the cloud, and there the cloud role where there is an API."""


@dataclass(frozen=True)
class Place:
    """Where a node stands; its ranges where no API gives it others."""

    name: str
    zone: str
    address: str
    gateway: str
    number: int

    @property
    def mesh_address(self) -> str:
        return f"10.222.0.{self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.244.{self.number}.0/24"

    def pod_address(self, host: int) -> str:
        return f"10.244.{self.number}.{host}"


CLOUD = Place("cloud", "cloud", "203.0.113.30", "203.0.113.1", 1)
A1 = Place("a1", "site-a", "192.168.1.11", "192.168.1.1", 2)
A2 = Place("a2", "site-a", "192.168.1.12", "192.168.1.1", 3)
B1 = Place("b1", "site-b", "192.168.2.11", "192.168.2.1", 4)
PLACES = (CLOUD, A1, A2, B1)

WAN_ADDRESS = {"site-a": "192.0.2.10", "site-b": "198.51.100.20"}
"""The outer address of each site's router."""

CONFIG_TEXT = f"""\
apiVersion: agent.edgemesh.config.kubeedge.io/v1alpha1
kind: EdgeMeshAgent
commonConfig:
  bridgeDeviceIP: {RESOLVER}
modules:
  edgeTunnel:
    enable: true
    relayNodes:
      - nodeName: {CLOUD.name}
        advertiseAddress:
          - {CLOUD.address}
"""


def program(*args: str) -> list[str]:
    """The command line of the product's program."""
    return [sys.executable, "-m", "edgemesh", *args]


ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def compile_program() -> None:
    """Write the program's byte code, as an installation does: in the bed nobody could, and each start would compile."""
    for package in ("dns", "e2e", "edgemesh", "proxy", "sync", "tunnel"):
        compileall.compile_dir(ROOT / package, quiet=2)


RESTART_AFTER = {"engine": 0.2}
OTHERS_RESTART_AFTER = 1.0
"""Seconds between the end of a process and its next start, as in `deploy/systemd`. No byte passes while the engine is
away, and TCP asks again after 0.2, 0.6, 1.4 and 3 s: an engine that comes back after a second just misses the third.
"""


class Node:
    """A host whose first process supervises the product's; pods are spaces inside it.

    With `api` it joins and lives on the API, without on its directory of manifests. `pod_range` and `mesh_address` are
    its own, once it has them.
    """

    def __init__(self, bed: Bed, place: Place, logs: Path, *, api: bool = False) -> None:
        self.bed = bed
        self.place = place
        self.name = place.name
        self.logs = logs
        self.api = api
        self.pod_range = "" if api else place.pod_range
        self.mesh_address = "" if api else place.mesh_address
        self._lock = threading.Lock()
        self.space = self._hold()

    def _hold(self) -> Space:
        supervisor = str(Path(__file__).with_name("node.py"))
        space = self.bed.space(self.name, disk=True, holder=[sys.executable, "-I", "-S", supervisor], env=ENVIRONMENT)
        space.run(
            f"""set -e
            echo 1 > /proc/sys/net/ipv4/ip_forward
            mkdir -p {STATE}
            for file in resolv.conf nsswitch.conf; do rm -f /etc/$file; done
            echo "nameserver {WORLD_DNS}" > /etc/resolv.conf
            echo "hosts: files dns" > /etc/nsswitch.conf"""
        )
        if not self.api:
            space.run(f"mkdir -p {os.path.dirname(CONFIG)} && cat > {CONFIG}", input=CONFIG_TEXT)
        return space

    def address_up(self) -> None:
        """Give `eth0`, once it is linked, the place's address and gateway."""
        self.space.run(
            ["ip", "-batch", "-"],
            input=f"address add {self.place.address}/24 dev eth0\nroute add default via {self.place.gateway}\n",
        )

    # -- processes ---------------------------------------------------------------------------------------------

    def log(self, process: str) -> Path:
        """Where both outputs of a process go."""
        return self.logs / f"{self.name}-{process}.log"

    def start(self, process: str, args: Sequence[str]) -> None:
        """Start a process that is started again whenever it ends."""
        log, again = str(self.log(process)), RESTART_AFTER.get(process, OTHERS_RESTART_AFTER)
        self._order({"start": process, "args": list(args), "env": ENVIRONMENT, "log": log, "again": again})

    def start_service(self, process: str) -> None:
        """Start one of the product's processes with this node's configuration."""
        manifests = [] if self.api else ["--manifests", MANIFESTS]
        advertise = ["--advertise", self.place.address, "--relay", f"{self.place.address}:{RELAY_PORT}"]
        args = {
            "engine": ["engine"],
            "resolver": ["resolver", "--config-file", CONFIG],
            "agent": ["agent", "--config-file", CONFIG, *manifests, "--node-name", self.name],
            "relay": ["relay", "--listen", f"0.0.0.0:{RELAY_PORT}", *manifests],
            "cloud": ["cloud", "--state-dir", CLOUD_STATE, *advertise],
        }[process]
        self.start(process, program(*args))

    def start_kubelet(self) -> None:
        """Start the bed's kubelet: at the API as this node, or without it, and told by its socket what to run."""
        source = ["--kubeconfig", NODE_KUBECONFIG] if self.api else ["--pod-range", self.pod_range]
        where = ["--node", self.name, "--address", self.place.address, "--resolver", RESOLVER, "--logs", str(self.logs)]
        self.start("kubelet", [sys.executable, "-m", "e2e.lab.kubelet", *where, *source])

    def start_services(self) -> None:
        """Start all that runs on this node."""
        for process in self.services:
            self.start_service(process)

    @property
    def services(self) -> tuple[str, ...]:
        return (*SERVICES, "relay") if self.place is CLOUD else SERVICES

    def kill(self, process: str) -> None:
        """`kill -9`; the process is started again a second after."""
        self._order({"kill": process})

    def stop(self, process: str) -> None:
        """`kill -9`; the process stays away."""
        self._order({"stop": process})

    def processes(self) -> dict[str, dict[str, Any]]:
        """What the supervisor says of each process: pid, starts, status, args."""
        return self._order({"state": ""})

    def outer_pid(self, process: str) -> int:
        """A process's number outside the bed, 0 while it doesn't run."""
        inner = self.processes().get(process, {}).get("pid", 0)
        return self.outer(inner) if inner else 0

    def outer(self, inner: int) -> int:
        """The number outside the bed of what the node numbers so, 0 if that is no more."""
        depth = len(inner_numbers(self.space.pid))
        for pid in descendants(self.space.pid):
            with contextlib.suppress(OSError, BedError):
                numbers = inner_numbers(pid)
                if len(numbers) >= depth and numbers[depth - 1] == inner:
                    return pid
        return 0

    def _order(self, order: dict[str, Any]) -> dict[str, dict[str, Any]]:
        holder = self.space.holder
        assert holder
        assert holder.stdin
        assert holder.stdout
        with self._lock:
            try:
                holder.stdin.write(json.dumps(order) + "\n")
                holder.stdin.flush()
                answer = holder.stdout.readline()
            except (BrokenPipeError, ValueError):  # ValueError: the space has been closed
                answer = ""
        if not answer:
            raise BedError(f"{self.name}: the node's supervisor has ended")
        state: dict[str, dict[str, Any]] = json.loads(answer)
        return state

    def edgemesh(self, *args: str, check: bool = True, timeout: float = 10) -> subprocess.CompletedProcess[str]:
        """Run the product's program on this node."""
        return self.space.run(program(*args), check=check, timeout=timeout, env=ENVIRONMENT)

    def status(self) -> dict[str, Any]:
        """What `edgemesh status --json` says, whether healthy or not; empty while there is no agent to ask."""
        done = self.edgemesh("status", "--json", check=False)
        with contextlib.suppress(json.JSONDecodeError):
            status = json.loads(done.stdout)
            if isinstance(status, dict):
                return status
        return {}

    def peer(self, name: str) -> dict[str, Any]:
        """What the status says of one peer; empty while it isn't known."""
        peers: list[dict[str, Any]] = self.status().get("peers", [])
        return next((peer for peer in peers if peer.get("name") == name), {})

    # -- manifests ---------------------------------------------------------------------------------------------

    def write_manifest(self, name: str, text: str) -> None:
        """Put a file into the node's manifests by renaming it there: it is never seen half-written."""
        directory = self.space.path(MANIFESTS)
        directory.mkdir(parents=True, exist_ok=True)
        draft = directory / f".{name}.draft"
        draft.write_text(text)
        draft.rename(directory / name)

    def mesh_node(self) -> str:
        """The node's MeshNode as its own program prints it; makes its key and port where there are none."""
        given = ["--mesh-address", self.place.mesh_address, "--pod-range", self.place.pod_range]
        where = ["--config-file", CONFIG, "--node-name", self.name]
        return self.edgemesh("agent", "--print-meshnode", *where, *given).stdout


class Topology:
    """Everything of one bed: nodes by name, routers by zone, the internet and its weather."""

    def __init__(self, bed: Bed, logs: Path, nat_a: Nat, nat_b: Nat, *, api: bool = False) -> None:
        """With `api` the nodes are to join the cloud's API; see `cluster`."""
        compile_program()
        self.api = api
        self.bed = bed
        self.logs = logs
        self.nat = {"site-a": nat_a, "site-b": nat_b}
        self.internet = bed.host("internet")
        self.routers: dict[str, Space] = {}
        self.nodes: dict[str, Node] = {}
        self._build_internet()
        for zone, letter in (("site-a", "a"), ("site-b", "b")):
            self._build_router(zone, f"router-{letter}")
        for place in PLACES:
            self.nodes[place.name] = Node(bed, place, logs, api=api)
            self._cable(place.name)
        self.weather = Weather(self.internet)

    def _build_internet(self) -> None:
        self.internet.run(
            f"""set -e
            echo 1 > /proc/sys/net/ipv4/ip_forward
            ip address add {WORLD_DNS}/32 dev lo"""
        )
        server = self.internet.popen(
            [sys.executable, "-m", "e2e.lab.world", WORLD_DNS], env=ENVIRONMENT, log=self.logs / "internet-dns.log"
        )
        self.world_dns = server

    def _build_router(self, zone: str, name: str) -> None:
        router = self.routers[zone] = self.bed.host(name)
        site = next(place for place in PLACES if place.zone == zone)
        wan = WAN_ADDRESS[zone]
        gateway = f"{wan.rsplit('.', 1)[0]}.1"
        self.bed.link(self.internet, zone, router, WAN)
        self.internet.run(["ip", "address", "add", f"{gateway}/24", "dev", zone])
        router.run(
            ["ip", "-batch", "-"],
            input=f"""address add {wan}/24 dev {WAN}
            route add default via {gateway}
            link add name {LAN} address {LAN_MAC} type bridge
            address add {site.gateway}/24 dev {LAN}
            link set dev {LAN} up
            """,
        )
        make_router(router, self.nat[zone], wan)

    def _cable(self, name: str) -> None:
        node = self.nodes[name]
        end, device = self._cable_end(name)
        self.bed.link(end, device, node.space, "eth0")
        if end is self.internet:
            end.run(["ip", "address", "add", f"{node.place.gateway}/24", "dev", device])
        else:
            end.run(["ip", "link", "set", "dev", device, "master", LAN])
        node.address_up()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def outer_address(self, name: str) -> str:
        """The address that the internet sees a node at."""
        place = self.nodes[name].place
        return WAN_ADDRESS.get(place.zone, place.address)

    def block_direct(self, source: str, destination: str) -> None:
        """Silently drop what goes straight from one site's outer address to the other's; the relay stays reachable."""
        self.weather.block(self.outer_address(source), self.outer_address(destination))

    def cut_off(self, name: str) -> None:
        """Nothing reaches the node any more, nor leaves it, by its one cable."""
        self._set_cable(name, "down")

    def plug_in(self, name: str) -> None:
        """The cable is whole again."""
        self._set_cable(name, "up")

    def _set_cable(self, name: str, state: str) -> None:
        end, device = self._cable_end(name)
        end.run(["ip", "link", "set", "dev", device, state])

    def _cable_end(self, name: str) -> tuple[Space, str]:
        """The other end of a node's cable: the space and its device there."""
        router = self.routers.get(self.nodes[name].place.zone)
        return (router, f"port-{name}") if router else (self.internet, name)

    def reboot(self, name: str, *, manifests: bool = False) -> None:
        """Power-cycle a node: its processes killed, its namespaces made anew, its disk kept.

        Its manifests are lost unless `manifests` is set. Nothing is started: call `start_services`, `start_kubelet`.
        """
        node = self.nodes[name]
        if not manifests:
            node.space.run(["rm", "-rf", MANIFESTS])
        node.space.kill()
        # the kernel takes a namespace's devices away some time after its end; the cable's other end must be gone now
        end, device = self._cable_end(name)
        end.run(["ip", "link", "delete", "dev", device], check=False)
        node.space = node._hold()
        self._cable(name)


def descendants(pid: int) -> Iterator[int]:
    """All processes that come from one, of threads too (proc(5))."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                yield int(child)
                yield from descendants(int(child))
