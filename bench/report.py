"""What a benchmark gives: figures, targets, and the machine they are from; as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it should be; `value` is None when it could not be measured (a missing peer), then not met."""

    name: str
    value: float | None
    target: str
    met: bool


def at_least(name: str, value: float | None, bound: float, unit: str = "") -> Target:
    """A target that the value must reach."""
    return Target(name, value, f">= {bound:g}{unit}", value is not None and value >= bound)


def at_most(name: str, value: float | None, bound: float, unit: str = "") -> Target:
    """A target that the value must not exceed."""
    return Target(name, value, f"<= {bound:g}{unit}", value is not None and value <= bound)


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's figures: a row a thing measured, every row with the same columns."""

    name: str
    machine: str
    rows: Sequence[Mapping[str, Cell]]
    targets: Sequence[Target] = field(default_factory=tuple)

    def to_json(self) -> str:
        """A JSON object whose last key is `targets`."""
        targets = [
            {"name": each.name, "value": each.value, "target": each.target, "met": each.met} for each in self.targets
        ]
        whole = {"name": self.name, "machine": self.machine, "rows": list(map(dict, self.rows)), "targets": targets}
        return json.dumps(whole, indent=2)

    def show(self, console: Console) -> None:
        """Print figures and targets as tables."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        figures = Table(*columns, title=f"{self.name}, on {self.machine}", title_justify="left")
        for row in self.rows:
            figures.add_row(*(_shown(row.get(column)) for column in columns))
        console.print(figures)
        goals = Table("target", "value", "wanted", "met")
        for each in self.targets:
            goals.add_row(each.name, _shown(each.value), each.target, "yes" if each.met else "[bold red]no[/]")
        console.print(goals)


def _shown(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def machine() -> str:
    """The machine in a line: processor, cores, memory, kernel."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, Linux {platform.release()}"
