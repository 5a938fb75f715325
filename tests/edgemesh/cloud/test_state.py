"""What the cloud's state directory holds it to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgemesh import authority, files
from edgemesh.cloud import state
from edgemesh.cloud.options import Options
from edgemesh.cloud.state import StateError
from tests.edgemesh.join.cluster import at


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(options: Options) -> str:
    """Why; nothing is changed then."""
    before = tree(options.state_dir)
    with pytest.raises(StateError) as caught:
        state.load(options, at())
    assert tree(options.state_dir) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "used"),
    [
        ("service_range", "10.100.0.0/16", "10.96.0.0/12"),
        ("pod_range", "10.245.0.0/16", "10.244.0.0/16"),
        ("mesh_range", "10.223.0.0/16", "10.222.0.0/16"),
        ("cluster_domain", "site.example", "cluster.local"),
    ],
)
def test_a_cluster_keeps_its_ranges_and_domain(tmp_path: Path, name: str, value: str, used: str) -> None:
    options = Options(state_dir=tmp_path)
    state.load(options, at()).database.touch()
    option = "--" + name.replace("_", "-")
    said = refused(msgspec.structs.replace(options, **{name: value}))
    assert f"{option} {value}: this cluster has {used}" in said
    assert f"start it with {option} {used}" in said
    before = tree(tmp_path)
    state.load(options, at())
    assert tree(tmp_path) == before


def test_a_cluster_that_began_before_they_were_kept(tmp_path: Path) -> None:
    options = Options(state_dir=tmp_path, mesh_range="10.223.0.0/16")
    state.load(options, at())
    (tmp_path / "cluster.json").unlink()
    (tmp_path / "api.db").touch()
    state.load(options, at())
    assert "--mesh-range" in refused(msgspec.structs.replace(options, mesh_range="10.222.0.0/16"))


def test_beside_a_cluster_they_are_kept_too(tmp_path: Path) -> None:
    authority.load_or_make(tmp_path / "theirs", at())
    given = (tmp_path / "theirs" / "ca.crt", tmp_path / "theirs" / "ca.key")
    options = Options(state_dir=tmp_path / "state", kubeconfig=tmp_path / "kubeconfig", authority=given)
    state.load(options, at())
    assert "--mesh-range" in refused(msgspec.structs.replace(options, mesh_range="10.223.0.0/16"))


def test_a_first_start_that_failed_holds_to_nothing(tmp_path: Path) -> None:
    options = Options(state_dir=tmp_path)
    state.load(options, at())
    other = msgspec.structs.replace(options, mesh_range="10.223.0.0/16")
    state.load(other, at()).database.touch()
    state.load(other, at())
    assert "--mesh-range 10.222.0.0/16: this cluster has 10.223.0.0/16" in refused(options)


def test_what_was_kept_is_torn(tmp_path: Path) -> None:
    options = Options(state_dir=tmp_path)
    state.load(options, at()).database.touch()
    (tmp_path / "cluster.json").write_bytes(b"{")
    assert "cluster.json can't be read" in refused(options)


def test_a_ca_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    options = Options(state_dir=tmp_path)
    made = state.load(options, at())
    made.database.touch()
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).unlink()
    said = refused(options)
    assert f"{tmp_path}/ca.crt and {tmp_path}/ca.key are missing" in said
    assert "from a backup" in said
    assert "begin anew" in said
    files.replace(tmp_path / "ca.crt", made.authority.pem)
    assert "ca.key: No such file" in refused(options)


def test_interrupted_before_the_api_had_a_database(tmp_path: Path) -> None:
    options = Options(state_dir=tmp_path)
    first = state.load(options, at())
    assert state.load(options, at()).authority.pin == first.authority.pin


def test_the_state_of_an_api_of_its_own_is_not_for_another(tmp_path: Path) -> None:
    own = Options(state_dir=tmp_path / "own")
    state.load(own, at()).database.touch()
    authority.load_or_make(tmp_path / "theirs", at())
    given = (tmp_path / "theirs" / "ca.crt", tmp_path / "theirs" / "ca.key")
    beside = msgspec.structs.replace(own, kubeconfig=tmp_path / "kubeconfig", authority=given)
    assert "another --state-dir" in refused(beside)
    found = state.load(msgspec.structs.replace(beside, state_dir=tmp_path / "beside"), at())
    assert found.ca.read_bytes() == given[0].read_bytes()
    assert not (tmp_path / "beside" / "ca.key").exists()
