"""Two nodes, each behind its own masquerading NAT, and a public host between them, in a private bed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.namespaces import Bed, Space

ROOT = Path(__file__).parents[2]

PUBLIC = "198.51.100.1"
"""The public host's address."""

NAT = """
table ip nat {
    chain postrouting { type nat hook postrouting priority srcnat; oifname "wan" masquerade; }
}
table ip filter {
    chain input { type filter hook input priority filter; iifname "wan" ct state new drop; }
    chain forward { type filter hook forward priority filter; iifname "wan" ct state new drop; }
}
"""


@dataclass(frozen=True)
class Net:
    """`a` is 192.168.1.2 behind 203.0.113.2, `b` 192.168.2.2 behind 203.0.114.2; `public` joins them."""

    bed: Bed
    a: Space
    b: Space
    public: Space
    nat_a: Space
    nat_b: Space


def python(space: Space, *args: str) -> "subprocess.Popen[str]":
    """Start this project's Python inside."""
    return space.popen([sys.executable, *args], env={"PYTHONPATH": str(ROOT)})


def line(process: "subprocess.Popen[str]") -> str:
    """The next line that it prints; fails with its errors when it has ended."""
    assert process.stdout
    read = process.stdout.readline()
    if not read:
        assert process.stderr
        raise AssertionError(process.stderr.read())
    return read.strip()


OFFLOAD = """
import array, fcntl, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    value = array.array("B", struct.pack("=II", 0x2C, 1))  # ETHTOOL_SGRO
    fcntl.ioctl(sock, 0x8946, struct.pack("16sP16x", sys.argv[1].encode(), value.buffer_info()[0]))
"""


def receive_offload(space: Space, device: str) -> None:
    """Turn on GRO, which a veth has off, as `ethtool -K DEVICE gro on` does."""
    space.run([sys.executable, "-c", OFFLOAD, device])


@contextmanager
def two_nats() -> Iterator[Net]:
    """Build it, take it down."""
    with Bed() as bed:
        public = bed.host("public")
        public.run(f"ip addr add {PUBLIC}/32 dev lo; echo 1 > /proc/sys/net/ipv4/ip_forward")
        nodes, routers = [], []
        for number, name in ((1, "a"), (2, "b")):
            node, router = bed.host(name), bed.host(f"nat-{name}")
            bed.link(node, "eth0", router, "lan")
            bed.link(router, "wan", public, f"to-{name}")
            lan, wan = f"192.168.{number}", f"203.0.{112 + number}"
            node.run(f"ip addr add {lan}.2/24 dev eth0; ip route add default via {lan}.1")
            public.run(f"ip addr add {wan}.1/24 dev to-{name}")
            router.run(
                f"ip addr add {lan}.1/24 dev lan; ip addr add {wan}.2/24 dev wan; ip route add default via {wan}.1;"
                "echo 1 > /proc/sys/net/ipv4/ip_forward"
            )
            router.run(["nft", "-f", "-"], input=NAT)
            nodes.append(node)
            routers.append(router)
        yield Net(bed, nodes[0], nodes[1], public, routers[0], routers[1])
