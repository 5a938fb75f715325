"""What the cloud keeps on disk: the cluster's CA, certificates of its own, kubeconfigs, the database.

STATE/ca.crt, ca.key                      the cluster's CA (see edgemesh.authority)
STATE/server.crt, server.key              of the API and the join endpoint
STATE/cloud.crt, cloud.key                the controllers', at the embedded API
STATE/admin.kubeconfig                    yours: all rights, for a year
STATE/api.db                              the embedded API's objects
STATE/revoked.crl                         the list of the revoked
STATE/cluster.json                        ranges and domain, which a cluster keeps

Keys and kubeconfigs are mode 0600. Certificates are made anew when they are past `RENEW` of their life, or are for
other names than they should be.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from msgspec import Struct

from edgemesh import authority, files
from edgemesh.address import host_port
from edgemesh.authority import Authority, AuthorityError
from edgemesh.cloud.options import Options
from sync.client.kubeconfig import Access

ADMINS = "system:masters"
"""Kubernetes' group of all rights."""
CLOUD_USER = "edgemesh:cloud"
RENEW = 0.7
KEPT = "cluster.json"

log = logging.getLogger("edgemesh.cloud")


class StateError(Exception):
    """The state directory can't be used; the message says which file, why, and what to do."""


class State(Struct, frozen=True):
    """The files; `authority` signs."""

    folder: Path
    authority: Authority

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The servers' certificate."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """The servers' key."""
        return self.folder / "server.key"

    def access(self, server: str) -> Access:
        """The controllers' way to the embedded API, at this URL."""
        certificate, key = map(str, self._client)
        return Access(server=server, ca=self.authority.pem.decode(), certificate=certificate, key=key)

    @property
    def _client(self) -> tuple[Path, Path]:
        """The controllers' certificate and key."""
        return self.folder / "cloud.crt", self.folder / "cloud.key"

    @property
    def admin(self) -> Path:
        """The administrator's."""
        return self.folder / "admin.kubeconfig"

    @property
    def database(self) -> Path:
        """The embedded API's."""
        return self.folder / "api.db"

    @property
    def revoked(self) -> Path:
        """The list of the revoked, DER."""
        return self.folder / "revoked.crl"

    def revoked_serials(self) -> frozenset[int]:
        """Those on the list; none where there is no list yet."""
        found = authority.read_crl(files.read(self.revoked) or b"", [self.authority.certificate])
        return frozenset(found.revoked) if found else frozenset()

    def keep_server(self, wanted: Sequence[str], now: datetime) -> bool:
        """Make the servers' certificate where it is missing, old or for other names; whether it is new."""
        found = _certificate(self.certificate)
        if found and self.key.exists() and self._good(found, now) and _names(found) == set(wanted):
            return False
        made = self.authority.server(wanted, now)
        files.replace(self.key, made.key)
        files.replace(self.certificate, made.certificate, 0o644)
        log.info("the servers' certificate is new, for %s", ", ".join(wanted))
        return True

    def keep_clients(self, server: str, now: datetime) -> bool:
        """Make the controllers' certificate and the administrator's kubeconfig, for the embedded API at this URL;
        whether one is new."""
        certificate, key = self._client
        new = False
        if not (found := _certificate(certificate)) or not self._good(found, now):
            made = self.authority.client(CLOUD_USER, (ADMINS,), now)
            files.replace(key, made.key)
            files.replace(certificate, made.certificate, 0o644)
            new = True
        if not self._admin_is_good(server, now):
            made = self.authority.client("admin", (ADMINS,), now)
            files.replace(self.admin, _kubeconfig(server, self.authority.pem, made.certificate, made.key))
            new = True
        return new

    def _admin_is_good(self, server: str, now: datetime) -> bool:
        text = (files.read(self.admin) or b"").decode(errors="replace")
        for line in text.splitlines():
            key, _, value = line.strip().partition(": ")
            if key == "client-certificate-data":
                try:
                    found = x509.load_pem_x509_certificate(base64.b64decode(value))
                except ValueError:
                    return False
                return self._good(found, now) and f"server: {server}\n" in text
        return False

    def _good(self, certificate: x509.Certificate, now: datetime) -> bool:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return self.authority.issued(certificate) and begins <= now < begins + RENEW * (ends - begins)


