"""One agent a node, whatever a killed one left, and a socket for its owner alone."""

import socket
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from edgemesh import status
from edgemesh.agent_socket import AgentSocket, AgentSocketError
from edgemesh.config import Config
from tests.edgemesh.test_status import HEALTHY


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(node_name="a", run_dir=str(tmp_path / "run"))


async def compose() -> status.Status:
    return HEALTHY


@trio.testing.trio_test
async def test_everybody_who_asks_is_told(config: Config) -> None:
    with AgentSocket(config) as agent_socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent_socket.serve, compose)
            with socket.socket(socket.AF_UNIX) as rude:
                rude.connect(config.agent_socket)  # and never reads
                for _ in range(3):
                    assert await trio.to_thread.run_sync(status.ask, Path(config.agent_socket)) == HEALTHY
            nursery.cancel_scope.cancel()
    with pytest.raises(status.StatusError, match=r"no agent runs here: .* does not exist"):
        status.ask(Path(config.agent_socket))


def test_a_second_agent_is_refused_and_the_first_goes_on(config: Config) -> None:
    with AgentSocket(config):
        before = Path(config.agent_socket).stat().st_ino
        assert stat.S_IMODE(Path(config.agent_socket).stat().st_mode) == 0o600
        with pytest.raises(AgentSocketError, match="another agent runs on this node"):
            AgentSocket(config)
        assert Path(config.agent_socket).stat().st_ino == before
    AgentSocket(config).__exit__(None, None, None)


@pytest.mark.parametrize("left", ["socket", "file", "link"])
def test_what_a_killed_agent_left_is_replaced(config: Config, left: str) -> None:
    path = Path(config.agent_socket)
    path.parent.mkdir()
    if left == "socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    elif left == "file":
        path.write_text("")
    else:
        path.symlink_to("nowhere")
    with AgentSocket(config):
        assert stat.S_ISSOCK(path.lstat().st_mode)


def test_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentSocketError, match=r"it needs a place for its socket, or set commonConfig\.runDir"):
        AgentSocket(Config(node_name="a", run_dir=str(tmp_path / "file")))
