"""The resolver against CoreDNS and unbound, each with one worker: questions a second and CPU a question.

1,000 service names, asked by dnsperf in mixed case, with and without EDNS, a tenth of them absent. Everything runs
in a host of a private bed, on its loopback; all servers are up all the time and asked in turn, so that what else the
machine does meets all alike. CPU is what /proc/PID/stat says of the server. Also: from exec of the resolver to its
first answer, from its table on disk.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.peers import Peer, find
from bench.report import Cell, Report, Target, at_least, at_most, machine
from dns import tablefile
from dns.records import Name, Srv, Zone
from e2e.lab.namespaces import Bed, BedError, Space

SERVICES = 1000
QUESTIONS = 20_000
ABSENT = 0.1
ZONE = "cluster.local"
SEED = 8
TREE = str(Path(__file__).parent.parent)
"""What is measured is the tree that this file stands in."""
START_TRIES = 7

RUN = """
import sys
from pathlib import Path
from dns.server import Options, run
port, folder = int(sys.argv[1]), Path(sys.argv[2])
sys.exit(run(Options("127.0.0.1", port, folder / "resolver.sock", folder / "dns.table", folder / "resolv.conf")))
"""

FIRST_ANSWER = """
import socket, subprocess, sys, time
port, question = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.1", port))
client.settimeout(0.001)
began = time.monotonic()
server = subprocess.Popen(sys.argv[3:])
answer = b""
while not answer and time.monotonic() - began < 10:
    try:
        client.send(question)
        answer = client.recv(1500)
    except ConnectionRefusedError:
        time.sleep(0.0005)
    except TimeoutError:
        pass
print((time.monotonic() - began) * 1000 if answer[6:8] == b"\\0\\1" else "none")
server.terminate()
server.wait()
"""


@dataclass(slots=True)
class Server:
    """One server under test: how it is started, and what was measured."""

    name: str
    port: int
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    process: int = 0
    rates: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    costs: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    lost: int = 0

    def rate(self, edns: bool) -> float:
        """Questions a second, median."""
        return statistics.median(self.rates[edns])

    def cost(self, edns: bool) -> float:
        """Microseconds of CPU a question, median."""
        return statistics.median(self.costs[edns])


def service(number: int) -> str:
    """The name of a service."""
    return f"service-{number}.namespace-{number % 20}.svc.{ZONE}"


def address(number: int) -> str:
    """Its cluster IP."""
    return f"10.96.{number // 250}.{number % 250 + 1}"


def table(number: int = SERVICES) -> bytes:
    """The resolver's file: for each service what the agent would send: A, SRV of one port, PTR."""
    names = []
    for i in range(number):
        names.append(Name(service(i), a=(address(i),)))
        names.append(Name(f"_http._tcp.{service(i)}", srv=(Srv(service(i), 80),)))
        names.append(Name(".".join(reversed(address(i).split("."))) + ".in-addr.arpa", ptr=(service(i),)))
    return tablefile.pack([Zone(ZONE, pods=True)], map(msgspec.msgpack.encode, names))


def questions() -> str:
    """dnsperf's input: names in mixed case, a tenth of them absent."""
    chance = random.Random(SEED)
    lines = []
    for _ in range(QUESTIONS):
        number = chance.randrange(SERVICES)
        name = service(number)
        if chance.random() < ABSENT:
            name = f"absent-{name}"
        lines.append("".join(chance.choice((c, c.upper())) for c in name) + " A")
    return "\n".join(lines) + "\n"


def servers(folder: Path) -> list[Server]:
    """Ours and those peers that are there, with their configuration written."""
    (folder / "dns.table").write_bytes(table())
    (folder / "resolv.conf").write_text("")
    found = [Server("edgemesh", 5301, [sys.executable, "-c", RUN, "5301", str(folder)], {"PYTHONPATH": TREE})]
    hosts = [(service(i), address(i)) for i in range(SERVICES)]
    if coredns := find("coredns"):
        soa = f"@ 30 IN SOA ns.dns.{ZONE}. hostmaster.{ZONE}. 1 7200 1800 86400 5\n@ 30 IN NS ns.dns.{ZONE}.\n"
        zone = f"$ORIGIN {ZONE}.\n{soa}" + "".join(f"{name}. 30 IN A {host}\n" for name, host in hosts)
        (folder / "zone").write_text(zone)
        corefile = f"{ZONE}:5302 {{\n bind 127.0.0.1\n file {folder}/zone\n cache 30\n}}\n"
        (folder / "Corefile").write_text(corefile)
        command = [str(coredns.path), "-quiet", "-conf", str(folder / "Corefile")]
        found.append(Server("coredns", 5302, command, {"GOMAXPROCS": "1"}))
    if unbound := find("unbound"):
        data = "".join(f'local-data: "{name}. 30 IN A {host}"\n' for name, host in hosts)
        options = (
            'server:\n num-threads: 1\n interface: 127.0.0.1@5303\n do-daemonize: no\n username: ""\n chroot: ""\n'
            ' pidfile: ""\n use-syslog: no\n verbosity: 0\n module-config: "iterator"\n'
            f' directory: "{folder}"\n'
            f' local-zone: "{ZONE}." static\n'
            f' local-data: "{ZONE}. 5 IN SOA ns.dns.{ZONE}. hostmaster.{ZONE}. 1 7200 1800 86400 5"\n'
        )
        (folder / "unbound.conf").write_text(options + data + "remote-control:\n control-enable: no\n")
        command = [str(unbound.path), "-d", "-c", str(folder / "unbound.conf")]
        found.append(Server("unbound", 5303, command, dict(unbound.env)))
    return found


