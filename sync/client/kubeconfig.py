"""How to reach an API and as whom: a kubeconfig file.

Of a kubeconfig the current context is used: the cluster's `server`, `certificate-authority(-data)` and
`tls-server-name`; the user's client certificate and key, in files or inline, or its bearer token, in a file or
inline. What would need another program (`exec`, `auth-provider`), a password, a proxy, or no check of the server is
refused, and says what to use in its place. An API without TLS is taken on the machine itself only.

Source: kubernetes.io, "Organizing Cluster Access Using kubeconfig Files"; client-go's tools/clientcmd/api/v1.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, field

_REFUSED_OF_USER = {
    "exec": "programs for credentials are not run: a client certificate, or 'tokenFile'",
    "auth-provider": "providers of credentials are not known here: a client certificate, or 'tokenFile'",
    "username": "passwords are not sent: a client certificate, or 'tokenFile'",
}
_REFUSED_OF_CLUSTER = {
    "proxy-url": "proxies are not used: a server that can be reached directly",
    "insecure-skip-tls-verify": "an unknown server is not trusted: 'certificate-authority' or its data",
}


class KubeconfigError(Exception):
    """The file can't be used; the message says which file and field, what is wrong, and what would be right."""


class Access(Struct, frozen=True, kw_only=True):
    """An API's URL and the client's credentials.

    `ca` is PEM text, empty for the system's authorities. Certificate and key are files (read again when they change)
    or, where the kubeconfig had them inline, PEM text; likewise the token.
    """

    server: str
    ca: str = ""
    server_name: str = ""
    certificate: str = ""
    key: str = ""
    certificate_pem: str = ""
    key_pem: str = ""
    token_file: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Access({self.server})"  # the rest may be secret


class _Named(Struct):
    name: str


class _Cluster(Struct, rename="kebab"):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    tls_server_name: str = ""


class _User(Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = field(default="", name="tokenFile")


class _Context(Struct):
    cluster: str
    user: str = ""


class _ClusterEntry(_Named):
    cluster: dict[str, object]


class _UserEntry(_Named):
    user: dict[str, object] | None = None


class _ContextEntry(_Named):
    context: _Context


T = TypeVar("T", bound=Struct)
E = TypeVar("E", bound=_Named)


class _Kubeconfig(Struct):
    clusters: list[_ClusterEntry]
    contexts: list[_ContextEntry]
    current_context: Annotated[str, Meta(min_length=1)] = field(name="current-context")
    users: list[_UserEntry] | None = None


def load(path: str | Path, *, master: str = "") -> Access:
    """Read a kubeconfig; `master` replaces the server's URL where it is given. Raises KubeconfigError."""
    from sync.client import document

    try:
        documents = document.read(Path(path).read_bytes())
    except OSError as error:
        raise KubeconfigError(f"{path}: can't be read: {error.strerror}") from None
    except document.DocumentError as error:
        raise KubeconfigError(f"{path}:{error.line}: {error.wrong}; {error.right or 'a kubeconfig'}") from None
    reader = _Reader(Path(path))
    if len(documents) != 1:
        raise reader.error("", f"has {len(documents)} documents", "one kubeconfig")
    whole = reader.convert(documents[0].data, _Kubeconfig, "")
    context = reader.named("contexts", whole.contexts, whole.current_context, "current-context").context
    cluster_at, user_at = f"clusters[{context.cluster}].cluster", f"users[{context.user}].user"
    cluster_data = reader.named("clusters", whole.clusters, context.cluster, "context.cluster").cluster
    reader.refuse(cluster_data, _REFUSED_OF_CLUSTER, cluster_at)
    cluster = reader.convert(cluster_data, _Cluster, cluster_at)
    user = _User()
    if context.user:
        user_data = reader.named("users", whole.users or [], context.user, "context.user").user or {}
        reader.refuse(user_data, _REFUSED_OF_USER, user_at)
        user = reader.convert(user_data, _User, user_at)
    server, problem = _server(master or cluster.server)
    if problem:
        raise reader.error(
            "kubeAPIConfig.master" if master else f"{cluster_at}.server", problem, "such as https://api.example:6443"
        )
    access = Access(
        server=server,
        ca=reader.text(cluster.certificate_authority, cluster.certificate_authority_data, cluster_at),
        server_name=cluster.tls_server_name,
        certificate="" if user.client_certificate_data else reader.path(user.client_certificate),
        key="" if user.client_key_data else reader.path(user.client_key),
        certificate_pem=reader.data(user.client_certificate_data, f"{user_at}.client-certificate-data"),
        key_pem=reader.data(user.client_key_data, f"{user_at}.client-key-data"),
        token_file=reader.path(user.token_file),
        token=user.token,
    )
    if bool(access.certificate or access.certificate_pem) != bool(access.key or access.key_pem):
        raise reader.error(user_at, "has a client certificate or a key without the other", "both")
    return access


def of_master(master: str) -> Access:
    """An API's URL alone (EdgeMesh's kubeAPIConfig.master), without credentials. Raises KubeconfigError."""
    server, problem = _server(master)
    if problem:
        raise KubeconfigError(f"kubeAPIConfig.master: {problem}; such as https://api.example:6443")
    return Access(server=server)


class _Reader:
    """One file: its fields' errors, and paths beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def error(self, at: str, wrong: str, right: str) -> KubeconfigError:
        return KubeconfigError(": ".join(filter(None, (str(self._path), at, f"{wrong}; {right}"))))

    def convert(self, data: object, kind: type[T], at: str) -> T:
        from sync.resources.shape import spell, translate

        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if value is not None}
        try:
            return msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            fault = translate(str(error), data, kind)
            where = ".".join(filter(None, (at, spell(fault.path))))
            raise self.error(where, fault.wrong, fault.right or "a kubeconfig") from None

    def named(self, what: str, entries: list[E], name: str, by: str) -> E:
        for entry in entries:
            if entry.name == name:
                return entry
        there = ", ".join(entry.name for entry in entries) or "none at all"
        raise self.error(by, f"names {name!r}, which is not among {what}", f"one of those there: {there}")

    def refuse(self, data: dict[str, object], refused: Mapping[str, str], at: str) -> None:
        for name, why in refused.items():
            if data.get(name):
                raise self.error(f"{at}.{name}", "is not supported", why)

    def path(self, text: str) -> str:
        """A file named in the kubeconfig; relative ones stand beside it."""
        return str(self._path.parent / text) if text else ""

    def text(self, file: str, data: str, at: str) -> str:
        """A certificate authority, inline or in a file; inline wins, as with kubectl."""
        if data:
            return self.data(data, f"{at}.certificate-authority-data")
        if not file:
            return ""
        path = self.path(file)
        try:
            return Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = f"can't be read: {error.strerror}" if isinstance(error, OSError) else "is not text"
            raise self.error(f"{at}.certificate-authority", f"{path} {why}", "a certificate in PEM") from None

    def data(self, text: str, at: str) -> str:
        try:
            return base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise self.error(at, "is not base64 of PEM text", "what 'base64 -w0 FILE' gives") from None


def _server(url: str) -> tuple[str, str]:
    """A server's URL in its normal form, and what is wrong with it."""
    url = url.strip().rstrip("/")
    if "://" not in url:  # as kubectl reads it
        url = f"http://{url}" if _is_loopback(url.rpartition(":")[0].strip("[]")) else f"https://{url}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "", f"{url!r} is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        return "", f"{url!r} is not the URL of an API"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "", f"{url!r} has no TLS, and is not on this machine"
    return url, ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
