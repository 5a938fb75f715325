"""Runs the script against an API, and makes what it printed comparable: ages, times, ids, places and widths masked."""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.peers import find
from tests.sync.api.apis import Api
from tests.sync.api.kubectl.script import NAMESPACE, Step

OBJECTS = Path(__file__).parent / "objects"
STEP_WITHIN = 30.0

MASKS = (
    (r"https://(127\.0\.0\.1|localhost):\d+", "URL"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
    (r"kubectl-edit-\d+", "kubectl-edit"),
    (r"/tmp/(LIVE|MERGED)-\d+/", r"\1/"),
    (r"(LIVE|MERGED)-\d+", r"\1"),
    (r"\b20(2[7-9]|26-(?!01-01))[-\d]*[T ][\d:.]+( [+-]\d{4}|Z)?( UTC)?", "TIME"),
    (r"\w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r'(resourceVersion"?: ?)"?\d+"?', r"\1REVISION"),
    (r'(Resource Version:|resource version) *"?\d+"?', r"\1 REVISION"),
    (r"(?<![\w.-])(\d+d)?(\d+h)?(\d+m)?\d+s(?![\w-])(?! +--)|(?<![\w.-])(\d+d)?(\d+h)?\d+m(?![\w-])", "AGE"),
    (r"<invalid>|<unknown>", "AGE"),
    (r"(?<=\S)[ \t]{2,}", "  "),
    (r"^ {9,}", " " * 8),
    (r"[ \t]+$", ""),
    (r"-{4,}", "----"),
)


class Said(NamedTuple):
    """What a command did; `text` is stdout and stderr as printed, with `masked` for comparison."""

    code: int
    text: str

    @property
    def masked(self) -> str:
        return mask(self.text)


def mask(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, stands in MASKS:
        text = re.sub(pattern, stands, text, flags=re.MULTILINE)
    return text


def run(api: Api, steps: tuple[Step, ...], folder: Path) -> list[Said]:
    """All steps, in order. Skips the test without kubectl."""
    folder.mkdir()
    shutil.copytree(OBJECTS, folder / "objects")
    write_request(folder / "objects" / "csr.yaml")
    return [_retried(api, step, folder) if step.retry else _step(api, step, folder) for step in steps]


def _retried(api: Api, step: Step, folder: Path) -> Said:
    deadline = time.monotonic() + STEP_WITHIN
    while (said := _step(api, step, folder)).code != step.code and time.monotonic() < deadline:
        time.sleep(0.2)
    return said


def write_request(path: Path) -> None:
    """A CertificateSigningRequest."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "fish"), x509.NameAttribute(NameOID.COMMON_NAME, "kc")]
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names)).sign(key, hashes.SHA256())
    text = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    path.write_text(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: kc-csr}\n"
        f"spec:\n  request: {text}\n  signerName: kubernetes.io/kube-apiserver-client\n  usages: [client auth]\n"
        "  expirationSeconds: 86400\n"
    )


def _step(api: Api, step: Step, folder: Path) -> Said:
    kubectl = find("kubectl")
    assert kubectl is not None
    command = [str(kubectl.path), f"--kubeconfig={api.kubeconfig}", f"--cache-dir={folder}/cache"]
    command += ["-n", NAMESPACE, *step.arguments]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "KUBECTL_EXTERNAL_DIFF": "diff -u --label=a --label=b",
    }
    if step.edit:
        editor = folder / "editor"
        editor.write_text(f"#!/bin/sh\nexec sed -i -e '{step.edit}' \"$1\"\n")
        editor.chmod(stat.S_IRWXU)
        environment["KUBE_EDITOR"] = str(editor)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder / "objects",
            timeout=STEP_WITHIN,
        )
    except subprocess.TimeoutExpired:
        return Said(-1, f"did not end within {STEP_WITHIN:.0f} s")
    return Said(done.returncode, done.stdout.replace(str(folder), "FOLDER"))