@contextlib.contextmanager
def running(host: Space, folder: Path, all_servers: list[Server]) -> Iterator[None]:
    """All servers, answering."""
    for server in all_servers:
        log = folder / f"{server.name}.log"
        popen = host.popen(server.command, env=server.env, log=log)
        probe = ["dig", f"-p{server.port}", "@127.0.0.1", "+short", "+tries=1", "+time=1", service(0)]
        for _ in range(50):
            if host.run(probe, check=False).stdout.strip() == address(0):
                break
            time.sleep(0.1)
        else:
            raise BedError(f"{server.name} does not answer: {log.read_text()[-500:]}")
        server.process = _inside(popen.pid)
    yield


def _inside(process: int) -> int:
    """The process that nsenter started."""
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def _cpu(process: int) -> float:
    """Seconds of CPU a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss(process: int) -> float:
    """MiB of memory, shared pages divided among their users."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def ask(host: Space, dnsperf: Peer, server: Server, file: Path, edns: bool, seconds: int) -> None:
    """One run of dnsperf."""
    command = [str(dnsperf.path), "-s", "127.0.0.1", "-p", str(server.port), "-d", str(file), "-l", str(seconds)]
    command += ["-c", "8", "-q", "100", *(["-e"] if edns else [])]
    before = _cpu(server.process)
    said = host.run(command, env=dnsperf.env, timeout=seconds + 20).stdout
    used = _cpu(server.process) - before
    rate = re.search(r"Queries per second:\s+([\d.]+)", said)
    done = re.search(r"Queries completed:\s+(\d+)", said)
    lost = re.search(r"Queries lost:\s+(\d+)", said)
    if not rate or not done or not lost:
        raise BedError(f"dnsperf says nothing of use: {said}")
    server.rates[edns].append(float(rate[1]))
    server.costs[edns].append(used / int(done[1]) * 1e6)
    server.lost += int(lost[1])


def first_answer(host: Space, server: Server, tries: int) -> float | None:
    """Milliseconds from exec to the first answer, median; the server must not be running."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in service(0).split("."))
    question = b"\x11\x11\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    command = [sys.executable, "-c", FIRST_ANSWER, str(server.port), question.hex(), *server.command]
    times = [host.run(command, env=server.env).stdout.strip() for _ in range(tries)]
    return statistics.median(map(float, times)) if "none" not in times else None


def measure(quick: bool, say: Callable[[str], None]) -> Report:
    """Run it all."""
    rounds, seconds = (3, 1) if quick else (5, 4)
    dnsperf = find("dnsperf")
    with tempfile.TemporaryDirectory(prefix="edgemesh-bench-") as name, Bed() as bed:
        folder = Path(name)
        host = bed.host("dns")
        all_servers = servers(folder)
        say("resolver: exec to first answer")
        start = first_answer(host, all_servers[0], 3 if quick else START_TRIES)
        memory = {}
        with running(host, folder, all_servers):
            if dnsperf:
                file = folder / "questions"
                file.write_text(questions())
                for turn in range(rounds):
                    for edns in (False, True):
                        for server in all_servers:
                            say(f"round {turn + 1} of {rounds}: {server.name}{', EDNS' if edns else ''}")
                            ask(host, dnsperf, server, file, edns, seconds)
            for server in all_servers:
                memory[server.name] = _pss(server.process)
    rows: list[dict[str, Cell]] = []
    for server in all_servers:
        row: dict[str, Cell] = {"server": server.name}
        for edns in (False, True):
            how = "EDNS" if edns else "plain"
            measured = bool(server.rates[edns])
            row[f"q/s {how}"] = round(server.rate(edns)) if measured else None
            row[f"µs of CPU {how}"] = round(server.cost(edns), 2) if measured else None
        row["lost"] = server.lost
        row["MiB"] = round(memory[server.name], 1)
        row["first answer, ms"] = round(start, 1) if server is all_servers[0] and start else None
        rows.append(row)
    return Report("dns", machine(), rows, targets(all_servers, start))


def targets(all_servers: list[Server], start: float | None) -> list[Target]:
    """What issue and design ask for; the worse of with and without EDNS counts."""
    by_name = {server.name: server for server in all_servers if server.rates[True]}
    ours = by_name.get("edgemesh")

    def ratio(peer: str, of: Callable[[Server, bool], float], worst: Callable[[list[float]], float]) -> float | None:
        other = by_name.get(peer)
        if ours is None or other is None:
            return None
        return round(worst([of(ours, edns) / of(other, edns) for edns in (False, True)]), 3)

    return [
        at_least("questions a second / CoreDNS", ratio("coredns", Server.rate, min), 1.5),
        at_most("CPU a question / CoreDNS", ratio("coredns", Server.cost, max), 0.6),
        at_most("CPU a question / unbound", ratio("unbound", Server.cost, max), 1.4),
        at_most("exec of the resolver to its first answer", round(start, 1) if start else None, 150, " ms"),
    ]
