"""The demo as it is run: by root, by an ordinary user, two at once; ended by Ctrl-C and by kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.lab.topology import ROOT
from tests.e2e.lab.test_namespaces import wait_until

pytestmark = [pytest.mark.bed, pytest.mark.timeout(180)]

JOINING = [
    "edgemesh cloud: the API, joining, the controllers",
    "a token for new nodes",
    "cloud, a1, a2, b1 join by it",
    "all nodes Ready",
]
DELETE_AND_MAKE = """
import os, time
from pathlib import Path
from e2e.lab.api import Refused, load
api = load(Path(os.environ["KUBECONFIG"]))
path = "/api/v1/namespaces/shop/pods"
pod = api.request("GET", f"{path}/catalog-a1")
api.request("DELETE", f"{path}/catalog-a1")
for _ in range(100):
    try:
        api.request("GET", f"{path}/catalog-a1")
    except Refused:
        break
    time.sleep(0.05)
spec = {key: pod["spec"][key] for key in ("containers", "nodeSelector")}
new = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "catalog-a1", "namespace": "shop"}, "spec": spec}
api.request("POST", path, new)
print(201)
for _ in range(100):
    phase = api.request("GET", f"{path}/catalog-a1")["status"].get("phase")
    if phase == "Running":
        break
    time.sleep(0.05)
print(phase)
"""
ORDINARY = 65534
AS_USER = f"""
set -e
mount -t tmpfs tmpfs /mnt
mknod -m 0666 /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups --no-new-privs "$@"
"""
"""Root gives an ordinary user the tunnel device that most distributions let everybody use."""


def start(directory: Path, *options: str, user: bool = False) -> subprocess.Popen[str]:
    # a shell without job control lets what it runs in the background ignore SIGINT, and children inherit that
    program = ["env", "--default-signal=INT", sys.executable, "-m", "edgemesh", "demo", *options]
    if user:
        program = ["unshare", "--mount", "sh", "-c", AS_USER, "sh", *program]
        os.chown(directory, ORDINARY, ORDINARY)
    return subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(directory), "HOME": str(directory)},
        start_new_session=True,
    )


@pytest.fixture
def directories() -> Iterator[list[Path]]:
    """Two directories that an ordinary user can be given, unlike pytest's own."""
    made = [Path(tempfile.mkdtemp(prefix="edgemesh-test-")) for _ in range(2)]
    yield made
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_root_and_an_ordinary_user_side_by_side(directories: list[Path]) -> None:
    users = [False, os.geteuid() == 0]
    demos = [
        start(directory, "--only", "calls", "--json", user=user)
        for directory, user in zip(directories, users, strict=True)
    ]
    for demo, directory in zip(demos, directories, strict=True):
        out, err = demo.communicate(timeout=120)
        document = json.loads(out)
        failed = [step for step in document["steps"] if not step["ok"]]
        assert document["ok"], (failed, err[-3000:])
        assert demo.returncode == 0
        assert {call["path"] for call in document["calls"]} >= {"direct", "local"}
        assert [step["name"] for step in document["steps"]][1:5] == JOINING
        assert Path(document["logs"]).is_relative_to(directory)
        assert (Path(document["logs"]) / "b1-agent.log").read_text()
        assert "\x1b" not in err


def test_without_an_api(directories: list[Path]) -> None:
    demo = start(directories[0], "--only", "calls", "--manifests", "--json")
    out, err = demo.communicate(timeout=120)
    document = json.loads(out)
    assert document["ok"], err[-3000:]
    assert not {step["name"] for step in document["steps"]} & set(JOINING)
    assert not (Path(document["logs"]) / "cloud-cloud.log").exists()


def test_a_kept_one_is_a_cluster_to_use(directories: list[Path]) -> None:
    """KUBECONFIG is set on the cloud host; a pod that is deleted and made anew is entered by its name."""
    demo = start(directories[0], "--only", "calls", "--keep")
    try:
        out, err = demo.communicate(timeout=120)
        assert demo.returncode == 0, (out[-3000:], err[-3000:])
        assert "demo enter cloud" in out
        cloud = start(directories[0], "enter", "cloud", sys.executable, "-c", DELETE_AND_MAKE)
        out, err = cloud.communicate(timeout=60)
        assert cloud.returncode == 0, err
        assert out.split() == ["201", "Running"]
        pod = start(directories[0], "enter", "catalog-a1", "hostname")
        assert pod.communicate(timeout=20)[0] == "catalog-a1\n"
    finally:
        down = start(directories[0], "down")
        out, _ = down.communicate(timeout=20)
    assert "has ended" in out


@pytest.mark.parametrize("seconds", [1.0, 6.0])
def test_ctrl_c_ends_it_within_a_second(directories: list[Path], seconds: float) -> None:
    demo = start(directories[0])
    wait_until(lambda: len(descendants(demo.pid)) > 3, 10)
    time.sleep(seconds)  # any moment will do, so one early and one late
    inside = descendants(demo.pid)
    pressed = time.monotonic()
    os.killpg(demo.pid, signal.SIGINT)
    _, err = demo.communicate(timeout=10)
    took = time.monotonic() - pressed
    assert demo.returncode == 130, err
    assert took < 1, took
    assert "Traceback" not in err
    wait_until(lambda: not any(alive(pid) for pid in inside))


@pytest.mark.parametrize("victim", ["front", "outermost"])
def test_nothing_is_left_after_kill_9(directories: list[Path], victim: str) -> None:
    demo = start(directories[0])
    try:
        wait_until(lambda: len(descendants(demo.pid)) > 12, 20)
        inside = descendants(demo.pid)
        if victim == "front":
            demo.kill()
        else:
            (outermost,) = (pid for pid in inside if _is_outermost(pid))
            os.kill(outermost, signal.SIGKILL)
        _, err = demo.communicate(timeout=20)
        assert demo.returncode != 0
        assert "Traceback" not in err
        wait_until(lambda: not any(alive(pid) for pid in inside))
    finally:
        demo.kill()
        demo.wait()


def _is_outermost(pid: int) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return command[0] == b"unshare" and b"--user" in command
