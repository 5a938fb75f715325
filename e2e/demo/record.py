"""What a demo has shown: steps, calls and faults as they come, and the one document that `--json` prints.

A step that the pair of routers rules out is kept with `applies` false: it counts as ok and its detail begins with
'not applicable'. A failed step names the process that is to blame and its last lines.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


class Failure(Exception):
    """A step did not show what it must; `process` is NODE-PROCESS as its log file is named, where one is to blame."""

    def __init__(self, message: str, process: str = "") -> None:
        super().__init__(message)
        self.process = process


@dataclass
class Step:
    """One thing shown; `ms` is the time it took, `detail` a line for a person."""

    name: str
    ok: bool = False
    ms: float = 0.0
    detail: str = ""
    applies: bool = True
    process: str = ""
    last_lines: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"name": self.name, "ok": self.ok, "ms": round(self.ms, 1), "detail": self.detail}
        if self.process:
            shown |= {"process": self.process, "last_lines": self.last_lines}
        return shown


@dataclass
class Call:
    """One call by name; times in milliseconds, None where the call has no such part.

    `endpoint` is the address that the caller's conntrack has; `path` how its node is reached: `direct`, `relayed`,
    `lan`, or `local` for an endpoint on the caller's own node.
    """

    name: str
    ok: bool
    caller: str
    question: str
    answers: list[str] = field(default_factory=list)
    endpoint: str = ""
    node: str = ""
    path: str = ""
    name_ms: float | None = None
    connect_ms: float | None = None
    answer_ms: float | None = None
    ms: float | None = None
    round_trip_ms: float | None = None
    error: str = ""


@dataclass
class Fault:
    """One thing broken while bytes moved; `path` is what they moved over when it broke.

    `bytes_during` came while it was broken, `bytes_after` once it was whole again; `longest_gap_ms` is the longest
    time between two reads; `recovery_ms` the time until what broke was back or another path had taken over.
    """

    name: str
    ok: bool
    path: str
    bytes_during: int = 0
    bytes_after: int = 0
    longest_gap_ms: float | None = None
    allowed_gap_ms: float | None = None
    recovery_ms: float | None = None
    error: str = ""


@dataclass
class Record:
    """Everything of one run."""

    nat_a: str
    nat_b: str
    steps: list[Step] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    measured: dict[str, float | None] = field(default_factory=dict)
    logs: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all of it worked."""
        failed = [step for step in self.steps if not step.ok]
        return bool(self.steps) and not failed and all(c.ok for c in self.calls) and all(f.ok for f in self.faults)

    def document(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "nat": {"a": self.nat_a, "b": self.nat_b},
            "seconds": round(self.seconds, 1),
            "logs": self.logs,
            "steps": [step.document() for step in self.steps],
            "calls": [_rounded(asdict(call)) for call in self.calls],
            "faults": [_rounded(asdict(fault)) for fault in self.faults],
            "measured": _rounded(self.measured),
        }

    def json(self) -> str:
        return json.dumps(self.document(), indent=2)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 2) if isinstance(value, float) else value for key, value in values.items()}
