"""Preflight finds out by doing, and every obstacle is a sentence with what to do."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.lab import preflight
from e2e.lab.topology import ROOT

pytestmark = pytest.mark.bed

TELL = "from e2e.lab import preflight; print(preflight.problem())"


def tell(prefix: list[str]) -> str:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", TELL],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def private(script: str) -> list[str]:
    """Runs what follows in user and mount namespaces of its own, after `script`."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh"]


def test_nothing_is_in_the_way_here() -> None:
    assert preflight.problem() == ""


def test_a_forbidden_tun_is_said(tmp_path: Path) -> None:
    (tmp_path / "tun").write_text("")
    said = tell(private(f"mount --bind {tmp_path}/tun /dev/net/tun"))
    assert said.startswith(
        "no tunnel device can be made, as /dev/net/tun can't be used (Inappropriate ioctl for device)"
    )


def test_forbidden_namespaces_are_said() -> None:
    said = tell(private("echo 0 > /proc/sys/user/max_user_namespaces"))
    assert said.startswith("namespaces of one's own are not allowed here (unshare: ")
    assert "'sudo sysctl -w user.max_user_namespaces=15000'" in said


def test_missing_nftables_are_said(tmp_path: Path) -> None:
    fake = tmp_path / "nft"
    fake.write_text("#!/bin/sh\necho 'Error: Could not process rule: Operation not supported' >&2; exit 1\n")
    fake.chmod(0o755)
    said = tell(["env", f"PATH={tmp_path}:{os.environ['PATH']}"])
    assert said.startswith("the kernel's nftables can't be used (Error: Could not process rule")
    assert "'sudo modprobe -a nf_tables nft_chain_nat nft_ct'" in said


def test_missing_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name in ("nft", "conntrack") else name)
    assert preflight.problem() == "commands are missing: run 'apt-get install conntrack nftables' as root."


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"),
        ({"/proc/sys/kernel/unprivileged_userns_clone": "0"}, "unprivileged_userns_clone=1"),
        ({"/proc/sys/kernel/osrelease": "5.15.0-microsoft-standard-WSL2"}, "wsl --update"),
        ({}, "run as root"),
    ],
)
def test_the_advice_fits_the_machine(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], advice: str) -> None:
    monkeypatch.setattr(preflight, "_reads", lambda file: settings.get(file, ""))
    monkeypatch.setattr(preflight, "_in_container", lambda: False)
    said = preflight._without_namespaces("unshare: Operation not permitted\n")
    assert advice in said
    assert "Operation not permitted" in said
    assert said.count("\n") == 0


def test_containers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_in_container", lambda: True)
    monkeypatch.setattr(preflight, "_reads", lambda file: "")
    assert "--privileged" in preflight._without_namespaces("unshare failed")
    assert "--device /dev/net/tun" in preflight._without_tun(errno.EPERM)


def test_a_tun_for_root_only_is_told_from_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_in_container", lambda: False)
    assert "'sudo chmod 0666 /dev/net/tun'" in preflight._without_tun(errno.EACCES)
    assert "'sudo modprobe tun'" in preflight._without_tun(errno.ENOENT)
