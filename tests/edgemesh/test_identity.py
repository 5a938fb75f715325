"""The node's key and port: made once, never overwritten."""

import base64
import logging
import os
import stat
import subprocess
from pathlib import Path

import pytest

from edgemesh.identity import PORTS, IdentityError, load, print_meshnode
from sync.client.manifest import parse
from sync.resources.kinds import MeshNode


def test_made_once_and_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = load(str(state))
    assert load(str(state)) == first
    assert first.listen_port in PORTS
    assert len(first.private_key) == len(first.public_key) == 32
    assert sorted(path.name for path in state.iterdir()) == ["node.key", "node.port"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}
    assert load(str(tmp_path / "other")) != first


def test_wg_understands_the_key(tmp_path: Path) -> None:
    identity = load(str(tmp_path))
    result = subprocess.run(
        ["wg", "pubkey"], input=(tmp_path / "node.key").read_bytes(), capture_output=True, check=True, timeout=10
    )
    assert base64.b64decode(result.stdout) == identity.public_key


def test_private_key_is_not_shown(tmp_path: Path) -> None:
    identity = load(str(tmp_path))
    shown = repr(identity) + str(identity)
    assert base64.b64encode(identity.private_key).decode() not in shown
    assert repr(identity.private_key) not in shown


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("node.key", b"", "node.key is not a private key of 32 bytes in base64: restore it"),
        ("node.key", b"AAAA", "node.key is not a private key"),
        ("node.key", b"\xff" * 50, "node.key is not a private key"),
        ("node.port", b"", "node.port has no port from 1 to 65535"),
        ("node.port", b"0", "node.port has no port"),
        ("node.port", b"port", "node.port has no port"),
    ],
)
def test_corrupt_file_is_said_and_left(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    load(str(tmp_path))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IdentityError, match=text):
        load(str(tmp_path))
    assert (tmp_path / name).read_bytes() == content


def test_state_directory_that_cant_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match=r"or set commonConfig\.stateDir"):
        load(str(tmp_path / "file" / "state"))


def test_readable_key_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(str(tmp_path))
    (tmp_path / "node.key").chmod(0o644)
    with caplog.at_level(logging.WARNING):
        load(str(tmp_path))
    assert "could be read by others (mode 644)" in caplog.text
    assert stat.S_IMODE((tmp_path / "node.key").stat().st_mode) == 0o600


def test_readable_tls_key_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = tmp_path / "pki" / "node.key"
    key.parent.mkdir()
    key.write_text("of the node's certificate")
    key.chmod(0o640)
    with caplog.at_level(logging.WARNING):
        load(str(tmp_path))
    assert f"{key} could be read by others (mode 640)" in caplog.text
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_of_two_that_start_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = load(str(tmp_path / "other"))
    link = os.link

    def slower(draft: str, path: str) -> None:
        if path.endswith("node.key"):
            Path(path).write_bytes((tmp_path / "other" / "node.key").read_bytes())
        link(draft, path)

    monkeypatch.setattr(os, "link", slower)
    assert load(str(tmp_path)).private_key == other.private_key


def test_printed_meshnode_is_a_manifest(tmp_path: Path) -> None:
    identity = load(str(tmp_path))
    text = print_meshnode(
        "node-a",
        identity,
        addresses=["192.0.2.1"],
        relays=["198.51.100.1:20006"],
        mesh_addresses=["10.222.0.7"],
        pod_ranges=[],
    )
    (node,), problems = parse("node.yaml", text.encode())
    assert problems == []
    assert isinstance(node, MeshNode)
    assert base64.b64decode(node.spec.public_key) == identity.public_key
    assert (node.spec.listen_port, node.spec.addresses) == (identity.listen_port, ("192.0.2.1",))
    assert (node.status.mesh_addresses, node.status.pod_ranges) == (("10.222.0.7",), ())
    assert "such as 10.244.1.0/24" in text
