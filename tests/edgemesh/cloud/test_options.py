"""What the cloud refuses to start with; nothing is made then."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgemesh import authority, cli
from edgemesh.cloud.options import read


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: str, status: int = 2) -> str:
    """What is said. The state directory, which is not there, is not made."""
    state = folder / "state"
    assert cli.main(["cloud", "--state-dir", str(state), *words]) == status
    assert not state.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--mesh-range 100.64.0.0/16", "--mesh-range: 100.64.0.0/16 overlaps 100.64.0.0/10, which sites use; such as"),
        ("--pod-range 10.96.0.0/16", "--pod-range: 10.96.0.0/16 overlaps --service-range 10.96.0.0/12; a range of"),
        ("--service-range 10.0.0.1/16", "--service-range: '10.0.0.1/16' is not a range of IPv4 addresses; 10.0.0.0/16"),
        ("--service-range fd96::/108", "--service-range: 'fd96::/108' is not a range of IPv4 addresses; such as"),
        ("--mesh-range 10.222.0.0/25", "--mesh-range: 10.222.0.0/25 is too small; a range of /24"),
        ("--cluster-domain Bad_Domain..x", "--cluster-domain: 'Bad_Domain..x' is not a domain; such as cluster.local"),
    ],
)
def test_what_agents_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    assert said in refused(capsys, tmp_path, *words.split())


def test_all_mistakes_are_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, tmp_path, "--mesh-range", "100.64.0.0/16", "--cluster-domain", "a..b")
    assert "--mesh-range: " in said
    assert "--cluster-domain: " in said


def test_a_domain_is_compared_as_agents_do() -> None:
    words = cli.parser().parse_args(["cloud", "--cluster-domain", "Site.Example."])
    assert read(words).cluster_domain == "site.example"


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


def test_a_ca_that_ended_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = authority.load_or_make(tmp_path / "ca", datetime(2001, 1, 1, tzinfo=UTC))
    file = tmp_path / "kubeconfig"
    file.write_text(
        "current-context: c\nclusters: [{name: c, cluster: {server: 'https://h'}}]\n"
        "contexts: [{name: c, context: {cluster: c}}]\n"
    )
    signer = ["--ca-cert", str(tmp_path / "ca" / "ca.crt"), "--ca-key", str(tmp_path / "ca" / "ca.key")]
    assert cli.main(["cloud", "--state-dir", str(tmp_path / "state"), "--kubeconfig", str(file), *signer]) == 1
    assert f"the CA's certificate ended on {ended.certificate.not_valid_after_utc:%Y-%m-%d}" in capsys.readouterr().err


def test_authorities_too_many_for_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "all.crt").write_text("x" * 40000)
    file = tmp_path / "kubeconfig"
    file.write_text(
        "current-context: c\nclusters: [{name: c, cluster: {server: 'https://h', certificate-authority: all.crt}}]\n"
        "contexts: [{name: c, context: {cluster: c}}]\n"
    )
    words = ("--kubeconfig", str(file), "--ca-cert", "ca.crt", "--ca-key", "ca.key")
    assert "40000 bytes" in refused(capsys, tmp_path, *words, status=1)
