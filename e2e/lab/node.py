"""The first process of a node in the bed: supervises the node's processes, each started again a moment after its end.

What systemd is on a real node, and no more than that needs: the standard library's smallest parts, so that the
node's memory is its own processes'. It is run by path, as a program (`python -I -S node.py`), imports nothing of
the project, and is driven by one JSON object a line on its standard input, each answered by one on standard output:

    {"start": NAME, "args": [...], "env": {...}, "log": PATH, "again": SECONDS}   starts and keeps running
    {"kill": NAME}            SIGKILL; it comes back so many seconds later
    {"stop": NAME}            SIGKILL; it stays away until started again
    {"state": ""}             changes nothing

The answer is the state of all: {NAME: {"pid", "starts", "status", "args"}}, pid 0 while it isn't running, numbers as
the node's own PID namespace has them, status of the last end as waitpid(2) has it, None before the first.
It ends, and with it everything on the node, when its standard input closes. As the namespace's first process it
also reaps what others leave behind.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time


class Supervisor:
    """The node's processes; `due` has the times at which ended ones are started again."""

    def __init__(self) -> None:
        self.specs: dict[str, dict] = {}  # type: ignore[type-arg]  # as they came in JSON
        self.running: dict[int, str] = {}
        self.starts: dict[str, int] = {}
        self.status: dict[str, int] = {}
        self.due: dict[str, float] = {}

    def obey(self, order: dict) -> dict:  # type: ignore[type-arg]
        """Carry out one order and give the state of all."""
        if name := order.get("start"):
            self.specs[name] = order
            if name not in self.running.values():
                self.launch(name)
        elif name := order.get("kill") or order.get("stop"):
            if "stop" in order:
                self.specs.pop(name, None)
                self.due.pop(name, None)
            for pid in [pid for pid, running in self.running.items() if running == name]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                if "stop" in order:
                    # the answer means that it is gone
                    self.ended(*os.waitpid(pid, 0))
        return self.state()

    def state(self) -> dict:  # type: ignore[type-arg]
        pids = {name: pid for pid, name in self.running.items()}
        return {
            name: {
                "pid": pids.get(name, 0),
                "starts": self.starts.get(name, 0),
                "status": self.status.get(name),
                "args": self.specs.get(name, {}).get("args", []),
            }
            for name in {*self.specs, *pids, *self.starts}
        }

    def launch(self, name: str) -> None:
        spec = self.specs[name]
        self.due.pop(name, None)
        self.starts[name] = self.starts.get(name, 0) + 1
        pid = os.fork()
        if pid:
            self.running[pid] = name
            return
        try:
            os.setsid()
            log = os.open(spec["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for target, source in ((0, os.open("/dev/null", os.O_RDONLY)), (1, log), (2, log)):
                os.dup2(source, target)
            os.execvpe(spec["args"][0], spec["args"], {**os.environ, **spec.get("env", {})})
        except BaseException as error:
            os.write(2, f"{name} can't be started: {error}\n".encode())
        finally:
            os._exit(127)

    def ended(self, pid: int, status: int) -> None:
        name = self.running.pop(pid, None)
        if name is None:
            return
        self.status[name] = status
        if name in self.specs:
            again = self.specs[name]["again"]
            self.due[name] = time.monotonic() + again
            with contextlib.suppress(OSError), open(self.specs[name]["log"], "a") as log:
                how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
                log.write(f"--- node: {name} ended ({how}), starts again in {again:g} s\n")

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self.ended(pid, status)

    def wait(self) -> float | None:
        """Seconds until the next start that is due, None when none is."""
        return max(0.0, min(self.due.values()) - time.monotonic()) if self.due else None

    def start_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, due in self.due.items() if due <= now]:
            self.launch(name)


def main() -> None:
    wake_out, wake_in = os.pipe()
    for end in (wake_out, wake_in):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_in)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    supervisor = Supervisor()
    print("ready", flush=True)
    buffer = b""
    while True:
        readable, _, _ = select.select([0, wake_out], [], [], supervisor.wait())
        if wake_out in readable:
            os.read(wake_out, 4096)
        supervisor.reap()
        supervisor.start_due()
        if 0 not in readable:
            continue
        data = os.read(0, 65536)
        if not data:
            sys.exit(0)
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            print(json.dumps(supervisor.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
