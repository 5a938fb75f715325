"""The node's side of joining, against the endpoint over HTTPS on loopback."""

import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from edgemesh import cli, config, files
from edgemesh.authority import load_or_make
from edgemesh.join import join, record, trust, units
from edgemesh.join.files_of_node import Places, agent_config
from edgemesh.join.files_of_node import kubeconfig as node_kubeconfig
from edgemesh.join.join import Wish
from edgemesh.join.limits import Limits
from edgemesh.join.messages import AuthorityAnswer, Cluster
from edgemesh.join.trust import JoinError
from sync.client import kubeconfig
from tests.edgemesh.join.cluster import Cloud, at, https


class World(NamedTuple):
    cloud: Cloud
    url: str
    places: Places
    said: list[str]

    def join(self, **changes: object) -> list[str]:
        """Join, and what was said."""
        if "token" not in changes:
            changes["token"] = self.cloud.token()
        wish = Wish(url=self.url, token="", name="a1", places=self.places)
        self.said.clear()
        join.join(msgspec.structs.replace(wish, **changes), self.said.append)
        return list(self.said)

    def tree(self) -> dict[str, bytes]:
        folder = self.places.state_dir.parent
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(units, "RUNNING", tmp_path / "no-systemd")
    cloud = Cloud(tmp_path / "cloud", time.time())
    node = tmp_path / "node"
    places = Places(state_dir=node / "state", config_dir=node / "config", systemd_dir=node / "systemd")
    with https(cloud, tmp_path) as url:
        yield World(cloud, url, places, [])


def test_joins(world: World) -> None:
    said = world.join(zone="harbour")
    places = world.places
    assert sorted(world.tree()) == [
        "config/edgemesh-agent.yaml",
        "state/node.kubeconfig",
        "state/pki/ca.crt",
        "state/pki/cluster.json",
        "state/pki/node.crt",
        "state/pki/node.key",
        "systemd/edgemesh-agent.service",
        "systemd/edgemesh-engine.service",
        "systemd/edgemesh-resolver.service",
    ]
    for secret in (places.key, places.kubeconfig):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(places.state_dir.stat().st_mode) == 0o700
    assert any("joined as a1: certificate until" in line for line in said)
    assert said[-2].startswith("next: start these")
    assert world.cloud.api.objects["/api/v1/nodes/a1"]["metadata"]["labels"]["topology.kubernetes.io/zone"] == "harbour"


def test_twice_changes_nothing(world: World) -> None:
    world.join()
    before = world.tree()
    already = f"this machine is the node a1 of the cluster at {world.url} already: nothing to do"
    assert world.join(url="", token="")[0] == already
    assert world.join()[0] == already
    said = world.join(url="https://127.0.0.1:1", token="")
    assert said[:2] == [
        already,
        "https://127.0.0.1:1 was not asked: whether it is that cluster, too, is told by a token from there",
    ]
    assert world.tree() == before


def test_twice_without_the_cloud(world: World) -> None:
    world.join()
    closed = msgspec.json.decode(world.places.cluster.read_bytes(), type=Cluster)
    closed = msgspec.structs.replace(closed, join="https://127.0.0.1:1")
    world.places.cluster.write_bytes(msgspec.json.encode(closed))
    before = world.tree()
    said = world.join(url="", token="")
    assert said[0].startswith("whether the node still counts in the cluster at https://127.0.0.1:1 is not known: ")
    assert said[1].endswith("already: nothing to do")
    assert world.tree() == before


def test_a_token_of_another_cluster(world: World, tmp_path: Path) -> None:
    world.join()
    before = world.tree()
    other = load_or_make(tmp_path / "other", at()).pin
    text = refused(world, url="https://198.18.7.7:10002", token=f"{world.cloud.token()[:24]}{other}")
    assert text.startswith(
        f"this machine is the node a1 of the cluster at {world.url}, and the token is another cluster's."
    )
    for part in ("'edgemesh node delete a1' there", "systemctl stop edgemesh-engine.service", f"{world.places.pki}"):
        assert part in text
    assert "not a whole token" in refused(world, token="abcdef.rubbish")
    assert world.tree() == before


