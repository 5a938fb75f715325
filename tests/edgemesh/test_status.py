"""What an agent says of itself, over the socket and for a person."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgemesh import status
from edgemesh.status import (
    ApiStatus,
    EngineStatus,
    PeerStatus,
    ResolverStatus,
    ServiceStatus,
    Status,
    StatusError,
    UpstreamStatus,
)

NOW = 1_800_000_000.0
HEALTHY = Status(
    node="b1",
    healthy=True,
    since=NOW - 200,
    mesh_address="10.222.0.4",
    pod_range="10.244.4.0/24",
    identity="from manifests",
    peers=(
        PeerStatus("a1", "direct", "192.0.2.10:40123", 1.25, NOW - 30, 5_000_000, 1_200, "segments of AES-256-GCM x47"),
        PeerStatus("ship-in-the-north-sea", "none", reason="no answer from it by any way that is known"),
    ),
    services=ServiceStatus(6, 9),
    resolver=ResolverStatus(True, 31, 12, (UpstreamStatus("198.18.0.53", True), UpstreamStatus("192.0.2.1", False))),
    engine=EngineStatus(True, 40001, (425_984, 8 << 20)),
    source="manifests in /etc/edgemesh/manifests",
    problems=("manifest a.yaml:3: spec.ports: [red]is wrong[/red]",),
    notices=("agent.yaml:4: modules.edgeTunnel.psk has no effect: each node has a key of its own",),
)


@pytest.mark.parametrize("columns", ["20", "80", "400"])
def test_a_person_is_shown_everything_whole(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    status.show(HEALTHY, NOW)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "b1: healthy, up 3 min; mesh 10.222.0.4, pods 10.244.4.0/24"
    row = next(line for line in lines if line.startswith("a1 "))
    for text in (
        "direct",
        "192.0.2.10:40123",
        "1.25 ms",
        "30 s ago",
        "4.8 MiB",
        "1.2 KiB",
        "segments of AES-256-GCM x47",
    ):
        assert text in row
    assert any("ship-in-the-north-sea" in line and "never" in line for line in lines)
    assert "services: 6 ports, 9 endpoints" in lines
    assert "resolver: 31 names, 12 questions; upstreams 198.18.0.53 (ok), 192.0.2.1 (failing)" in lines
    assert "engine: port 40001, buffers receive 416.0 KiB, send 8.0 MiB" in lines
    assert "problem: manifest a.yaml:3: spec.ports: [red]is wrong[/red]" in lines
    assert f"notice: {HEALTHY.notices[0]}" in lines
    assert "…" not in shown


def test_ill_and_empty(capsys: pytest.CaptureFixture[str]) -> None:
    ill = msgspec.structs.replace(
        HEALTHY,
        healthy=False,
        peers=(),
        mesh_address="",
        pod_range="",
        resolver=ResolverStatus(False),
        engine=EngineStatus(False),
    )
    status.show(ill, NOW)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "b1: not healthy, up 3 min; mesh none, pods none"
    assert "resolver: no answer from it" in lines
    assert "engine: no answer from it" in lines
    assert not any("round trip" in line for line in lines)


def test_an_api_as_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    shown = msgspec.structs.replace(
        HEALTHY, source="the API at https://api.example", api=ApiStatus("https://api.example", True, NOW - 60)
    )
    status.show(shown, NOW)
    assert "objects: the API at https://api.example, followed for 60 s" in capsys.readouterr().out.splitlines()
    away = msgspec.structs.replace(shown, api=ApiStatus("https://api.example", False, NOW - 600, "Connection refused"))
    status.show(away, NOW)
    lines = capsys.readouterr().out.splitlines()
    assert f"objects: {away.source}, not followed for 10 min (Connection refused): what was known is served" in lines
    assert msgspec.convert(json.loads(status.to_json(away)), Status) == away


def test_json_is_all_of_it() -> None:
    document = json.loads(status.to_json(HEALTHY))
    assert msgspec.convert(document, Status) == HEALTHY
    assert document["version"] == status.VERSION


def answering(path: Path, answer: Callable[[socket.socket], None]) -> threading.Thread:
    """A thread that answers one connection."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_asked_over_a_socket(tmp_path: Path) -> None:
    thread = answering(tmp_path / "sock", lambda connection: connection.sendall(status.encode(HEALTHY)))
    assert status.ask(tmp_path / "sock") == HEALTHY
    thread.join()


@pytest.mark.parametrize("document", [b"", b"\x80", b"garbage", status.encode(HEALTHY)[:-9], b"\xa1\xff"])
def test_not_a_status(tmp_path: Path, document: bytes) -> None:
    thread = answering(tmp_path / "sock", lambda connection: connection.sendall(document))
    with pytest.raises(StatusError, match="of another version"):
        status.ask(tmp_path / "sock")
    thread.join()


def _mute(connection: socket.socket) -> None:
    connection.recv(1)


def test_no_answer_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "TIMEOUT", 0.05)
    thread = answering(tmp_path / "sock", _mute)
    with pytest.raises(StatusError, match=r"does not answer within 0\.05 s"):
        status.ask(tmp_path / "sock")
    thread.join()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(StatusError, match=r"sock does not exist. Start it: edgemesh agent"):
        status.ask(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "sock"))
    with pytest.raises(StatusError, match=r"nobody listens on .*sock. Start it: edgemesh agent"):
        status.ask(tmp_path / "sock")


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (119.4, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_age(seconds: float, text: str) -> None:
    assert status.age(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")]
)
def test_size(count: int, text: str) -> None:
    assert status.size(count) == text
