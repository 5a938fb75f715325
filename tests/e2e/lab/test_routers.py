"""Each router's mapping and filtering, asked from two servers with two ports each, is the class of RFC 4787 it claims.

Every test sends from a fresh port: an earlier probe opens the filter for a later one (RFC 5780, erratum 7971).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.lab.namespaces import Bed, Space
from e2e.lab.routers import TERMS, Nat, Reach, Weather, cut_segments, expected, make_router
from e2e.lab.topology import ROOT

SERVER_1, SERVER_2 = "203.0.113.1", "198.18.0.1"
PORTS = (3478, 3479)
WAN = "192.0.2.10"

SERVERS = """
import json, select, socket, sys
sockets = {}
for address in sys.argv[1:3]:
    for port in (3478, 3479):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address, port))
        sockets[address, port] = s
print("ready", flush=True)
while True:
    for s in select.select(list(sockets.values()), [], [])[0]:
        data, source = s.recvfrom(2048)
        # the client names the sockets that shall answer, and where to (default: where it came from)
        for address, port, *to in json.loads(data):
            sockets[address, port].sendto(json.dumps([list(source), address, port]).encode(), tuple(to) or source)
"""

CLIENT = """
import json, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 0))
s.settimeout(0.3)
for server, order in json.loads(sys.argv[1]):
    s.sendto(json.dumps(order).encode(), tuple(server))
answers = []
try:
    while True:
        answers.append(json.loads(s.recvfrom(2048)[0]))
except TimeoutError:
    pass
print(json.dumps([s.getsockname()[1], answers]))
"""


class Lab:
    def __init__(self, router: Space, client: Space, server: Space) -> None:
        self.router = router
        self.client = client
        self.server = server

    def ask(self, *questions: tuple[tuple[str, int], list[Any]], client: Space | None = None) -> tuple[int, list[Any]]:
        """Send each order to its server from one fresh port; the local port and all answers."""
        done = (client or self.client).run([sys.executable, "-c", CLIENT, json.dumps(questions)])
        port, answers = json.loads(done.stdout)
        return port, answers

    def mappings(self, *servers: tuple[str, int]) -> tuple[int, list[tuple[str, int]]]:
        port, answers = self.ask(*((server, [server]) for server in servers))
        assert len(answers) == len(servers)
        return port, [tuple(source) for source, _, _ in answers]

    def passes(self, *answering: tuple[str, int]) -> set[tuple[str, int]]:
        """Which of the sockets reach a client that has sent to the first server's first port only."""
        _, answers = self.ask(((SERVER_1, PORTS[0]), [*answering]))
        return {(address, port) for _, address, port in answers}


@contextmanager
def lab(kind: Nat) -> Iterator[Lab]:
    with Bed() as bed:
        server, router, client = bed.host("server"), bed.host("router"), bed.host("client")
        bed.link(server, "down", router, "wan")
        bed.link(router, "lan", client, "eth0")
        server.run(
            f"""set -e
            ip address add 192.0.2.1/24 dev down
            ip address add {SERVER_1}/32 dev lo
            ip address add {SERVER_2}/32 dev lo"""
        )
        router.run(
            f"""set -e
            ip address add {WAN}/24 dev wan
            ip route add default via 192.0.2.1
            ip address add 192.168.1.1/24 dev lan"""
        )
        client.run("ip address add 192.168.1.11/24 dev eth0; ip route add default via 192.168.1.1")
        make_router(router, kind, WAN)
        child = server.popen([sys.executable, "-u", "-c", SERVERS, SERVER_1, SERVER_2])
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        yield Lab(router, client, server)


@pytest.mark.bed
@pytest.mark.parametrize("kind", Nat)
def test_a_router_maps_and_filters_as_its_class_says(kind: Nat) -> None:
    with lab(kind) as bed:
        mapping, filtering = TERMS[kind].split(",")[0].split("/")

        everywhere = [(address, port) for address in (SERVER_1, SERVER_2) for port in PORTS]
        local, seen = bed.mappings(*everywhere)
        assert {address for address, _ in seen} == {WAN}
        ports = {port for _, port in seen}
        if mapping == "EIM":
            assert ports == {local}
        else:
            assert len(ports) == len(everywhere)  # another for every address and port: APDM

        asked, other_port, other_address = (SERVER_1, PORTS[0]), (SERVER_1, PORTS[1]), (SERVER_2, PORTS[0])
        passed = bed.passes(asked, other_port, other_address)
        assert (
            passed
            == {
                "EIF": {asked, other_port, other_address},
                "ADF": {asked, other_port},
                "APDF": {asked},
            }[filtering]
        )