def test_a_deleted_node_joins_anew(world: World) -> None:
    world.join()
    before = world.tree()
    del world.cloud.api.objects[record.path("a1")]
    text = refused(world, url="", token="")
    assert f"node a1 of the cluster at {world.url}, which was deleted there: to join anew, give a token" in text
    assert world.tree() == before
    token = world.cloud.token()
    assert "no such token" in refused(world, token=f"zzzzzz{token[6:]}")
    kept = world.tree()
    assert kept.pop("state/pki/node.key.next")
    assert kept == before  # a bad token costs nothing
    said = world.join(url="", token=token)
    assert said[0] == f"the node a1 was deleted from the cluster at {world.url}: it joins anew, with a new key"
    assert any(line.startswith("joined as a1: certificate until") for line in said)
    after = world.tree()
    assert sorted(after) == sorted(before)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"state/pki/node.key", "state/pki/node.crt"}
    assert stat.S_IMODE(world.places.key.stat().st_mode) == 0o600
    assert world.join(token="")[0].endswith("already: nothing to do")


def test_a_deleted_node_whose_name_is_given_again(world: World) -> None:
    world.join()
    before = world.tree()
    del world.cloud.api.objects[record.path("a1")]
    again = world.places.state_dir.parent.parent / "again"
    world.join(places=Places(state_dir=again / "state", config_dir=again / "config", systemd_dir=again / "systemd"))
    assert "another machine has this name" in refused(world)
    kept = world.tree()
    del kept["state/pki/node.key.next"]
    assert kept == before


def test_joining_anew_interrupted_at_any_file_it_completes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cloud.endpoint._limits = Limits(burst=1000)
    world.join()
    whole = 0
    for n in range(1, 20):
        for after in (False, True):
            del world.cloud.api.objects[record.path("a1")]
            old = world.places.key.read_bytes()
            left = n

            def stopping(do: Callable[..., object], after: bool = after) -> Callable[..., None]:
                def step(*given: object, **named: object) -> None:
                    nonlocal left
                    left -= 1
                    if left == 0 and not after:
                        raise KeyboardInterrupt
                    do(*given, **named)
                    if left == 0:
                        raise KeyboardInterrupt

                return step

            with monkeypatch.context() as patch:
                for owner, name in ((files, "replace"), (Path, "replace"), (Path, "unlink")):
                    patch.setattr(owner, name, stopping(getattr(owner, name)))
                try:
                    world.join()
                except KeyboardInterrupt:
                    pass
                else:
                    whole = n
            world.join()
            assert world.places.key.read_bytes() != old
            assert world.join(token="")[0].endswith("already: nothing to do")
            assert not world.places.next_key.exists()
        if whole:
            break
    assert whole == 8  # the key, its two steps into place, CA, the API's, cluster, certificate; the eighth never came


def test_what_was_written_is_read(world: World) -> None:
    world.join()
    access = kubeconfig.load(world.places.kubeconfig)
    assert access.server == "https://192.0.2.1:6443"
    assert access.ca == world.cloud.authority.pem.decode()
    assert (access.certificate, access.key) == (str(world.places.certificate), str(world.places.key))
    read, notices = config.load(str(world.places.config), {"NODE_NAME": "a1"})
    assert notices == []
    assert read.api == (str(world.places.kubeconfig), "")
    assert [tuple(each) for each in read.relay_addresses] == [("192.0.2.1", 20006), ("2001:db8::1", 20006)]
    assert (read.service_range, read.pod_range, read.mesh_range) == ("10.97.0.0/16", "10.245.0.0/16", "10.223.0.0/16")
    assert (read.cluster_domain, read.state_dir) == ("site.example", str(world.places.state_dir))


@pytest.mark.parametrize("api_ca", ["the API's CA", ""])
def test_the_api_may_have_a_ca_of_its_own(world: World, api_ca: str) -> None:
    world.places.pki.mkdir(parents=True)
    world.cloud.endpoint._api_ca = api_ca
    world.join()
    cluster_ca = world.cloud.authority.pem.decode()
    assert (kubeconfig.load(world.places.kubeconfig).ca, world.places.ca.read_text()) == (api_ca, cluster_ca)
    assert world.join(url="", token="")[0].endswith("nothing to do")
    assert kubeconfig.load(world.places.kubeconfig).ca == api_ca


def test_an_api_ca_of_another_attempt_is_not_kept(world: World) -> None:
    files.replace(world.places.api_ca, b"another cloud's", 0o644)
    world.join()
    assert kubeconfig.load(world.places.kubeconfig).ca == world.cloud.authority.pem.decode()


