"""Builds Kubernetes' own programs from its Go module, for tests and benchmarks to compare with.

`go install k8s.io/kubernetes/cmd/…` is refused because of that module's replace directives, which name folders of its
repository. A module of our own that requires it, and replaces each with the version published for it, builds them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

VERSION = "v1.34.2"
MODULE = "k8s.io/kubernetes"
COMMANDS = ("kube-apiserver", "kubectl")
TIMEOUT = 1800

_STAGING = re.compile(r"^\s*(k8s\.io/[a-z-]+) => \./staging/", re.MULTILINE)


def build(go: str, command: str, folder: Path, binaries: Path) -> None:
    """Build a command of `COMMANDS` into `binaries`; `folder` holds the module. Raises OSError, SubprocessError."""
    folder.mkdir(parents=True, exist_ok=True)
    binaries.mkdir(parents=True, exist_ok=True)
    source = _source(go, folder)
    staging = _STAGING.findall((source / "go.mod").read_text())
    published = VERSION.replace("v1.", "v0.", 1)
    text = [f"module edgemesh/peers\n\ngo 1.24.0\n\nrequire {MODULE} {VERSION}\n\nreplace ("]
    text += [f"\t{name} => {name} {published}" for name in staging]
    (folder / "go.mod").write_text("\n".join([*text, ")\n"]))
    package = f"{MODULE}/cmd/{command}"
    (folder / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{package}"\n')
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    said = f"-X k8s.io/component-base/version.gitVersion={VERSION} -s -w"
    flags = ["-trimpath", "-ldflags", said, "-o", str(binaries / command)]
    subprocess.run([go, "build", *flags, package], check=True, cwd=folder, env=environment, timeout=TIMEOUT)


def _source(go: str, folder: Path) -> Path:
    """Where the module's source is, downloaded if need be."""
    command = [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"]
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    (folder / "go.mod").write_text("module edgemesh/peers\n")
    said = subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True, timeout=TIMEOUT)
    return Path(json.loads(said.stdout)["Dir"])
