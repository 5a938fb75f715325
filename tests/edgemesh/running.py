"""The program's roles as real processes on a host of a private bed, with an ordinary machine's paths."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from e2e.lab.namespaces import Bed, Space
from edgemesh import status

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}
CONFIG = "/etc/edgemesh/config/edgemesh-agent.yaml"
MANIFESTS = "/etc/edgemesh/manifests"
STATE = "/var/lib/edgemesh"
TABLE = "edgemesh"


def command(*args: str) -> list[str]:
    """The command line of a role or a question."""
    return [sys.executable, "-m", "edgemesh", *args]


class Role:
    """One running process; `said` is all that it has written so far."""

    def __init__(self, space: Space, args: Sequence[str], log: Path) -> None:
        self._space = space
        self._log = log
        self._number = log.with_suffix(".pid")
        # what is started here is nsenter, which waits for it: signals are for the process inside
        inside = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(self._number), *args]
        self.process = space.popen(inside, log=log, env=ENVIRONMENT)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def says(self, text: str, within: float = 10) -> None:
        """Wait until it has said something."""
        until(lambda: text in self.said or self.process.poll() is not None, within, f"{text!r}", lambda: self.said)
        assert text in self.said, self.said

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._space.run(["kill", f"-{int(number)}", self._number.read_text().strip()])

    def ends(self, within: float = 10) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(within)


class Host:
    """A host of the bed and what is run on it."""

    def __init__(self, bed: Bed, name: str, logs: Path) -> None:
        self.name = name
        self.space: Space = bed.host(name, disk=True)
        self.logs = logs
        self._started = 0
        self.space.run(f"mkdir -p {MANIFESTS} {STATE}; rm -f /etc/resolv.conf; : > /etc/resolv.conf")

    def path(self, inside: str) -> Path:
        """A file of the host as the test sees it."""
        return self.space.path(inside)

    def write(self, name: str, text: str) -> None:
        """Rename a file of manifests into its place."""
        draft = self.path(MANIFESTS) / f".{name}"
        draft.write_text(text)
        draft.rename(self.path(MANIFESTS) / name)

    def start(self, *args: str, before: Sequence[str] = ()) -> Role:
        """Start a role; `before` is the command that starts it, such as setpriv."""
        self._started += 1
        log = self.logs / f"{self.name}-{args[0]}-{self._started}.log"
        return Role(self.space, [*before, *command(*args)], log)

    def agent(self, *args: str) -> Role:
        """Start the agent with the host's manifests, under the host's name."""
        return self.start("agent", "--manifests", MANIFESTS, "--node-name", self.name, *args)

    def run(self, *args: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command of the program to its end."""
        return self.space.run([*before, *command(*args)], check=False, env=ENVIRONMENT)

    def status(self) -> dict[str, Any]:
        """What `edgemesh status --json` shows, asked without a process of its own; empty while there is no agent."""
        try:
            answer: dict[str, Any] = msgspec.to_builtins(status.ask(self.path("/run/edgemesh/agent.sock")))
        except status.StatusError:
            return {}
        return answer

    def rules(self) -> str:
        """The kernel's table."""
        return self.space.run(["nft", "list", "table", "ip", TABLE], check=False).stdout

    def mesh_node(self, *args: str) -> str:
        """This host's MeshNode as its own program prints it."""
        done = self.run("agent", "--print-meshnode", "--node-name", self.name, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout


def until(condition: Callable[[], object], within: float, what: str, told: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition; fails when it takes longer than that many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}\n{told()}"
        time.sleep(0.03)


async def eventually(condition: Callable[[], object], within: float = 10) -> None:
    """Wait for a condition on trio's clock, virtual or real."""
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110  # what it looks at has no event
            await trio.sleep(0.005)
