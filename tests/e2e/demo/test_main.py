"""The command line."""

from __future__ import annotations

import json

import pytest

from e2e.demo import __main__ as command
from e2e.lab import preflight
from e2e.lab.routers import TERMS, Nat


def test_the_help_says_the_terms_of_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for kind in Nat:
        assert f"{kind:<16} {TERMS[kind]}" in text
    assert "RFC 4787" in text


def test_the_default_is_port_restricted() -> None:
    given = command.parser().parse_args([])
    assert (given.nat_a, given.nat_b) == (Nat.PORT_RESTRICTED, Nat.PORT_RESTRICTED)


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--nat-a", "conical"])
    assert ended.value.code == 2
    assert "port-restricted" in capsys.readouterr().err


def test_an_obstacle_is_one_sentence_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "problem", lambda: "there is no tun: make one.")
    assert command.main([]) == 1
    assert capsys.readouterr() == ("", "edgemesh demo: there is no tun: make one.\n")
    assert command.main(["--json"]) == 1
    out, err = capsys.readouterr()
    assert err == "edgemesh demo: there is no tun: make one.\n"
    document = json.loads(out)
    assert document["ok"] is False
    assert [(step["ok"], step["detail"]) for step in document["steps"]] == [(False, "there is no tun: make one.")]
    assert document["calls"] == document["faults"] == []


def test_ctrl_c_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preflight, "problem", lambda: "")
    monkeypatch.setattr(command, "show", interrupted)
    assert command.main([]) == 130
    assert "nothing of it is left" in capsys.readouterr().err
