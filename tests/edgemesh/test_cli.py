"""The command line: what it takes, and how it ends."""

import base64
import ipaddress
import subprocess
import sys
from pathlib import Path

import pytest

from edgemesh import cli
from sync.client.manifest import parse
from sync.resources.kinds import MeshNode

CONFIG = """\
apiVersion: agent.edgemesh.config.kubeedge.io/v1alpha1
kind: EdgeMeshAgent
commonConfig:
  stateDir: {0}/state
  runDir: {0}/run
modules:
  edgeTunnel:
    relayNodes:
      - nodeName: cloud
        advertiseAddress: ["203.0.113.30"]
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "agent.yaml"
    path.write_text(CONFIG.format(tmp_path))
    return str(path)


def mesh_node(config: str, capsys: pytest.CaptureFixture[str], *args: str) -> MeshNode:
    assert cli.main(["agent", "--print-meshnode", "--config-file", config, *args]) == 0
    objects, problems = parse("own.yaml", capsys.readouterr().out.encode(), "10.96.0.0/12")
    assert problems == []
    (node,) = objects
    assert isinstance(node, MeshNode)
    return node


def test_print_meshnode(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--node-name", "a1", "--mesh-address", "10.222.0.2", "--pod-range", "10.244.2.0/24"]
    node = mesh_node(config, capsys, *given, "--lan-address", "192.168.1.11", "--lan-address", "192.168.9.1")
    assert node.metadata.name == "a1"
    assert node.spec.addresses == ("192.168.1.11", "192.168.9.1")
    assert node.spec.relays == ("203.0.113.30:20006",)
    assert node.status.mesh_addresses == ("10.222.0.2",)
    assert node.status.pod_ranges == ("10.244.2.0/24",)
    again = mesh_node(config, capsys, *given)
    assert (again.spec.public_key, again.spec.listen_port) == (node.spec.public_key, node.spec.listen_port)
    private = base64.b64decode((tmp_path / "state" / "node.key").read_text())
    assert base64.b64decode(node.spec.public_key) != private


def test_a_mesh_address_is_computed_from_the_name(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, same, other = (mesh_node(config, capsys, "--node-name", name) for name in ("a1", "a1", "a2"))
    (address,) = first.status.mesh_addresses
    assert ipaddress.ip_address(address) in ipaddress.ip_network("10.222.0.0/16")
    assert same.status == first.status
    assert other.status.mesh_addresses != first.status.mesh_addresses
    assert not any(ipaddress.ip_address(text).is_loopback for text in first.spec.addresses)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--mesh-address", "10.222.0"], "10.222.0"),
        (["--pod-range", "10.244.2.1/24"], "10.244.2.1/24"),
        (["--lan-address", "a1"], "'a1'"),
        (["--node-name", "A 1"], "'A 1' is not a node's name"),
    ],
)
def test_wrong_description(config: str, capsys: pytest.CaptureFixture[str], args: list[str], text: str) -> None:
    assert cli.main(["agent", "--print-meshnode", "--config-file", config, *args]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert text in said.err


@pytest.mark.parametrize("command", ["agent", "resolver", "status"])
def test_wrong_configuration(command: str, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(config)
    path.write_text(path.read_text().replace("relayNodes", "relayNode"))
    assert cli.main([command, "--config-file", config]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"edgemesh: {path}:8: modules.edgeTunnel.relayNode: ")
    assert "relayNodes" in said
    assert cli.main([command, "--config-file", f"{config}.gone"]) == 2
    assert "agent.yaml.gone: can't be read: No such file" in capsys.readouterr().err


def test_a_key_that_cant_be_read(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").write_text("")
    assert cli.main(["agent", "--config-file", config]) == 1
    assert "set commonConfig.stateDir" in capsys.readouterr().err


def test_status_without_an_agent(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--config-file", config]) == 2
    assert "no agent runs here" in capsys.readouterr().err


def test_relay_needs_an_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("1.2.3.4:x", "relay.example.com", "1.2.3.4:70000"):
        assert cli.main(["relay", "--listen", wrong, "--manifests", str(tmp_path)]) == 2
        assert f"--listen {wrong}: an address and a port" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args", [[], ["agents"], ["relay", "--manifests", "x", "--kubeconfig", "y"], ["status", "--yaml"]]
)
def test_wrong_arguments(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(args)
    assert end.value.code == 2
    assert "usage: edgemesh" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        ("from edgemesh.cli import main", {"trio", "msgspec", "yaml", "cryptography", "rich", "logging.handlers"}),
        ("import edgemesh.config, dns.server", {"trio", "yaml", "cryptography", "rich", "asyncio"}),
        ("import tunnel.engine.engine", {"trio", "yaml", "rich", "asyncio", "edgemesh.config"}),
        (
            "import edgemesh.agent, edgemesh.relay",
            {"yaml", "rich", "asyncio", "dnslib", "h11", "cryptography.x509", "sync.client.connection"},
        ),
    ],
)
def test_what_a_role_does_not_need_is_not_imported(command: str, unwanted: set[str]) -> None:
    code = f"import sys; {command}; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not unwanted & set(modules.stdout.split())


def test_a_relay_needs_to_know_whom_to_admit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["relay", "--state-dir", str(tmp_path)]) == 2
    assert "say which nodes to admit: --manifests DIR, or --kubeconfig FILE" in capsys.readouterr().err
    assert cli.main(["relay", "--kubeconfig", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: can't be read: No such file" in capsys.readouterr().err
