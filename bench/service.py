"""A service by its cluster IP against the pod's address: throughput and new connections a second, on one node.

    client pod --- bridge (isolated ports, proxy ARP: pods meet at layer 3) --- server pod

Both ways are routed by the node, with the table of 1,000 services of three endpoints loaded, so the difference is
what translation costs. Short runs of the two alternate, there and back again; a ratio is the median of nine
rounds' ratios. Also: how long the table takes to load, and one endpoint to change in it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import answer, call
from bench.report import Cell, Report, at_least, machine
from e2e.lab.namespaces import Bed, BedError, Space

SERVICES, ENDPOINTS = 1000, 3
ROUNDS = 9
SLICE = 0.05
"""Seconds a run takes: the shorter, the less the machine changes between the two that are compared (with 0.25 s, rounds
were 8 % apart, now 3 %)."""
TURNS_QUICK, TURNS = 5, 20
"""Runs each way, there and back again, that make a round."""
IN_FLIGHT = 16
SERVER = "10.244.1.3"
STREAM, CONNECT = "10.96.255.1", "10.96.255.2"
STREAM_PORT, CONNECT_PORTS = 8079, (8080, 8081, 8082)
ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent.parent)}
START_TIMEOUT = 5.0

RULES = """
import json, statistics, sys, time
from proxy.proxy import Proxy
from proxy.service import Backend, NodeNetwork, Protocol, ServicePort

services, endpoints, server, stream, stream_port, connect, *ports = json.loads(sys.argv[1])

def service(name, address, port, backends):
    ends = tuple(Backend(address, port) for address, port in backends)
    return ServicePort(name, address, Protocol.TCP, port, ends)

def other(number, shift=0):
    ends = [(f"10.{200 + place}.{number >> 8}.{(number + shift) & 255}", 8080) for place in range(endpoints)]
    return service(f"ns/s{number}:http", f"10.97.{number >> 8}.{number & 255}", 80, ends)

every = [other(number) for number in range(services)]
every.append(service("bench/stream:p", stream, stream_port, [(server, stream_port)]))
every.append(service("bench/connect:p", connect, ports[0], [(server, port) for port in ports]))
proxy = Proxy(NodeNetwork("10.250.0.1", "10.244.1.0/24"))
began = time.perf_counter()
proxy.apply({each.name: each for each in every})
loaded = time.perf_counter() - began
changes = []
for number in range(200):
    changed = other(number, 1)
    began = time.perf_counter()
    proxy.update([changed], [])
    changes.append(time.perf_counter() - began)
proxy.close()
print(json.dumps({"load": loaded * 1e3, "change": statistics.median(changes) * 1e6, "worst": max(changes) * 1e6}))
"""


def measure(quick: bool, say: Callable[[str], None]) -> Report:
    """Both figures, each way."""
    turns = TURNS_QUICK if quick else TURNS
    with Bed() as bed:
        node, client, server = _topology(bed)
        setting = json.dumps([SERVICES, ENDPOINTS, SERVER, STREAM, STREAM_PORT, CONNECT, *CONNECT_PORTS])
        rules = json.loads(node.run([sys.executable, "-c", RULES, setting], env=ENVIRONMENT).stdout)
        say(f"{SERVICES} services of {ENDPOINTS} endpoints loaded in {rules['load']:.0f} ms")
        server.popen([*answer.COMMAND, "x", str(STREAM_PORT), *map(str, CONNECT_PORTS)])
        _wait(server, STREAM_PORT, *CONNECT_PORTS)
        rows: list[dict[str, Cell]] = []
        ratios = []
        for name, what, port, address, how in (
            ("throughput, Mbit/s", "stream", STREAM_PORT, STREAM, {}),
            ("new connections/s", "connections", CONNECT_PORTS[0], CONNECT, {"in_flight": IN_FLIGHT, "reset": True}),
        ):
            pairs = _pairs(client, what, [(SERVER, port), (address, port)], turns, **how)
            pod, service = (statistics.median(side) for side in zip(*pairs, strict=True))
            ratios.append(statistics.median(by_service / by_pod for by_pod, by_service in pairs))
            rows.append({"what": name, "by the pod's address": pod, "by cluster IP": service, "ratio": ratios[-1]})
            say(f"{name}: {pod:,.0f} by the pod's address, {service:,.0f} by cluster IP")
    rows.append({"what": "load of the table, ms", "by cluster IP": float(rules["load"])})
    rows.append({"what": "one endpoint changed, µs", "by cluster IP": float(rules["change"])})
    rows.append({"what": "the slowest of 200 changes, µs", "by cluster IP": float(rules["worst"])})
    throughput_ratio, connections_ratio = ratios
    return Report(
        "service",
        machine(),
        rows,
        (
            at_least("service by cluster IP, throughput, of the pod's address", throughput_ratio, 0.97),
            at_least("service by cluster IP, new connections/s, of the pod's address", connections_ratio, 0.93),
        ),
    )


def _pairs(client: Space, what: str, places: list[tuple[str, int]], turns: int, **how: object) -> list[list[float]]:
    """Rounds of figures, by the pod's address and by cluster IP: each the mean of so many turns there and back."""
    slices = 2 * turns
    order = json.dumps({"places": places, "rounds": ROUNDS * slices, "seconds": SLICE, **how})
    said = client.run([*call.COMMAND, what, order], timeout=ROUNDS * slices * 2 * (SLICE + 2)).stdout
    table = json.loads(said)
    if what == "connections":
        if any(failed for pair in table for _, failed in pair):
            raise BedError("connections ended without an answer")
        table = [[rate for rate, _ in pair] for pair in table]
    rounds = [table[first : first + slices] for first in range(0, len(table), slices)]
    return [[statistics.fmean(side) for side in zip(*each, strict=True)] for each in rounds]


def _topology(bed: Bed) -> tuple[Space, Space, Space]:
    """A node with a bridge, and two pods on isolated ports of it."""
    node = bed.host("node")
    node.run(
        "sysctl -qw net.ipv4.ip_forward=1 && ip link add pods type bridge && ip address add 10.244.1.1/24 dev pods"
        " && ip link set pods up && sysctl -qw net.ipv4.conf.pods.proxy_arp_pvlan=1"
        " net.ipv4.conf.pods.send_redirects=0 net.ipv4.conf.all.send_redirects=0"
    )
    pods = []
    for number, name in enumerate(("client", "server"), 2):
        pod = bed.host(name)
        bed.link(node, f"pod{number}", pod, "eth0")
        node.run(f"ip link set pod{number} master pods && bridge link set dev pod{number} isolated on")
        pod.run(f"ip address add 10.244.1.{number}/24 dev eth0 && ip route add default via 10.244.1.1")
        pod.run("sysctl -qw net.ipv4.ip_local_port_range='1024 65535'")
        pods.append(pod)
    return node, pods[0], pods[1]


def _wait(host: Space, *ports: int) -> None:
    """Until all ports are listened on."""
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        listening = host.run("ss -Hltn").stdout
        if all(f":{port} " in listening for port in ports):
            return
        time.sleep(0.05)
    raise BedError(f"ports {ports} are not listened on")
