"""Plain text where there is no terminal."""

from __future__ import annotations

import io

import pytest

from e2e.demo.record import Step
from e2e.demo.screen import Screen
from tests.e2e.lab.test_namespaces import wait_until


def test_plain_text_has_no_control_characters_and_no_markup() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.announce("Title [x]", "text", 35)
    screen.drawing("[a1]---[b1]")
    with screen.working("something"):
        pass
    screen.step(Step("relay [killed]", ok=True, detail="fine " + "long " * 60))
    screen.step(Step("drop", ok=True, applies=False, detail="not applicable: x"))
    screen.step(Step("call", detail="no answer", process="b1-agent", last_lines=["ERROR [agent] gone"]))
    screen.table("Table", ("a", "b"), [("[1]", "2")])
    text = out.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    for wanted in ("Title [x]", "[a1]---[b1]", "ok     relay [killed]: fine", "-      drop", "FAILED call: no answer"):
        assert wanted in text
    assert "b1-agent said last:" in text
    assert "| ERROR [agent] gone" in text
    assert "[1]" in text
    # a step is one line, however long
    assert any("relay [killed]" in line and line.rstrip().endswith("long") for line in text.splitlines())


def test_a_terminal_is_shown_how_the_time_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    screen = Screen(out)
    screen.announce("Title", "text", 35)
    with screen.working("a long [step]"):
        wait_until(lambda: "0 s of about 35 s" in out.getvalue())
        screen._start -= 17
        wait_until(lambda: "17 s of about 35 s" in out.getvalue())
    assert "a long [step]" in out.getvalue()