@pytest.mark.bed
@pytest.mark.parametrize("kind", Nat)
def test_only_the_linux_gateway_answers_unsolicited_packets(kind: Nat) -> None:
    knock = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{SERVER_1}", 40000)); s.settimeout(0.3); s.connect(("{WAN}", 40001)); s.send(b"knock")
try: s.recv(10)
except ConnectionRefusedError: print("refused")
except TimeoutError: print("silence")
"""
    with lab(kind) as bed:
        said = bed.server.run([sys.executable, "-c", knock]).stdout.strip()
        assert said == ("refused" if kind is Nat.LINUX_GATEWAY else "silence")


@pytest.mark.bed
def test_the_linux_gateway_clashes_and_the_port_restricted_router_does_not() -> None:
    """A punch that comes before the own packet takes the mapping away, unless it is dropped on arrival."""
    script = f"""
import json, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.168.1.11", 41000)); s.settimeout(1)
s.sendto(json.dumps([["{SERVER_1}", 3478]]).encode(), ("{SERVER_1}", 3478)); print(s.recv(2048).decode())
s.sendto(json.dumps([["{SERVER_2}", 3478, "{WAN}", 41000]]).encode(), ("{SERVER_1}", 3478))
try: s.recv(2048)
except TimeoutError: pass
s.sendto(json.dumps([["{SERVER_2}", 3478]]).encode(), ("{SERVER_2}", 3478)); print(s.recv(2048).decode())
"""
    for kind, keeps in ((Nat.PORT_RESTRICTED, True), (Nat.LINUX_GATEWAY, False)):
        with lab(kind) as bed:
            first, second = map(json.loads, bed.client.run([sys.executable, "-c", script]).stdout.splitlines())
            assert first[0] == [WAN, 41000]
            assert (second[0] == [WAN, 41000]) is keeps


@pytest.mark.bed
def test_weather_blocks_one_way_silently_and_clears() -> None:
    with lab(Nat.PORT_RESTRICTED) as bed:
        weather = Weather(bed.router)
        port, answers = bed.ask(((SERVER_1, 3478), [(SERVER_1, 3478)]))
        assert answers
        weather.block("192.168.1.11", SERVER_1)
        assert not bed.ask(((SERVER_1, 3478), [(SERVER_1, 3478)]))[1]
        assert bed.ask(((SERVER_2, 3478), [(SERVER_2, 3478)]))[1]
        weather.clear()
        assert bed.ask(((SERVER_1, 3478), [(SERVER_1, 3478)]))[1]
        assert port


@pytest.mark.bed
def test_loss_is_near_its_share_and_trains_are_cut() -> None:
    with lab(Nat.PORT_RESTRICTED) as bed:
        Weather(bed.router).lose(0.2)
        cut_segments(bed.client, "eth0")
        assert "gso_max_segs 1 " in bed.client.run("ip -d link show dev eth0").stdout
        said = bed.client.run(["ping", "-q", "-i", "0.002", "-c", "400", "-W", "1", SERVER_1], check=False).stdout
        found = re.search(r"(\d+) received", said)
        assert found
        # sent over the router twice: 0.64 of 400 arrive, give or take five standard deviations
        assert 208 <= int(found[1]) <= 304


def test_the_expectations_are_those_of_the_documentation() -> None:
    lines = (Path(ROOT) / "docs" / "nat.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| A \\ B |"))
    columns = [cell.strip() for cell in lines[start].split("|")[2:-1]]
    assert columns == [str(kind) for kind in Nat]
    rows = {}
    for line in lines[start + 2 : start + 2 + len(columns)]:
        name, *cells = (cell.strip() for cell in line.split("|")[1:-1])
        rows[name] = cells
    assert rows == {str(a): [str(expected(a, b)) for b in Nat] for a in Nat}


def test_expectations_do_not_depend_on_the_side() -> None:
    assert all(expected(a, b) is expected(b, a) for a in Nat for b in Nat)
    assert expected(Nat.SYMMETRIC, Nat.PORT_RESTRICTED) is Reach.RELAYED
    assert expected(Nat.LINUX_GATEWAY, Nat.SYMMETRIC) is Reach.EITHER
