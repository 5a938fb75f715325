"""What the cloud keeps of a node that joined: its certificate, and the serials of all that it was given.

A ConfigMap `edgemesh-node-NAME` with the finalizer edgemesh.kubeedge.io/revoke: who deletes it (`edgemesh node
delete`, or kubectl) revokes the node, since it goes only when its serials are in the list of the revoked. The
CertificateSigningRequest is there for people to see; clusters delete those after an hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from cryptography import x509

from edgemesh.authority import SHOWN_FOR
from edgemesh.join.objects import CONFIG_MAPS, Object
from edgemesh.names import NODE_LABEL, SYSTEM_NAMESPACE

PREFIX = "edgemesh-node-"
FINALIZER = "edgemesh.kubeedge.io/revoke"
SELECTOR = {"labelSelector": NODE_LABEL}
"""Lists the records."""
FRESH = 0.7
"""Of a certificate's life: so long the same one is given again, after that it may be renewed."""


class Record(NamedTuple):
    """`certificate` is the newest, PEM; `issued` has the end of each one that is not long past it, by serial."""

    name: str
    certificate: str
    issued: dict[int, datetime]
    version: str = ""
    deleted: bool = False

    def parsed(self) -> x509.Certificate:
        """The newest certificate."""
        return x509.load_pem_x509_certificate(self.certificate.encode())

    def with_certificate(self, pem: bytes, now: datetime) -> Record:
        """The record with a newer certificate."""
        certificate = x509.load_pem_x509_certificate(pem)
        issued = {serial: ends for serial, ends in self.issued.items() if now - ends < SHOWN_FOR}
        issued[certificate.serial_number] = certificate.not_valid_after_utc
        return self._replace(certificate=pem.decode(), issued=issued)

    def object(self) -> Object:
        """The ConfigMap."""
        metadata = {
            "name": PREFIX + self.name,
            "namespace": SYSTEM_NAMESPACE,
            "labels": {NODE_LABEL: self.name},
            "finalizers": [FINALIZER],
        }
        lines = (f"{serial:x} {ends:%Y-%m-%dT%H:%M:%SZ}\n" for serial, ends in sorted(self.issued.items()))
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata | ({"resourceVersion": self.version} if self.version else {}),
            "data": {"certificate": self.certificate, "issued": "".join(lines)},
        }


def path(name: str) -> str:
    """Where the record of a node is."""
    return f"{CONFIG_MAPS}/{PREFIX}{name}"


def read(obj: Any) -> Record | None:
    """A record by its ConfigMap; None if it is none, or broken."""
    try:
        metadata, data = obj["metadata"], obj["data"]
        issued: dict[int, datetime] = {}
        for line in data["issued"].splitlines():
            serial, ends = line.split()
            issued[int(serial, 16)] = datetime.strptime(ends, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        x509.load_pem_x509_certificate(data["certificate"].encode())
        name = metadata["labels"][NODE_LABEL]
        if metadata["name"] != PREFIX + name:
            return None
        deleted = bool(metadata.get("deletionTimestamp"))
        return Record(name, data["certificate"], issued, metadata.get("resourceVersion", ""), deleted)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def fresh(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it is too early to renew it."""
    return now < certificate.not_valid_before_utc + FRESH * life(certificate)


def life(certificate: x509.Certificate) -> timedelta:
    """How long a certificate is good."""
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc
