"""The bed: private, read-only but for what is named, and gone with its outermost process or its maker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed, BedError, inner_numbers
from e2e.lab.topology import ROOT

pytestmark = pytest.mark.bed

MAKER = """
import sys, time
from e2e.lab.namespaces import Bed
bed = Bed()
host = bed.host("h", disk=True)
pod = host.space("p")
host.popen(["sleep", sys.argv[1]])
pod.popen(["sleep", sys.argv[1]])
print(bed.holder.pid, flush=True)
time.sleep(60)
"""


def wait_until(condition: Callable[[], object], patience: float = 5) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def processes_with(argument: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument in path.read_text().split("\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("victim", ["outermost process", "maker"])
def test_nothing_stays_after_kill_9(victim: str) -> None:
    mark = f"1{os.getpid()}{time.monotonic_ns() % 1000000}"
    mounts = Path("/proc/self/mountinfo").read_text()
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKER, mark],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert maker.stdout
        outermost = int(maker.stdout.readline())
        # the maker has the mark among its arguments too, as have the nsenter processes that it started
        wait_until(lambda: len(processes_with(mark)) >= 5)
        os.kill(outermost if victim == "outermost process" else maker.pid, signal.SIGKILL)
        wait_until(lambda: set(processes_with(mark)) <= {maker.pid})
        wait_until(lambda: not Path(f"/proc/{outermost}/ns/net").exists() or victim == "outermost process")
    finally:
        maker.kill()
        maker.wait()
        assert maker.stdout
        maker.stdout.close()
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_two_beds_side_by_side_do_not_meet() -> None:
    with Bed() as one, Bed() as other:
        for bed in (one, other):
            host = bed.host("h", disk=True)
            host.run("ip address add 192.0.2.1/24 dev lo; echo own > /etc/edgemesh-mark")
            assert host.path("/etc/edgemesh-mark").read_text() == "own\n"
        assert one.run(["readlink", "/proc/self/ns/net"]).stdout != other.run(["readlink", "/proc/self/ns/net"]).stdout
    assert not Path("/etc/edgemesh-mark").exists()


def test_the_machines_files_cannot_be_written(tmp_path: Path) -> None:
    # a checkout in the directory for temporary files is writable, as that is
    folders = [Path("/etc"), *([] if ROOT.is_relative_to(Path(tempfile.gettempdir()).resolve()) else [ROOT])]
    probes = [folder / "written-from-inside" for folder in folders]
    with Bed(writable=[tmp_path]) as bed:
        host = bed.host("h")
        for probe in probes:
            assert "Read-only file system" in host.run(["touch", str(probe)], check=False).stderr
        host.run(["touch", str(tmp_path / "log")])
    assert not any(probe.exists() for probe in probes)
    assert (tmp_path / "log").exists()


def test_a_disk_outlives_its_host_and_is_no_other_hosts() -> None:
    with Bed() as bed:
        first = bed.host("a", disk=True)
        first.run("rm /etc/resolv.conf; echo 'nameserver 192.0.2.1' > /etc/resolv.conf; mkdir /var/lib/edgemesh")
        first.run("echo 1 > /run/volatile")
        first.kill()
        again = bed.host("a", disk=True)
        assert again.run("cat /etc/resolv.conf; ls -d /var/lib/edgemesh").stdout.split()[1:] == [
            "192.0.2.1",
            "/var/lib/edgemesh",
        ]
        assert again.run("ls /run").stdout == ""
        assert bed.host("b", disk=True).run("ls /var/lib").stdout.split().count("edgemesh") == 0


def test_bridged_packets_bypass_netfilter_everywhere() -> None:
    with Bed() as bed:
        for space in (bed, bed.host("h"), bed.host("n").space("p")):
            values = space.run("cat /proc/sys/net/bridge/bridge-nf-call-* 2>/dev/null", check=False).stdout.split()
            assert set(values) <= {"0"}


def test_links_join_bed_hosts_and_pods() -> None:
    with Bed() as bed:
        host = bed.host("h")
        pod = host.space("p")
        bed.link(bed, "down", host, "eth0")
        host.link(host, "down", pod, "eth0")
        bed.run("ip address add 192.0.2.1/24 dev down")
        host.run("ip address add 192.0.2.2/24 dev eth0; ip address add 198.51.100.1/24 dev down")
        pod.run("ip address add 198.51.100.2/24 dev eth0")
        assert "1 received" in host.run("ping -c1 -W2 192.0.2.1").stdout
        assert "1 received" in pod.run("ping -c1 -W2 198.51.100.1").stdout
        assert inner_numbers(pod.pid)[-1] == 1


def test_a_failed_command_says_where_and_what() -> None:
    with Bed() as bed:
        host = bed.host("edge")
        with pytest.raises(BedError, match=r"edge: sh -c .*exit 3\n.*no luck"):
            host.run(["sh", "-c", "echo no luck >&2; exit 3"])
