"""Runs and what is kept of them: their logs, and with `--keep` the bed itself, until `edgemesh demo down`.

Every run has a directory under `${XDG_CACHE_HOME:-~/.cache}/edgemesh/demo` with the logs of all its processes and the
manifests; the last ten stay. A kept bed is held by a process that does nothing but keep its pipes open: once it ends,
all inside ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.caller import HOST_RESOLV_CONF, ON_NODE
from e2e.lab.cluster import KUBECTL_ENVIRONMENT
from e2e.lab.kubelet import SOCKET, ask
from e2e.lab.namespaces import BedError, Space, environment, inner_numbers
from e2e.lab.topology import ADMIN, CLOUD, ENVIRONMENT, PLACES, descendants

KEEP_RUNS = 10
FILE = "kept.json"
NODES = tuple(place.name for place in PLACES)


def runs() -> Path:
    """The directory of all runs; one for temporary files where the user's cache can't be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgemesh" / "demo"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if os.access(cache, os.W_OK):
            return cache
    except OSError:
        pass
    fallback = Path(tempfile.gettempdir()) / f"edgemesh-demo-{os.geteuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    if fallback.lstat().st_uid != os.geteuid():  # files in it say which process to end
        raise BedError(f"{fallback} is another user's: remove it, or set XDG_CACHE_HOME to a directory of your own")
    return fallback


def new_run() -> Path:
    """A fresh directory for a run's logs; the oldest runs that are not kept are removed."""
    parent = runs()
    finished = [path for path in parent.iterdir() if path.is_dir() and not (path / FILE).exists()]
    finished.sort(key=lambda path: path.stat().st_mtime)
    for old in finished[: -KEEP_RUNS + 1]:
        if time.time() - old.stat().st_mtime > 600:  # a run that goes on side by side is younger
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=parent))


@dataclass(frozen=True)
class Kept:
    """A bed that goes on after its demo: its keeper, and the first processes of its spaces by name."""

    run: Path
    keeper: int
    born: int
    spaces: dict[str, int]

    @property
    def alive(self) -> bool:
        return _born(self.keeper) == self.born


def keep(run: Path, bed: Space) -> Kept:
    """Hand a bed over to a keeper; the caller may end after that."""
    spaces = dict(_walk(bed))
    pipes = [space.holder.stdin.fileno() for space in spaces.values() if space.holder and space.holder.stdin]
    keeper = subprocess.Popen(
        ["sleep", "infinity"],
        pass_fds=pipes,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    kept = Kept(run, keeper.pid, _born(keeper.pid), {name: space.pid for name, space in spaces.items()})
    (run / FILE).write_text(json.dumps({"keeper": kept.keeper, "born": kept.born, "spaces": kept.spaces}))
    return kept


def _walk(space: Space) -> list[tuple[str, Space]]:
    found = [(space.name, space)]
    for inner in space.spaces.values():
        if inner.holder:  # a pod has none, and may be another one later
            found += _walk(inner)
    return found


def all_kept() -> list[Kept]:
    """The kept beds that are still there, oldest first; files of others are removed."""
    found = []
    for file in sorted(runs().glob(f"*/{FILE}")):
        with suppress(OSError, ValueError, KeyError):
            content = json.loads(file.read_text())
            kept = Kept(file.parent, content["keeper"], content["born"], content["spaces"])
            if kept.alive:
                found.append(kept)
            else:
                file.unlink()
    return found


def down() -> int:
    """End all kept beds of this user; exit status."""
    beds = all_kept()
    for kept in beds:
        with suppress(ProcessLookupError):
            os.kill(kept.keeper, signal.SIGKILL)
        (kept.run / FILE).unlink(missing_ok=True)
        print(f"The demo of {kept.run.name} has ended; its logs are in {kept.run}")
    if not beds:
        print("No demo is kept: 'edgemesh demo --keep' leaves one running.")
    return 0


def enter(node: str, command: Sequence[str]) -> int:
    """Become a shell (or a command) on a node or in a pod of the newest kept bed; the exit status is its own."""
    beds = all_kept()
    if not beds:
        print("No demo is kept: start one with 'edgemesh demo --keep'.", file=sys.stderr)
        return 1
    spaces = {**_pods(beds[-1]), **beds[-1].spaces}
    pid = spaces.get(node)
    if pid is None:
        print(f"There is no {node} in the demo; there are {', '.join(sorted(spaces))}.", file=sys.stderr)
        return 1
    where = ["nsenter", "--preserve-credentials", f"--target={pid}", "--user", "--mount", "--net", "--pid", "--uts"]
    shell = [*command] if command else ["sh", "-i"]
    is_node = node in NODES
    inside = ["unshare", "--mount", "sh", "-c", ON_NODE, "sh", HOST_RESOLV_CONF, *shell] if is_node else shell
    env = environment(ENVIRONMENT)
    if node == CLOUD.name and Path(f"/proc/{pid}/root{ADMIN}").exists():
        env |= KUBECTL_ENVIRONMENT
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    env["PS1"] = f"{node}# "
    return subprocess.run([*where, "--", *inside], env=env).returncode


def _pods(kept: Kept) -> dict[str, int]:
    """The first processes of the pods that run now, by name, as the nodes' kubelets have them."""
    found = {}
    for name in NODES:
        holder = kept.spaces.get(name, 0)
        with suppress(OSError, ValueError):
            states = ask(Path(f"/proc/{holder}/root{SOCKET}"), {"state": ""})
            depth = len(inner_numbers(holder))
            numbers = {inner_numbers(pid)[depth - 1]: pid for pid in descendants(holder)}
            found.update({pod.partition("/")[2]: numbers.get(state["pid"], 0) for pod, state in states.items()})
    return {pod: pid for pod, pid in found.items() if pid}


def _born(pid: int) -> int:
    """When a process started, in ticks since boot (proc(5), field 22): a number used again isn't the same process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return 0
