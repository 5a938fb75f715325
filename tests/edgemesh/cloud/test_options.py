"""What the cloud refuses to start with; nothing is made then."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh import cli


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str, status: int = 2) -> str:
    """What is said. The state directory, which is not there, is not made."""
    state = folder / "state"
    assert cli.main(["cloud", "--state-dir", str(state), *words]) == status
    assert not state.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ((), "--ca-cert and --ca-key"),
        (("--ca-cert", "ca.crt"), "--ca-key"),
        (("--ca-key", "ca.key"), "--ca-cert"),
    ],
)
def test_a_cluster_that_is_there_has_a_ca(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], missing: str
) -> None:
    said = refused(capsys, tmp_path, "--kubeconfig", "k", *words)
    assert f"--kubeconfig needs {missing}, too" in said
    assert "/etc/kubernetes/pki/ca.crt" in said


def test_a_ca_is_not_for_an_api_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name its --kubeconfig" in refused(capsys, tmp_path, "--ca-cert", "ca.crt", "--ca-key", "ca.key")


def test_a_kubeconfig_is_looked_at_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signer = ("--ca-cert", "ca.crt", "--ca-key", "ca.key")
    assert "/nope: can't be read" in refused(capsys, tmp_path, "--kubeconfig", "/nope", *signer, status=1)


def test_authorities_too_many_for_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "all.crt").write_text("x" * 40000)
    file = tmp_path / "kubeconfig"
    file.write_text(
        "current-context: c\nclusters: [{name: c, cluster: {server: 'https://h', certificate-authority: all.crt}}]\n"
        "contexts: [{name: c, context: {cluster: c}}]\n"
    )
    words = ("--kubeconfig", str(file), "--ca-cert", "ca.crt", "--ca-key", "ca.key")
    assert "40000 bytes" in refused(capsys, tmp_path, *words, status=1)
