"""A private bed: user, mount, PID and network namespaces of its own, and spaces inside it.

`Bed` starts one outermost process under `unshare`; every further space (a host, a router, a pod) is a holder
process inside it with its own network, mount, PID and UTS namespaces. All of them end with the outermost one
(`--kill-child`, and a PID namespace ends with its first process), and that one ends when the pipe to its maker
closes: so nothing stays, even after `kill -9` of either.

The machine's files can't be changed from inside, by root neither: every mount is read-only there but the
directories named as `writable` (by default the one for temporary files). A host made with `disk=True` has
overlays on /etc and /var/lib whose upper layers lie in the bed's own memory and outlive the host: made again
under the same name, as after a reboot, it finds them.

Everything is entered by `nsenter --preserve-credentials`, which works for root and for an ordinary user alike.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

HOLD = ("sh", "-c", "echo ready; read _")
"""A holder says that it is there, and ends when its standard input closes."""

GRACE = 0.5
"""Seconds that a process has to end after the space it belongs to has been told to."""

PREPARE = r"""
set -e
mount --make-rprivate /
for writable in "$@"; do mount --bind "$writable" "$writable"; done
while read -r _ _ _ _ point options _; do
    case $options in rw*) ;; *) continue ;; esac
    case $point in /dev|/dev/*|/proc|/proc/*|/sys|/sys/*) continue ;; esac
    point=$(printf %b "$point")
    for writable in "$@"; do [ "$point" = "$writable" ] && continue 2; done
    mount -o "remount,bind,ro${options#rw}" "$point" 2>/dev/null || [ "$point" != / ]
done < /proc/self/mountinfo
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm 2>/dev/null || true
mount -t proc proc /proc
for setting in /proc/sys/net/bridge/bridge-nf-call-*tables; do
    [ ! -e "$setting" ] || echo 0 > "$setting"
done
ip link set lo up
echo ready; read _
"""

PREPARE_HOST = r"""
set -e
name=$1 disk=$2
shift 2
if [ -n "$disk" ]; then
    for top in etc var/lib; do
        layer=/run/disks/$name/$top
        mkdir -p "$layer/upper" "$layer/work"
        layers=lowerdir=/$top,upperdir=$layer/upper,workdir=$layer/work
        mount -t overlay overlay -o "$layers,userxattr" "/$top" 2>/dev/null ||
            mount -t overlay overlay -o "$layers" "/$top"
    done
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
hostname "$name"
for setting in /proc/sys/net/bridge/bridge-nf-call-*tables; do
    [ ! -e "$setting" ] || echo 0 > "$setting"
done
echo "0 0" > /proc/sys/net/ipv4/ping_group_range 2>/dev/null || true
ip link set lo up
exec "$@"
"""


class BedError(Exception):
    """The bed, or a command in it, failed; the message has what was run and what it printed."""


class Space:
    """Namespaces held by one process; commands are run inside them, and further spaces made inside them."""

    def __init__(self, name: str, holder: subprocess.Popen[str] | None, pid: int, depth: int) -> None:
        self.name = name
        self.holder = holder
        """The outside process whose end is the space's; its standard input is the pipe that keeps it. None where
        somebody inside the bed has made the space: it ends when that one lets it."""
        self.pid = pid
        """The space's first process, as numbered outside."""
        self.depth = depth
        """How many PID namespaces deep: the bed is 1, a host in it 2, a pod on that 3."""
        self._children: list[subprocess.Popen[str]] = []
        self.spaces: dict[str, Space] = {}

    def command(self, args: Sequence[str] | str) -> list[str]:
        """The command line that runs `args` (a string goes through a shell) inside."""
        inner = ["sh", "-c", args] if isinstance(args, str) else list(args)
        enter = ["nsenter", "--preserve-credentials", f"--target={self.pid}"]
        return [*enter, "--user", "--mount", "--net", "--pid", "--uts", "--", *inner]

    def path(self, inside: str) -> Path:
        """A file of the space as it is reached from outside; `inside` is absolute and goes through no link."""
        return Path(f"/proc/{self.pid}/root{inside}")

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
        process = subprocess.Popen(
            self.command(args),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(env),
            start_new_session=True,
        )
        # whatever interrupts this leaves the process to `close`: killing nsenter would orphan the command inside
        self._children.append(process)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        self._children.remove(process)
        done = subprocess.CompletedProcess(args, process.returncode, out, err)
        if check and done.returncode:
            shown = args if isinstance(args, str) else shlex.join(args)
            raise BedError(f"{self.name}: {shown}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(
        self,
        args: Sequence[str] | str,
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a process that is killed when the space closes. With `log`, both its outputs go there."""
        sink = log.open("a") if log else None
        try:
            child = subprocess.Popen(
                self.command(args),
                text=True,
                stdin=stdin,
                stdout=sink or subprocess.PIPE,
                stderr=subprocess.STDOUT if sink else subprocess.PIPE,
                env=environment(env),
                start_new_session=True,
            )
        finally:
            if sink:
                sink.close()
        self._children.append(child)
        return child

    def space(
        self, name: str, *, disk: bool = False, holder: Sequence[str] = HOLD, env: Mapping[str, str] | None = None
    ) -> Space:
        """Make a space inside this one: its own network, mount, PID and UTS namespaces, `lo` up, hostname set.

        `holder` is its first process: it says 'ready' on a line of its own and ends when its input closes.
        """
        unshare = ["unshare", "--kill-child", "--mount", "--pid", "--net", "--uts", "--fork"]
        disk_flag = "disk" if disk else ""
        held = _hold(self.command([*unshare, "sh", "-c", PREPARE_HOST, "sh", name, disk_flag, *holder]), env)
        # nsenter forks to enter the PID namespace, unshare to make one: nsenter, unshare, the holder
        space = Space(name, held, _child_of(_child_of(held.pid)), self.depth + 1)
        self.spaces[name] = space
        return space

    def link(self, left: Space, left_device: str, right: Space, right_device: str) -> None:
        """Join two spaces inside this one (or this one itself) by a veth pair, both ends up."""
        ends = [
            [device] if space is self else [device, "netns", str(self.number(space))]
            for space, device in ((left, left_device), (right, right_device))
        ]
        self.run(["ip", "link", "add", "name", *ends[0], "type", "veth", "peer", "name", *ends[1]])
        left.run(["ip", "link", "set", "dev", left_device, "up"])
        right.run(["ip", "link", "set", "dev", right_device, "up"])

    def number(self, space: Space) -> int:
        """The number of a space's first process in this one's PID namespace."""
        numbers = inner_numbers(space.pid)
        return numbers[len(numbers) - 1 - (space.depth - self.depth)]

    def kill(self) -> None:
        """End everything inside at once, as a power cut does, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """End everything inside."""
        if self.holder:
            if self.holder.stdin:
                with contextlib.suppress(BrokenPipeError):
                    self.holder.stdin.close()
            _reap(self.holder, GRACE, self.pid)
            if self.holder.stdout:
                self.holder.stdout.close()
        for space in self.spaces.values():
            space.close()
        for child in self._children:
            # what it ran inside is gone with the space, so it ends by itself
            _reap(child, GRACE, child.pid)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()


class Bed(Space):
    """The outermost space; `host` makes hosts in it, `link` joins two by a veth pair."""

    def __init__(self, *, writable: Sequence[Path] = ()) -> None:
        """Directories of the machine that stay writable inside: those named, and the one for temporary files."""
        open_paths = sorted({str(Path(tempfile.gettempdir()).resolve()), *(str(path.resolve()) for path in writable)})
        unshare = ["unshare", "--kill-child", "--user", "--map-root-user", "--mount", "--pid", "--net", "--uts"]
        held = _hold([*unshare, "--fork", "sh", "-c", PREPARE, "sh", *open_paths])
        super().__init__("bed", held, _child_of(held.pid), 1)
        self._released = False

    def host(self, name: str, *, disk: bool = False) -> Space:
        """Make a host: its own network, mount, PID and UTS namespaces, `lo` up, hostname set."""
        return self.space(name, disk=disk)

    @property
    def ended(self) -> bool:
        """Whether the outermost process is gone, and with it everything inside."""
        return self.holder is None or self.holder.poll() is not None

    def release(self) -> None:
        """Give the bed away: whoever holds its pipes decides from now on how long it lives, `close` ends nothing."""
        self._released = True

    def close(self) -> None:
        """End everything at once."""
        if self._released:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        super().close()

    def __enter__(self) -> Bed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment inside: the caller's, with the administrator's commands on the path, and `more`."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {**os.environ, "PATH": f"{path}:/usr/sbin:/sbin", **(more or {})}


def inner_numbers(pid: int) -> list[int]:
    """A process's numbers, from the reader's PID namespace inwards (proc(5), NSpid)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return [int(number) for number in line.split()[1:]]
    raise BedError(f"process {pid} has no NSpid")


def _hold(args: list[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        args,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(env),
        start_new_session=True,  # Ctrl-C is for the maker, which then ends all
    )
    assert holder.stdout
    assert holder.stderr
    if holder.stdout.readline() != "ready\n":
        said = holder.stderr.read()
        holder.kill()
        holder.wait()
        for stream in (holder.stdin, holder.stdout, holder.stderr):
            if stream:
                stream.close()
        raise BedError(f"namespaces can't be made: {said.strip()}")
    holder.stderr.close()
    return holder


def _reap(process: subprocess.Popen[str], grace: float, last_resort: int) -> None:
    """Wait for a process that is about to end; kill the one that keeps it when it doesn't within `grace` seconds."""
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        for pid in (last_resort, process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _child_of(pid: int, patience: float = 2) -> int:
    deadline = time.monotonic() + patience
    while True:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise BedError(f"process {pid} has ended") from error
        if children:
            return int(children[0])
        if time.monotonic() > deadline:
            raise BedError(f"process {pid} has no child")
        time.sleep(0.002)
