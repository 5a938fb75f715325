"""The outside end of a client in the bed (`calls.py` is the inside one): calls by name, flows, and conntrack's word.

A `Caller` stands in a pod, or on a node, there with the cluster's resolver, as a host-network Pod of the DNS policy
`ClusterFirstWithHostNet` has it.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.lab.namespaces import BedError, Space
from e2e.lab.topology import RESOLVER, Node
from e2e.lab.workloads import Pod

Answer = dict[str, Any]

HOST_RESOLV_CONF = f"""\
nameserver {RESOLVER}
search default.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
"""

ON_NODE = """
set -e
printf %s "$1" > /run/resolv.conf
shift
mount --bind /run/resolv.conf /etc/resolv.conf
exec "$@"
"""


TRY_EVERY = 0.05
"""Seconds between the starts of two tries."""


class Caller:
    """A client process in a pod or on a node; every call is answered, with `ok` false when it failed."""

    def __init__(self, place: Pod | Node) -> None:
        self.node = place if isinstance(place, Node) else place.node
        program = [os.path.realpath(sys.executable), "-I", "-S", str(Path(__file__).with_name("calls.py"))]
        if isinstance(place, Node):
            self.name = f"{place.name} (host network)"
            space = place.space
            program = ["unshare", "--mount", "sh", "-c", ON_NODE, "sh", HOST_RESOLV_CONF, *program]
        else:
            self.name = f"{place.name} on {place.node.name}"
            assert place.space
            space = place.space
        log = self.node.logs / f"{self.node.name}-caller.log"
        self._process = self._start(space, program, log)
        self._waiting: dict[int, queue.SimpleQueue[Answer]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @staticmethod
    def _start(space: Space, program: list[str], log: Path) -> subprocess.Popen[str]:
        return space.popen(["sh", "-c", 'exec "$@" 2>> "$0"', str(log), *program], stdin=subprocess.PIPE)

    def _read(self) -> None:
        assert self._process.stdout
        try:
            for line in self._process.stdout:
                answer = json.loads(line)
                self._waiting.pop(answer["id"]).put(answer)
        except ValueError:
            pass  # the space has closed its end
        for waiting in list(self._waiting.values()):
            waiting.put({"ok": False, "error": f"the client in {self.name} has ended"})

    def call(self, do: str, *, timeout: float = 3, **order: Any) -> Answer:
        """Carry out one order of `calls.py`."""
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._send(answers, do, timeout, order)
        try:
            return answers.get(timeout=timeout + 10)
        except queue.Empty:
            return {"ok": False, "error": f"the client in {self.name} does not answer"}

    def until_ok(self, do: str, patience: float, *, timeout: float = 1, **order: Any) -> Answer:
        """Try until it is ok, at most `patience` seconds; `after_ms` is the time it took.

        A try begins every 50 ms and waits for no other: a query that was lost would else hold all up for the 5 s
        that the C library waits before it asks again.
        """
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        answer: Answer = {"ok": False, "error": "no try has ended"}
        start = time.monotonic()
        while not answer["ok"] and time.monotonic() - start < patience:
            self._send(answers, do, timeout, order)
            next_try = time.monotonic() + TRY_EVERY
            while not answer["ok"] and (left := next_try - time.monotonic()) > 0:
                try:
                    answer = answers.get(timeout=left)
                except queue.Empty:
                    break
        return {**answer, "after_ms": (time.monotonic() - start) * 1000}

    def _send(self, answers: queue.SimpleQueue[Answer], do: str, timeout: float, order: dict[str, Any]) -> None:
        number = next(self._ids)
        self._waiting[number] = answers
        assert self._process.stdin
        try:
            with self._lock:
                self._process.stdin.write(json.dumps({"id": number, "do": do, "timeout": timeout, **order}) + "\n")
                self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            answers.put({"ok": False, "error": f"the client in {self.name} has ended"})

    def flow(self, name: str, kind: str, host: str, port: int, path: str = "/") -> Flow:
        """Begin a flow of bytes; raises BedError when it can't be opened."""
        answer = self.call("open", flow=name, kind=kind, name=host, port=port, path=path, timeout=5)
        if not answer["ok"]:
            raise BedError(f"{self.name}: the flow to {host}:{port} can't be opened: {answer['error']}")
        return Flow(self, name)

    def endpoint(self, protocol: str, answer: Answer) -> str:
        """The endpoint that the node's conntrack has chosen for a finished call's connection, as address:port."""
        source, port = answer["source"]
        command = ["conntrack", "-L", "-p", protocol, "--orig-src", source, "--orig-port-src", str(port)]
        listed = self.node.space.run(command, check=False).stdout
        tuples = re.findall(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)", listed)
        # the reply's source is who was really spoken to
        return f"{tuples[1][0]}:{tuples[1][2]}" if len(tuples) > 1 else ""


@dataclass(frozen=True)
class Flow:
    """A flow of a caller's; see `calls.py` for what its state has."""

    caller: Caller
    name: str

    def state(self, *, mark: bool = False) -> Answer:
        return self.caller.call("flow", flow=self.name, mark=mark)

    def moves(self, count: int = 4096, patience: float = 5) -> bool:
        """Whether `count` more bytes come within `patience` seconds."""
        deadline = time.monotonic() + patience
        first = self.state()
        last = first
        while last.get("bytes", 0) < first.get("bytes", 0) + count:
            if not last["ok"] or last["broken"] or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
            last = self.state()
        return True

    def shut(self) -> Answer:
        return self.caller.call("shut", flow=self.name)