def test_units_are_for_this_node(world: World) -> None:
    world.join()
    for name in units.NAMES:
        text = (world.places.systemd_dir / name).read_text()
        assert "--manifests" not in text
        (line,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
        program, *words = line.removeprefix("ExecStart=").split()
        assert program == join.program()
        cli.parser().parse_args(words)
        assert ("Environment=NODE_NAME=a1" in text) == ("agent" in name)
        assert (f"--config-file {world.places.config}" in text) == ("engine" not in name)
        assert (f"\nReadWritePaths={world.places.state_dir}\n" in text) == ("engine" not in name)


def test_a_node_that_relays_has_that_unit_too(world: World) -> None:
    world.join(relay=True)
    text = (world.places.systemd_dir / units.RELAY).read_text()
    assert f"ExecStart={join.program()} relay --state-dir {world.places.state_dir}\n" in text
    assert f"\nReadWritePaths={world.places.state_dir}\n" in text
    assert world.join(relay=True) == [
        f"this machine is the node a1 of the cluster at {world.url} already: nothing to do",
        "look with: edgemesh status",
    ]


def test_printed_units_do_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["join", "--print", "--node-name", "a1", "--state-dir", str(tmp_path / "state")]) == 0
    shown = capsys.readouterr().out
    assert shown.count("# /etc/systemd/system/edgemesh-") == 3
    assert "NODE_NAME=a1" in shown
    assert list(tmp_path.iterdir()) == []


