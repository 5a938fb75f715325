"""A private bed: user, mount, PID and network namespaces of its own, and hosts inside it.

`Bed` starts one outermost process under `unshare`; every host is a holder process inside it with its own
network, mount, PID and UTS namespaces. All of them end with the outermost one (`--kill-child`, and the PID
namespace ends with its first process), and that one ends when the pipe to its maker closes: so nothing stays,
even after `kill -9` of either.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

HOLD = "echo ready; read _"
"""A holder says that it is there, and ends when its standard input closes."""

PREPARE = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
sysctl -qw net.bridge.bridge-nf-call-iptables=0 2>/dev/null || true
ip link set lo up
"""

PREPARE_HOST = """
set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
hostname "$1"
ip link set lo up
sysctl -qw net.ipv4.ping_group_range="0 0" 2>/dev/null || true
"""


class BedError(Exception):
    """The bed, or a command in it, failed; the message has what was run and what it printed."""


class Space:
    """Namespaces held by one process; commands are run inside them."""

    def __init__(self, name: str, holder: subprocess.Popen[str], pid: int) -> None:
        self.name = name
        self.holder = holder
        self.pid = pid
        self._children: list[subprocess.Popen[str]] = []

    def command(self, args: Sequence[str] | str) -> list[str]:
        """The command line that runs `args` (a string goes through a shell) inside."""
        inner = ["sh", "-c", args] if isinstance(args, str) else list(args)
        enter = ["nsenter", "--preserve-credentials", f"--target={self.pid}"]
        return [*enter, "--user", "--mount", "--net", "--pid", "--uts", "--", *inner]

    def run(
        self,
        args: Sequence[str] | str,
        *,
        check: bool = True,
        timeout: float = 30,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; raises BedError with its output when it fails and `check` is set."""
        done = subprocess.run(
            self.command(args),
            capture_output=True,
            text=True,
            timeout=timeout,
            input=input,
            env={**os.environ, **(env or {})},
        )
        if check and done.returncode:
            shown = args if isinstance(args, str) else shlex.join(args)
            raise BedError(f"{self.name}: {shown}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(
        self, args: Sequence[str] | str, *, env: Mapping[str, str] | None = None, log: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a process that is killed when the space closes. With `log`, both its outputs go there."""
        sink = log.open("a") if log else None
        try:
            child = subprocess.Popen(
                self.command(args),
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=sink or subprocess.PIPE,
                stderr=subprocess.STDOUT if sink else subprocess.PIPE,
                env={**os.environ, **(env or {})},
            )
        finally:
            if sink:
                sink.close()
        self._children.append(child)
        return child

    def close(self) -> None:
        """End everything inside."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        if self.holder.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.holder.stdin.close()
        try:
            self.holder.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.holder.kill()
            self.holder.wait()
        if self.holder.stdout:
            self.holder.stdout.close()
        for child in self._children:
            child.wait()
            for stream in (child.stdout, child.stderr):
                if stream:
                    stream.close()


class Bed(Space):
    """The outermost space; `host` makes hosts in it, `link` joins two by a veth pair."""

    def __init__(self) -> None:
        unshare = [
            "unshare",
            "--kill-child",
            "--user",
            "--map-root-user",
            "--mount",
            "--pid",
            "--net",
            "--uts",
        ]
        holder = _hold([*unshare, "--fork", "sh", "-c", PREPARE + HOLD])
        super().__init__("bed", holder, _child_of(holder.pid))
        self._hosts: dict[str, Space] = {}
        self._links = 0

    def host(self, name: str) -> Space:
        """Make a host: its own network, mount, PID and UTS namespaces, `lo` up, hostname set."""
        script = self.command(
            [
                "unshare",
                "--kill-child",
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--fork",
                "sh",
                "-c",
                PREPARE_HOST + HOLD,
                "sh",
                name,
            ]
        )
        holder = _hold(script)
        # nsenter --pid forks: nsenter -> unshare -> sh
        host = Space(name, holder, _child_of(_child_of(holder.pid)))
        self._hosts[name] = host
        return host

    def link(self, left: Space, left_device: str, right: Space, right_device: str) -> None:
        """Join two spaces by a veth pair, both ends up."""
        self._links += 1
        a, b = f"l{self._links}a", f"l{self._links}b"
        self.run(["ip", "link", "add", a, "type", "veth", "peer", "name", b])
        for device, space, name in ((a, left, left_device), (b, right, right_device)):
            # the pid as the bed's PID namespace numbers it
            self.run(["ip", "link", "set", device, "netns", str(_inner_pid(space.pid))])
            space.run(["ip", "link", "set", device, "name", name])
            space.run(["ip", "link", "set", name, "up"])

    def close(self) -> None:
        """End all hosts, then the bed."""
        for host in self._hosts.values():
            host.close()
        super().close()

    def __enter__(self) -> Bed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _hold(args: list[str]) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        args,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert holder.stdout
    assert holder.stderr
    if holder.stdout.readline() != "ready\n":
        said = holder.stderr.read()
        holder.kill()
        holder.wait()
        raise BedError(f"namespaces can't be made: {said.strip()}")
    holder.stderr.close()
    return holder


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        raise BedError(f"process {pid} has no child")
    return int(children[0])


def _inner_pid(pid: int) -> int:
    """The number of a process in the bed's PID namespace (the second of the three it has)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[2])
    raise BedError(f"process {pid} has no NSpid")
