"""Pods as namespaces: what a container runtime and its network plugin are to a kubelet. Runs on the node.

A pod is a network, mount, PID and UTS namespace behind the node's bridge, with an address of the node's range, its own
/etc/hosts and resolv.conf. Pods of a node sit on isolated ports of its bridge, which answers ARP for them
(`proxy_arp_pvlan`): so they meet at layer 3, where the service proxy sees their packets, and bridge-netfilter isn't
needed. The image `python:3.11-slim` is the machine's own Python without the project's libraries; no other is known.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from e2e.lab.namespaces import PREPARE_HOST, environment

IMAGE = "python:3.11-slim"
BRIDGE = "cni0"
MTU = 1420
"""Pods' devices have the tunnel's MTU, as a network plugin that knows of the tunnel sets it."""
FIRST_HOST = 10
"""The first pod of a node has this as the last part of its address."""

Object = dict[str, Any]

BRIDGE_UP = """
set -e
ip link show dev "$1" 2> /dev/null > /dev/null || ip link add name "$1" mtu "$2" type bridge
ip address replace "$3" dev "$1"
ip link set dev "$1" address "$(cat /sys/class/net/$1/address)" up
echo 1 > /proc/sys/net/ipv4/conf/$1/proxy_arp_pvlan
echo 0 > /proc/sys/net/ipv4/conf/$1/send_redirects
echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
"""

START_POD = r"""
set -e
namespace=$1 log=$2 python=$3 address=$4 gateway=$5
shift 5
mkdir /run/bin
ln -s "$python" /run/bin/python
ln -s "$python" /run/bin/python3
{
    echo "nameserver $RESOLVER"
    echo "search $namespace.svc.cluster.local svc.cluster.local cluster.local"
    echo "options ndots:5"
} > /run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
{
    echo "127.0.0.1 localhost"
    echo "$address $(hostname)"
} > /run/hosts
mount --bind /run/hosts /etc/hosts
echo ready
read _ || exit 1
ip -batch - << END
address add $address/24 dev eth0
link set dev eth0 up
route add default via $gateway
END
echo up
exec >> "$log" 2>&1 < /dev/null
cd /run
exec env -i PATH=/run/bin:/usr/local/bin:/usr/bin:/bin HOSTNAME="$(hostname)" "$@"
"""


class PodError(Exception):
    """A pod can't be run; `reason` is Kubernetes' word for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Sandbox(NamedTuple):
    """A pod that runs: the process to wait for, and its first process inside, as the node numbers them."""

    process: subprocess.Popen[str]
    pid: int

    def listening(self) -> set[tuple[str, int]]:
        """Ports that TCP listens on and UDP is bound to, read from its /proc/net (proc(5)); empty once it has ended."""
        found = set()
        try:
            for protocol, states in (("tcp", {"0A"}), ("udp", {"07"})):
                for suffix in ("", "6"):
                    for line in Path(f"/proc/{self.pid}/net/{protocol}{suffix}").read_text().splitlines()[1:]:
                        columns = line.split()
                        if columns[3] in states:
                            found.add((protocol, int(columns[1].rsplit(":", 1)[1], 16)))
        except OSError:
            return set()
        return found

    def kill(self) -> None:
        """End everything in it."""
        for pid in (self.pid, self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


class Runtime:
    """One node's. `resolver` is the nameserver of its pods, `logs` the directory of their outputs."""

    def __init__(self, node: str, node_address: str, resolver: str, logs: Path) -> None:
        self.node = node
        self.node_address = node_address
        self.range = ""
        self._resolver = resolver
        self._logs = logs

    def set_up(self, pod_range: str) -> None:
        """Make the bridge, with the first address of the range. Raises PodError."""
        first = next(ipaddress.ip_network(pod_range).hosts())
        command = ["sh", "-c", BRIDGE_UP, "sh", BRIDGE, str(MTU), f"{first}/{pod_range.rpartition('/')[2]}"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        if done.returncode:
            raise PodError("NetworkPluginNotReady", f"the bridge can't be made: {done.stderr.strip()}")
        self.range = pod_range

    def address(self, used: set[str]) -> str:
        """An address for a pod that nobody has. Raises PodError."""
        for number, address in enumerate(ipaddress.ip_network(self.range).hosts(), 1):
            if number >= FIRST_HOST and str(address) not in used:
                return str(address)
        raise PodError("FailedCreatePodSandBox", f"no address is left in {self.range}")

    def log(self, pod: Object) -> Path:
        """Where a pod's output goes."""
        return self._logs / f"{self.node}-pod-{pod['metadata']['name']}.log"

    def start(self, pod: Object, address: str) -> Sandbox:
        """Make the pod's namespaces, cable them and run its command. Raises PodError.

        The thread that calls this has to live as long as the pod: the kernel ends the pod with it.
        """
        meta, container = pod["metadata"], pod["spec"]["containers"][0]
        if container.get("image") != IMAGE:
            raise PodError("ErrImageNeverPull", f"image {container.get('image')!r} is not here; {IMAGE} is")
        variables = [f"{name}={value}" for name, value in self._environment(pod, container, address)]
        command = [*variables, *container.get("command", ["python3"]), *container.get("args", [])]
        gateway = str(next(ipaddress.ip_network(self.range).hosts()))
        inside = ["sh", "-c", START_POD, "sh", meta.get("namespace", "default"), str(self.log(pod))]
        inside += [os.path.realpath(sys.executable), address, gateway, *command]
        unshare = ["setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child", "--mount", "--pid", "--net", "--uts"]
        hostname = pod["spec"].get("hostname", meta["name"])
        process = subprocess.Popen(
            [*unshare, "--fork", "sh", "-c", PREPARE_HOST, "sh", hostname, "", *inside],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment({"RESOLVER": self._resolver}),
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        with process.stdin, process.stdout, process.stderr:
            try:
                pid = self._cable(process, address)
            except (OSError, subprocess.SubprocessError, PodError) as error:
                process.kill()
                said = getattr(error, "stderr", "") or process.stderr.read() or error
                process.wait()
                raise PodError("FailedCreatePodSandBox", str(said).strip()) from None
        return Sandbox(process, pid)

    def _cable(self, process: subprocess.Popen[str], address: str) -> int:
        """Wait until the namespaces are there, connect them to the bridge and let the pod run; its first process."""
        assert process.stdin
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise PodError("FailedCreatePodSandBox", "")
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        port = f"pod{int(address.rsplit('.', 1)[1])}"
        subprocess.run(["ip", "link", "delete", "dev", port], capture_output=True, env=environment())
        subprocess.run(
            ["ip", "-batch", "-"],
            input=f"""link add name {port} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {pid}
            link set dev {port} master {BRIDGE}
            link set dev {port} type bridge_slave isolated on
            link set dev {port} up
            """,
            check=True,
            capture_output=True,
            text=True,
            env=environment(),
        )
        process.stdin.write("go\n")
        process.stdin.flush()
        if process.stdout.readline() != "up\n":
            raise PodError("FailedCreatePodSandBox", "")
        return pid

    def _environment(self, pod: Object, container: Object, address: str) -> Iterator[tuple[str, str]]:
        fields: Mapping[str, str] = {
            "metadata.name": pod["metadata"]["name"],
            "metadata.namespace": pod["metadata"].get("namespace", "default"),
            "spec.nodeName": self.node,
            "status.podIP": address,
            "status.hostIP": self.node_address,
        }
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                yield variable["name"], fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                yield variable["name"], variable.get("value", "")


def ports(pod: Object) -> set[tuple[str, int]]:
    """Declared ports: protocol in lower case, number."""
    declared = pod["spec"]["containers"][0].get("ports", [])
    return {(port.get("protocol", "TCP").lower(), port["containerPort"]) for port in declared}


def timestamp() -> str:
    """Now, as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
