"""What an operator reads when a role can't start, and with which rights each of them can: real processes in a bed."""

import os
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.namespaces import Bed
from tests.edgemesh.running import MANIFESTS, ROOT, STATE, Host, until

pytestmark = pytest.mark.bed

POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""As root without any right: what an ordinary user is, who has no number of his own in a bed."""


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Bed() as bed:
        yield bed


@pytest.fixture
def host(bed: Bed, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    host = Host(bed, f"n{len(bed.spaces)}", tmp_path)
    yield host
    os.kill(host.space.pid, signal.SIGKILL)


def one_sentence(said: str) -> str:
    """All that was said, which must be one line and no trace."""
    lines = said.splitlines()
    assert len(lines) == 1, said
    return lines[0]


def test_agent_that_knows_nothing(host: Host) -> None:
    agent = host.start("agent")
    assert agent.ends() == 1
    said = one_sentence(agent.said)
    assert said.startswith("edgemesh: nothing is known yet: say where the objects are: 'edgemesh join', ")


def test_two_agents(host: Host) -> None:
    first = host.agent()
    first.says("following")
    second = host.agent()
    assert second.ends() == 1
    assert "edgemesh: another agent runs on this node, it has /run/edgemesh/agent.sock: end that" in second.said
    assert host.status()["node"] == host.name
    first.signal(signal.SIGKILL)
    first.ends()
    assert host.run("status").returncode == 2
    assert host.path("/run/edgemesh/agent.sock").exists()
    third = host.agent()
    third.says("following")
    until(host.status, 5, "the third agent's status")


def test_agent_without_rights(host: Host) -> None:
    agent = host.start("agent", "--manifests", MANIFESTS, before=POWERLESS)
    assert agent.ends() == 1
    said = one_sentence(agent.said)
    assert "run as root, or with CAP_NET_ADMIN in this network namespace" in said
    assert "nftables" in said


def test_agent_without_a_directory_of_its_own(host: Host) -> None:
    host.space.run(f"chmod 500 {STATE}")
    for name in ("agent", "--print-meshnode"):
        agent = host.start(*(("agent",) if name == "agent" else ("agent", name)), before=POWERLESS)
        assert agent.ends() == 1
        said = one_sentence(agent.said)
        assert re.fullmatch(rf"edgemesh: {STATE}/node\.key.*: Permission denied: .*: run as root, or set .*", said)


def test_agent_without_raw_sockets(host: Host) -> None:
    host.write("own.yaml", host.mesh_node())
    agent = host.start("agent", "--manifests", MANIFESTS, "--node-name", host.name, before=_only("net_admin"))
    agent.says("no raw socket for path finding: run as root, or grant the agent CAP_NET_RAW; trying again")
    until(host.status, 5, "a status")
    assert not host.status()["healthy"]
    assert any("CAP_NET_RAW" in problem for problem in host.status()["problems"])


@pytest.mark.parametrize("role", ["engine", "resolver"])
def test_without_rights(host: Host, role: str) -> None:
    process = host.start(role, before=POWERLESS)
    assert process.ends() == 1
    said = one_sentence(process.said)
    assert {"engine": "NET_ADMIN", "resolver": "CAP_NET_BIND_SERVICE"}[role] in said
    assert "run as root" in said


def test_engine_without_tun(host: Host) -> None:
    host.space.run("mount -t tmpfs tmpfs /dev/net")
    engine = host.start("engine")
    assert engine.ends() == 1
    assert "there is no /dev/net/tun: load the module (modprobe tun), or in a container" in one_sentence(engine.said)
    assert not host.path("/run/wireguard/edgemesh-wg.sock").exists()


def test_two_engines(host: Host) -> None:
    host.start("engine").says("is ready")
    second = host.start("engine")
    assert second.ends() == 1
    assert "an engine for this device is already running" in one_sentence(second.said)


def test_port_53_taken(host: Host) -> None:
    taker = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53)); print(flush=True)"
    other = host.space.popen(["python3", "-c", f"{taker}; input()"], stdin=-1)
    assert other.stdout
    other.stdout.readline()
    resolver = host.start("resolver")
    assert resolver.ends() == 1
    said = one_sentence(resolver.said)
    assert "169.254.96.16 port 53 can't be bound (Address already in use)" in said
    assert "ss -lunp shows which" in said
    assert "--listen" not in said  # which this command does not have


def _only(*rights: str) -> list[str]:
    """The command that starts another with these rights and no more, as systemd's CapabilityBoundingSet does."""
    bounding = ",".join(["-all", *(f"+{right}" for right in rights)])
    return ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--no-new-privs"]


def _unit(role: str) -> tuple[list[str], list[str]]:
    """The command of a role's systemd unit without the program's name, and the rights it has."""
    text = (ROOT / "deploy" / "systemd" / f"edgemesh-{role}.service").read_text()
    settings = dict(re.findall(r"^(ExecStart|CapabilityBoundingSet)=(.*)$", text, re.MULTILINE))
    _, args = settings["ExecStart"].split("edgemesh ", 1)
    rights = [right.removeprefix("CAP_").lower() for right in settings["CapabilityBoundingSet"].split()]
    return shlex.split(args), rights


def test_units_give_the_rights_that_are_needed(host: Host) -> None:
    host.write("own.yaml", host.mesh_node())
    roles = {}
    for role in ("engine", "resolver", "agent", "relay"):
        args, rights = _unit(role)
        named = ["--node-name", host.name] if role == "agent" else []
        roles[role] = host.start(*args, *named, before=_only(*rights))
    until(lambda: host.status().get("healthy"), 20, "healthy", lambda: [each.said for each in roles.values()])
    roles["relay"].says("relaying on")
    assert host.space.run("wg show edgemesh-wg listen-port").stdout.strip() in host.mesh_node()
    for process in roles.values():
        process.signal(signal.SIGTERM)
        assert process.ends() == 0, process.said
        assert "Traceback" not in process.said
