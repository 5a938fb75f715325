"""What a person sees: a terminal gets colours and a line that moves, anything else plain text, line by line.

Every line begins with the time since the start, so that a log of a run can be read as one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from e2e.demo.record import Step

PLAIN_WIDTH = 110


class Screen:
    """Writes to standard output, or to standard error where that is kept for a document."""

    def __init__(self, file: TextIO = sys.stdout) -> None:
        terminal = file.isatty()
        self.console = Console(file=file, width=None if terminal else PLAIN_WIDTH, highlight=False)
        self._terminal = terminal
        self._start = time.monotonic()
        self._expected = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def announce(self, title: str, text: str, seconds: float) -> None:
        """Say what comes and how long it takes."""
        self._expected = seconds
        self.console.print(f"[bold]{escape(title)}[/bold]\n{escape(text)}", soft_wrap=True)

    def drawing(self, text: str) -> None:
        self.console.print(f"[cyan]{escape(text)}[/cyan]")

    def heading(self, text: str) -> None:
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def say(self, text: str) -> None:
        self.console.print(escape(text), soft_wrap=True)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """While something is going on a terminal shows what, and how far the whole has come."""
        if not self._terminal:
            yield
            return
        with self.console.status(_Progress(self, what)):
            yield

    def progress(self) -> str:
        """How far the whole has come."""
        return f"{self.elapsed:.0f} s of about {self._expected:.0f} s"

    def step(self, step: Step) -> None:
        """One line for a step that has ended; a failed one with the process to blame and its last lines."""
        if not step.applies:
            mark, style = "-", "dim"
        elif step.ok:
            mark, style = "ok", "green"
        else:
            mark, style = "FAILED", "bold red"
        line = f"[dim]{self.elapsed:5.1f} s[/dim]  [{style}]{mark:<6}[/{style}] {escape(step.name)}"
        if step.detail:
            line += f": {escape(step.detail)}"
        self.console.print(line, soft_wrap=True)
        if step.process:
            self.console.print(f"               {escape(step.process)} said last:", soft_wrap=True)
            for last in step.last_lines:
                self.console.print(f"               | {escape(last)}", soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(title=title, title_justify="left", box=box.SIMPLE if self._terminal else box.ASCII2)
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.console.print(table)


class _Progress:
    """What is going on and for how long: asked anew each time the terminal's line moves."""

    def __init__(self, screen: Screen, what: str) -> None:
        self._screen = screen
        self._what = what

    def __rich__(self) -> Text:
        return Text.from_markup(f"{escape(self._what)}  [dim]{self._screen.progress()}[/dim]")
