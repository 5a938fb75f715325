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

from bench.report import Cell, Report, at_least, machine
from e2e.lab.namespaces import Bed, BedError, Space

SERVICES, ENDPOINTS = 1000, 3
ROUNDS = 9
SLICE = 0.25
"""Seconds a run takes; a round has four or more."""
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

ANSWER = """
import select, socket, sys, threading
stream_port, *ports = map(int, sys.argv[1:])

def take(one):
    buffer, total = bytearray(1 << 20), 0
    while size := one.recv_into(buffer):
        total += size
    one.sendall(total.to_bytes(8, "big"))
    one.close()

def streams():
    listener = socket.create_server(("0.0.0.0", stream_port))
    while True:
        take(listener.accept()[0])

threading.Thread(target=streams, daemon=True).start()
poll = select.epoll()
listeners = {}
for port in ports:
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)
    listener.setblocking(False)
    listeners[listener.fileno()] = listener
    poll.register(listener, select.EPOLLIN)
while True:
    for number, _ in poll.poll():
        try:
            while True:
                with listeners[number].accept()[0] as one:
                    one.send(b"x")
        except OSError:
            pass  # there are no more, or the client was at its end and reset it
"""

CALL = """
import json, select, socket, struct, sys, time
what, port, seconds, turns, rounds, in_flight, *addresses = sys.argv[1:]
port, seconds, turns, rounds, in_flight = int(port), float(seconds), int(turns), int(rounds), int(in_flight)
block, reset = bytes(1 << 20), struct.pack("ii", 1, 0)

def stream(address):
    with socket.create_connection((address, port)) as one:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            one.sendall(block)
        one.shutdown(socket.SHUT_WR)
        total = int.from_bytes(one.recv(8), "big")
        return total * 8 / 1e6 / (time.perf_counter() - began)

def connections(address):
    poll, flying, made = select.epoll(), {}, 0
    def start():
        one = socket.socket()
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)  # no TIME_WAIT is left to run out of ports by
        one.connect_ex((address, port))
        flying[one.fileno()] = one
        poll.register(one, select.EPOLLIN)
    for _ in range(in_flight):
        start()
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        for number, _ in poll.poll(1):
            one = flying.pop(number)
            if one.recv(1) != b"x":
                sys.exit("a connection ended without an answer")
            one.close()
            made += 1
            start()
    for one in flying.values():
        one.close()
    return made / (now - began)

run = {"stream": stream, "connections": connections}[what]
pairs = []
for _ in range(rounds):  # there and back again, in slices, so that what else the machine does meets both alike
    figures = {address: [] for address in addresses}
    for _ in range(turns):
        for address in addresses + addresses[::-1]:
            figures[address].append(run(address))
    pairs.append([sum(figures[address]) / len(figures[address]) for address in addresses])
print(json.dumps(pairs))
"""


def measure(quick: bool, say: Callable[[str], None]) -> Report:
    """Both figures, each way."""
    turns = 1 if quick else 4
    with Bed() as bed:
        node, client, server = _topology(bed)
        setting = json.dumps([SERVICES, ENDPOINTS, SERVER, STREAM, STREAM_PORT, CONNECT, *CONNECT_PORTS])
        rules = json.loads(node.run([sys.executable, "-c", RULES, setting], env=ENVIRONMENT).stdout)
        say(f"{SERVICES} services of {ENDPOINTS} endpoints loaded in {rules['load']:.0f} ms")
        server.popen([sys.executable, "-c", ANSWER, str(STREAM_PORT), *map(str, CONNECT_PORTS)])
        _wait(server, STREAM_PORT, *CONNECT_PORTS)
        rows: list[dict[str, Cell]] = []
        ratios = []
        for name, what, port, address in (
            ("throughput, Mbit/s", "stream", STREAM_PORT, STREAM),
            ("new connections/s", "connections", CONNECT_PORTS[0], CONNECT),
        ):
            numbers = list(map(str, (port, SLICE, turns, ROUNDS, IN_FLIGHT)))
            command = [sys.executable, "-c", CALL, what, *numbers, SERVER, address]
            pairs = json.loads(client.run(command, timeout=ROUNDS * 4 * turns * (SLICE + 2)).stdout)
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