def load(options: Options, now: datetime) -> State:
    """The state directory, made if need be; where it can't be used nothing is written. Raises StateError."""
    folder = options.state_dir.absolute()
    try:
        given = authority.load(*options.authority) if options.authority else None
        _check(folder, options)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        state = State(folder, given or authority.load_or_make(folder, now))
        if given and files.read(state.ca) != given.pem:
            files.replace(state.ca, given.pem, 0o644)
        kept = msgspec.json.format(msgspec.json.encode(Kept.of(options))) + b"\n"
        if files.read(folder / KEPT) != kept:
            files.replace(folder / KEPT, kept)
    except OSError as error:
        do = "run as root, or name another with --state-dir" if isinstance(error, PermissionError) else "see there"
        raise StateError(
            f"{error.filename or folder}: {error.strerror}: the cloud's state is kept there: {do}"
        ) from None
    except AuthorityError as error:
        raise StateError(str(error)) from None
    return state


class Kept(Struct, frozen=True, rename="kebab"):
    """What a cluster keeps from its first start on: options by their names.

    Objects have addresses of the ranges, and nodes were told ranges and domain when they joined.
    """

    service_range: str
    pod_range: str
    mesh_range: str
    cluster_domain: str

    @classmethod
    def of(cls, options: Options) -> Kept:
        """As the options say."""
        return cls(options.service_range, options.pod_range, options.mesh_range, options.cluster_domain)


def _check(folder: Path, options: Options) -> None:
    """What is there has its CA, and is of a cluster as the options say. Raises StateError."""
    database, authority_files = folder / "api.db", [folder / "ca.crt", folder / "ca.key"]
    if database.exists():
        if not options.embedded:
            raise StateError(
                f"{database} is of a cloud with an API of its own: name another --state-dir beside a cluster that is "
                "there, or leave --kubeconfig out"
            )
        if not any(path.exists() for path in authority_files):
            raise StateError(
                f"{' and '.join(map(str, authority_files))} are missing, and {database} is there: with another CA all "
                f"nodes would be cut off. Put both back from a backup; without one, move {folder} away to begin anew, "
                "and have all nodes join again"
            )
    elif options.embedded:
        return  # nothing has an address yet
    path = folder / KEPT
    if (text := files.read(path)) is None:
        return
    try:
        kept = msgspec.json.decode(text, type=Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StateError(
            f"{path} can't be read ({error}): put it back from a backup, or remove it to have it written anew from "
            "the options, which then must be those that the cluster began with"
        ) from None
    before, wanted = msgspec.to_builtins(kept), msgspec.to_builtins(Kept.of(options))
    for name, value in before.items():
        if value != wanted[name]:
            raise StateError(
                f"--{name} {wanted[name]}: this cluster has {value}, by which its nodes and services have addresses "
                f"and names: start it with --{name} {value}, or begin anew with an empty --state-dir"
            )


def _certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(files.read(path) or b"")
    except ValueError:
        return None


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return set()
    addresses = found.get_values_for_type(x509.IPAddress)
    return {*map(str, addresses), *found.get_values_for_type(x509.DNSName)}


def _kubeconfig(server: str, ca: bytes, certificate: bytes, key: bytes) -> bytes:
    return f"""apiVersion: v1
kind: Config
current-context: edgemesh
clusters:
- name: edgemesh
  cluster:
    server: {server}
    certificate-authority-data: {base64.b64encode(ca).decode()}
contexts:
- name: edgemesh
  context:
    cluster: edgemesh
    user: admin
users:
- name: admin
  user:
    client-certificate-data: {base64.b64encode(certificate).decode()}
    client-key-data: {base64.b64encode(key).decode()}
""".encode()


def url(host: str, port: int) -> str:
    """Of an HTTPS server."""
    return f"https://{host_port(host, port)}"
