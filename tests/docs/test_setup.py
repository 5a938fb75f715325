"""The set-up script: what it says to a user who can't install, and that it costs nothing when all is there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PACKAGES = [
    *("bind9-dnsutils", "conntrack", "curl", "hostname", "iperf3", "iproute2", "iputils-ping", "mount", "nftables"),
    *("procps", "python3-venv", "tcpdump", "util-linux", "wireguard-tools"),
]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that the script looks at, in a place of its own."""
    (tmp_path / "dev").mkdir()
    for name in ("dev/setup.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def run(checkout: Path, installed: str, *, user: int = 1000) -> subprocess.CompletedProcess[str]:
    """Run it for an ordinary user without sudo, where dpkg-query says what is `installed`."""
    fakes = checkout / "fakes"
    fakes.mkdir()
    for name, text in {
        "dpkg-query": f"cat <<'END'\n{installed} \nEND",
        "id": f"echo {user}",
        "sudo": "exit 1",
        "apt-get": 'echo "apt-get $*" >> calls',
    }.items():
        (fakes / name).write_text(f"#!/bin/sh\n{text}\n")
        (fakes / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{fakes}:/usr/bin:/bin"}
    return subprocess.run(
        ["sh", "dev/setup.sh"],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def states(*, without: str = "", removed: str = "") -> str:
    found = {name: "install ok installed" for name in PACKAGES if name != without}
    if removed:
        found[removed] = "deinstall ok config-files"
    return " ".join(f"{name}:{state}" for name, state in found.items())


def ready(checkout: Path) -> Path:
    stamp = checkout / ".venv" / ".ready"
    stamp.parent.mkdir()
    stamp.touch()
    return stamp


def test_what_is_missing_is_said_as_a_command(checkout: Path) -> None:
    done = run(checkout, states(without="tcpdump", removed="wireguard-tools"))
    assert done.returncode == 1
    assert done.stderr == (
        "setup: these Debian packages are missing, and only root can install them. Run as root:\n"
        "  apt-get update && apt-get install -y --no-install-recommends wireguard-tools tcpdump\n"
    )
    assert not (checkout / ".venv").exists()


def test_root_installs_what_is_missing(checkout: Path) -> None:
    ready(checkout)
    done = run(checkout, states(without="curl"), user=0)
    assert (done.returncode, done.stdout) == (0, "setup: installing Debian packages: curl\n")
    calls = (checkout / "calls").read_text().splitlines()
    assert calls == ["apt-get update -q", "apt-get install -y --no-install-recommends curl"]


def test_nothing_is_done_when_all_is_there(checkout: Path) -> None:
    stamp = ready(checkout)
    before = stamp.stat().st_mtime_ns
    done = run(checkout, states())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stamp.stat().st_mtime_ns == before
    assert not (checkout / "calls").exists()
