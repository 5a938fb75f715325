"""Figures as tables and JSON, the peers' cache, and what counts as met."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import dns, peers
from bench.__main__ import main
from bench.report import Cell, Report, Target, at_least, at_most, machine


def test_targets() -> None:
    assert at_least("rate", 1.5, 1.5) == Target("rate", 1.5, ">= 1.5", True)
    assert not at_least("rate", 1.49, 1.5).met
    assert at_most("start", 150.0, 150, " ms") == Target("start", 150.0, "<= 150 ms", True)
    assert not at_most("start", 151.0, 150).met
    assert at_most("peer is missing", None, 1) == Target("peer is missing", None, "<= 1", False)


def test_json_and_table() -> None:
    rows: list[dict[str, Cell]] = [{"server": "ours", "q/s": 123456, "cost": 5.5}, {"server": "theirs", "q/s": None}]
    report = Report("dns", "a machine", rows, [at_least("rate", None, 2)])
    document = json.loads(report.to_json())
    assert list(document)[-1] == "targets"
    assert document["targets"] == [{"name": "rate", "value": None, "target": ">= 2", "met": False}]
    assert document["rows"] == rows
    out = io.StringIO()
    report.show(Console(file=out, width=100))
    assert "123,456" in out.getvalue()
    assert "5.50" in out.getvalue()


def test_machine() -> None:
    assert "cores" in machine()
    assert "Linux" in machine()


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(quick: bool, say: object) -> Report:
        assert callable(say)
        say("measuring")
        return Report("dns", "m", [{"quick": quick}], [at_least("x", 1, 2)])

    monkeypatch.setattr(dns, "measure", measure)
    assert main(["dns", "--quick", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["rows"] == [{"quick": True}]
    assert "measuring" in said.err
    with pytest.raises(SystemExit):
        main(["nonsense"])


def test_peers_that_are_missing_and_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "GO_BIN", tmp_path / "go")
    monkeypatch.setattr(peers, "DEBS", tmp_path / "debs")
    assert peers.find("coredns") is None
    assert peers.find("unbound") is None
    for path in ("go/coredns", "debs/usr/sbin/unbound", "debs/usr/lib/x/liby.so.1"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert peers.find("coredns") == peers.Peer(tmp_path / "go/coredns")
    unbound = peers.find("unbound")
    assert unbound is not None
    assert unbound.env == {"LD_LIBRARY_PATH": str(tmp_path / "debs/usr/lib/x")}


def test_the_worse_of_with_and_without_edns_counts() -> None:
    ours = dns.Server("edgemesh", 1, [])
    theirs = dns.Server("coredns", 2, [])
    for server, rates, costs in ((ours, (200.0, 100.0), (4.0, 6.0)), (theirs, (100.0, 100.0), (10.0, 10.0))):
        for edns in (False, True):
            server.rates[edns] = [rates[edns]]
            server.costs[edns] = [costs[edns]]
    found = {each.name: each for each in dns.targets([ours, theirs], 90.0)}
    assert found["questions a second / CoreDNS"].value == 1.0
    assert found["CPU a question / CoreDNS"].value == 0.6
    assert found["CPU a question / unbound"].value is None
    assert found["exec of the resolver to its first answer"].met


def test_questions() -> None:
    lines = dns.questions().splitlines()
    absent = sum(line.lower().startswith("absent-") for line in lines)
    assert len(lines) == dns.QUESTIONS
    assert 0.09 < absent / len(lines) < 0.11
    assert any(line != line.lower() for line in lines)
    assert sys.getsizeof(dns.table(10)) < 5000