def test_interrupted_at_any_file_it_completes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine stops at the n-th file, for each n: before it is there, and just after."""
    world.cloud.endpoint._limits = Limits(burst=1000)
    replace = files.replace
    whole = 0
    for n in range(1, 20):
        for after in (False, True):
            name = f"n{n}-{after}".lower()
            root = world.places.state_dir.parent / name
            places = Places(state_dir=root / "state", config_dir=root / "config", systemd_dir=root / "systemd")
            left = n

            def stopping(path: Path, data: bytes, mode: int = 0o600, after: bool = after) -> None:
                nonlocal left
                left -= 1
                if left == 0 and not after:
                    raise KeyboardInterrupt
                replace(path, data, mode)
                if left == 0:
                    raise KeyboardInterrupt

            monkeypatch.setattr(files, "replace", stopping)
            try:
                world.join(name=name, places=places)
            except KeyboardInterrupt:
                monkeypatch.setattr(files, "replace", replace)
                world.join(name=name, places=places)
                found = sum(path.is_file() for path in root.rglob("*"))
                assert found == 9
            else:
                whole = n
        if whole:
            break
    assert whole == 10  # nine files, and the tenth was never written


def test_a_file_that_somebody_edited_is_kept(world: World) -> None:
    files.replace(world.places.config, b"# mine\n", 0o644)
    said = world.join()
    assert any(line.startswith(f"kept {world.places.config}") for line in said)
    assert world.places.config.read_bytes() == b"# mine\n"


def refused(world: World, **changes: object) -> str:
    with pytest.raises(JoinError) as caught:
        world.join(**changes)
    return str(caught.value)


def test_refusals_say_what_to_do(world: World, tmp_path: Path) -> None:
    token = world.cloud.token()
    other = load_or_make(tmp_path / "other", at()).pin
    assert "this is not the cloud that the token is from" in refused(world, token=f"{token[:24]}{other}")
    assert "no such token" in refused(world, token=f"zzzzzz{token[6:]}")
    assert "not a whole token" in refused(world, token="rubbish")
    assert "no token is given: --token" in refused(world, token="")
    assert "is no join URL" in refused(world, url=world.url.replace("https", "http"))
    assert "is no join URL" in refused(world, url="https://127.0.0.1:port")
    assert "can't be reached: Connection refused" in refused(world, url="https://127.0.0.1:1")
    assert "can't be a node's name" in refused(world, name="a_1")
    assert "the token is for the node a2" in refused(world, token=world.cloud.token("a2"))
    assert not world.places.certificate.exists()


def test_a_name_that_is_taken(world: World) -> None:
    world.join()
    again = world.places.state_dir.parent / "again"
    places = Places(state_dir=again / "state", config_dir=again / "config", systemd_dir=again / "systemd")
    assert "another machine has this name" in refused(world, places=places)
    assert "edgemesh node delete a1" in refused(world, places=places)
    assert "this machine has joined already" in refused(world, name="a2")


def test_an_expired_token(world: World) -> None:
    token = world.cloud.token()
    world.cloud.now += 86400
    assert "the token ended at" in refused(world, token=token)


def test_a_clock_that_is_off(world: World, tmp_path: Path) -> None:
    """The cloud is ten days ahead: its own certificate begins in ten days."""
    later = Cloud(tmp_path / "later", time.time() + 10 * 86400)
    with https(later, tmp_path) as url:
        text = refused(world, url=url, token=later.token())
    assert "not yet valid" in text
    ours, theirs = (time.strftime("%Y-%m-%d", time.gmtime(when)) for when in (time.time(), later.now))
    assert f"the clock of this machine says {ours}" in text
    assert f"the cloud's {theirs}" in text


def test_a_cloud_whose_certificate_is_no_good(world: World, tmp_path: Path) -> None:
    """It shows the CA that the token names, and has no certificate of it: somebody stands between."""
    liar = Cloud(tmp_path / "liar", time.time())
    genuine = world.cloud.authority

    class Shown:
        pem = genuine.pem

    with https(liar, tmp_path) as url:
        liar.endpoint._authority = Shown()  # type: ignore[assignment]
        text = refused(world, url=url)
    assert "its certificate is not accepted" in text
    assert not world.places.certificate.exists()


def test_hostile_values_stay_text(tmp_path: Path) -> None:
    places = Places(state_dir=tmp_path, config_dir=tmp_path, systemd_dir=tmp_path)
    evil = 'x"\nusers: []\n# '
    cluster = Cluster(api_server=evil, join=evil, cluster_domain=evil, service_cidr=evil)
    files.replace(places.config, agent_config(places, cluster).text.encode())
    with pytest.raises(config.ConfigError, match="clusterDomain"):
        config.load(str(places.config), {"NODE_NAME": "a1"})
    files.replace(places.kubeconfig, node_kubeconfig(places, "a1", cluster, "ca").text.encode())
    with pytest.raises(kubeconfig.KubeconfigError, match="server"):
        kubeconfig.load(places.kubeconfig)


def test_rubbish_for_a_certificate_is_refused(world: World) -> None:
    answer = AuthorityAnswer("rubbish", 0)
    with pytest.raises(JoinError, match="can't be read"):
        trust.pinned(answer, "0" * 64)


def test_the_command_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text(world.cloud.token() + "\n")
    places = world.places
    words = ["--state-dir", str(places.state_dir), "--config-dir", str(places.config_dir), "--no-systemd"]
    assert cli.main(["join", world.url, "--token-file", str(file), "--node-name", "a1", *words]) == 0
    assert "joined as a1" in capsys.readouterr().out
    assert not places.systemd_dir.exists()
    assert cli.main(["join", world.url, "--token-file", str(file), "--node-name", "a2", *words]) == 1
    assert "joined already" in capsys.readouterr().err
    assert cli.main(["join", world.url, "--token-file", str(tmp_path / "none"), "--node-name", "a1", *words]) == 2


def test_systemd_starts_the_units_once(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for systemctl keeps what it was told, and whether the units are enabled."""
    monkeypatch.setattr(units, "RUNNING", tmp_path)
    fake = tmp_path / "bin" / "systemctl"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nif [ "$1" = is-enabled ]; then exec test -e {tmp_path}/enabled; fi\n'
        f'echo "$*" >> {tmp_path}/calls\nif [ "$1" = enable ]; then touch {tmp_path}/enabled; fi\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    calls = tmp_path / "calls"
    names = "edgemesh-engine.service edgemesh-resolver.service edgemesh-agent.service"
    assert "enabled and started" in world.join()[-2]
    assert calls.read_text() == f"daemon-reload\nenable --now {names}\n"
    assert world.join()[0].endswith("nothing to do")
    assert calls.read_text().count("\n") == 2
    (tmp_path / "enabled").unlink()  # somebody disabled them
    assert "enabled and started" in world.join()[0]
    fake.write_text("#!/bin/sh\necho no such unit >&2\nexit 1\n")
    assert "systemctl daemon-reload failed: no such unit" in refused(world)


def test_systemd_takes_the_units(world: World) -> None:
    verify = shutil.which("systemd-analyze")
    if not verify:
        pytest.skip("no systemd here")
    world.join()
    written = sorted(map(str, world.places.systemd_dir.iterdir()))
    done = subprocess.run([verify, "verify", "--man=no", *written], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
