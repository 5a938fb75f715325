"""What a node's processes cost that do nothing: memory with 1,000 services, CPU with three direct peers.

Memory is the sum of PSS (/proc/PID/smaps_rollup, proc(5)), which divides shared pages among all who map them. So no
other node's processes run, its three peers are configured and absent; and since still other Pythons on the machine
(this one, the pods) make PSS smaller by what they share, it is also reckoned from /proc/PID/pagemap what PSS would be
without them: each page of a file divided among those of the node's own processes that map it. The larger one counts.

CPU is what the processes' own clocks say, to the nanosecond, over a while, on the demo's topology, with the same 1,000
services, when the paths have been direct for a while.
"""

from __future__ import annotations

import re
import statistics
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.report import Cell, Report, at_most, machine
from bench.sites import ENDPOINTS, SERVICES, Sites, sites
from e2e.lab.namespaces import BedError
from e2e.lab.topology import SERVICES as PROCESSES

PAGE = 4096
PRESENT, FILE = 1 << 63, 1 << 61
"""Bits of an entry of pagemap: in memory; of a file or shared."""
SETTLED = 5.0
"""Seconds of quiet before anything is measured."""
IDLE_QUICK, IDLE = 4.0, 20.0
ROUNDS = 3

FilePage = tuple[str, int]
"""A page of a file: which file, and where in it."""


def pss(process: int) -> float:
    """MiB, as the kernel says."""
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def pages(process: int) -> tuple[int, set[FilePage]]:
    """Pages in memory: how many are the process's own, and which are files'."""
    own, files = 0, set()
    with open(f"/proc/{process}/pagemap", "rb", buffering=0) as pagemap:
        for begin, end, offset, file in _mappings(process):
            pagemap.seek(begin // PAGE * 8)
            entries = pagemap.read((end - begin) // PAGE * 8)
            for number, (entry,) in enumerate(struct.iter_unpack("<Q", entries)):
                if entry & PRESENT and entry & FILE and file:
                    files.add((file, offset // PAGE + number))
                elif entry & PRESENT:
                    own += 1
    return own, files


def _mappings(process: int) -> Iterator[tuple[int, int, int, str]]:
    """Begin, end, offset in the file and the file ('' for none), of every mapping that counts as memory."""
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        span, _, offset, device, inode, *name = line.split(maxsplit=5)
        begin, end = (int(text, 16) for text in span.split("-"))
        if name and name[0].startswith(("[v", "[uprobes")):
            continue  # the kernel's own: vvar, vdso, vsyscall
        yield begin, end, int(offset, 16), f"{device} {inode}" if inode != "0" else ""


def alone(processes: Mapping[str, int]) -> dict[str, float]:
    """MiB of each, were they the only ones on the machine."""
    found = {name: pages(process) for name, process in processes.items()}
    users = Counter(page for _, files in found.values() for page in files)
    return {
        name: (own + sum(1 / users[page] for page in files)) * PAGE / (1 << 20) for name, (own, files) in found.items()
    }


def used(process: int) -> float:
    """Seconds of CPU that a process has had, by its clock (clock_getcpuclockid(3)), threads that ended included."""
    return time.clock_gettime(~process << 3 | 2)


class Run:
    """The demo's topology with 1,000 services at site B, where all is measured."""

    def __init__(self, built: Sites, say: Callable[[str], None]) -> None:
        self.sites = built
        self.say = say
        self.node = built.node("b1")
        built.many("b1")
        built.wait_services("b1")

    def processes(self) -> dict[str, int]:
        """The node's processes by name, as numbered outside the bed."""
        return {name: self.node.outer_pid(name) for name in PROCESSES}

    def idle(self, seconds: float) -> dict[str, float]:
        """Percent of a core that each process has, with a direct path to every other node; the median of `ROUNDS`."""
        others = [node.name for node in self.sites.topology if node is not self.node]
        for name in others:
            self.sites.wait_path("b1", name, "direct", 15)
        time.sleep(SETTLED)
        rounds = [self._shares(seconds) for _ in range(ROUNDS)]
        for name in others:
            if self.sites.path("b1", name) != "direct":
                raise BedError(f"b1 lost its direct path to {name} while it was idle")
        return _medians(rounds)

    def _shares(self, seconds: float) -> dict[str, float]:
        found = self.processes()
        before = {name: used(process) for name, process in found.items()}
        time.sleep(seconds)
        shares = {name: (used(process) - before[name]) / seconds * 100 for name, process in found.items()}
        self.say("CPU idle: " + ", ".join(f"{name} {share:.2f} %" for name, share in shares.items()))
        return shares

    def memory(self) -> dict[str, float]:
        """MiB of each process after a start anew, when no other node's processes run."""
        self.sites.stop(*(node.name for node in self.sites.topology))
        self.node.start_services()
        self.sites.wait_services("b1")
        time.sleep(SETTLED)
        found = self.processes()
        reckoned = alone(found)
        said = {name: pss(process) for name, process in found.items()}
        worse = max((reckoned, said), key=lambda each: sum(each.values()))
        for what, each in (("without other Pythons", reckoned), ("as the kernel says", said)):
            self.say(f"memory {what}: " + ", ".join(f"{name} {value:.1f} MiB" for name, value in each.items()))
        return worse


def measure(quick: bool, say: Callable[[str], None], *, manifests: bool = False) -> Report:
    """CPU first, while all nodes are up; then memory."""
    say("the sites come up")
    with sites(manifests=manifests) as built:
        run = Run(built, say)
        shares = run.idle(IDLE_QUICK if quick else IDLE)
        memory = _medians([run.memory() for _ in range(ROUNDS)])
    rows: list[dict[str, Cell]] = [
        {"process": name, "MiB": round(memory[name], 1), "CPU idle, % of a core": round(shares[name], 3)}
        for name in PROCESSES
    ]
    total = round(sum(shares.values()), 3)
    rows.append({"process": "all", "MiB": round(sum(memory.values()), 1), "CPU idle, % of a core": total})
    rows.append({"process": "EdgeMesh 1.17, on another day", "MiB": 90, "CPU idle, % of a core": 42})
    services = f"{SERVICES} services of {ENDPOINTS} endpoints"
    return Report(
        "memory",
        machine(),
        rows,
        (
            at_most(
                f"memory of agent and resolver, {services}", round(memory["agent"] + memory["resolver"], 1), 60, " MiB"
            ),
            at_most(f"memory of the engine, {services}", round(memory["engine"], 1), 25, " MiB"),
            at_most("CPU idle, 3 direct peers, of a core", total, 0.3, " %"),
        ),
    )


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
