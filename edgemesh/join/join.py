"""`edgemesh join`: makes this machine a node. Each step is taken if it is still to be taken, so it may be interrupted
anywhere and run again; run once more when all is done it changes nothing, and needs neither token nor network. A node
that the cloud says was deleted joins anew, with a new key, if a token is given.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio
from msgspec import Struct

from edgemesh import files, renewal
from edgemesh import token as tokens
from edgemesh.address import host_port
from edgemesh.authority import utc
from edgemesh.join import csr, trust, units
from edgemesh.join.files_of_node import File, Places, agent_config, kubeconfig
from edgemesh.join.messages import GONE, Cluster, JoinAnswer, JoinRequest
from edgemesh.join.trust import JoinError
from edgemesh.names import NODE_NAME_RULE, is_node_name
from sync.client.connection import Api, ApiStatus, ApiUnreachable
from sync.client.kubeconfig import Access
from sync.resources.validate import split_host_port

Say = Callable[[str], None]

ASK_TIMEOUT = 5.0
"""Seconds that a node which has joined asks whether it still counts: it may be at sea."""


class Wish(Struct, frozen=True, kw_only=True):
    """What was asked for on the command line; `token` is the text, or empty where there is none.

    `relay` is whether the others are relayed by this machine, too.
    """

    url: str
    token: str
    name: str
    zone: str = ""
    places: Places = Places()
    systemd: bool = True
    relay: bool = False

    def __repr__(self) -> str:
        return f"Wish({self.url}, {self.name})"


def join(wish: Wish, say: Say = print) -> None:
    """Join, and say what was done. Raises JoinError."""
    if not is_node_name(wish.name):
        raise JoinError(f"{wish.name!r} can't be a node's name: {NODE_NAME_RULE}; say another with --node-name")
    try:
        cluster, ca, joined = _membership(wish, say)
        changed = _derived(wish, cluster, ca, say, joined)
    except OSError as error:
        do = "run as root" if isinstance(error, PermissionError) else "see to it, and run this again"
        raise JoinError(f"{error.filename or wish.places.state_dir}: {error.strerror}: {do}") from None
    enabled = _enable(wish, changed, say)
    if not (joined or changed or enabled):
        say(f"this machine is the node {wish.name} of the cluster at {cluster.join} already: nothing to do")
        if wish.url.rstrip("/") not in ("", cluster.join) and not wish.token.strip():
            say(f"{wish.url} was not asked: whether it is that cluster, too, is told by a token from there")
    elif not enabled:
        start = ", ".join(f"edgemesh {unit.split('-')[1].split('.')[0]}" for unit in units.names(wish.relay))
        say(f"next: start these where they do not run yet, each as a process of its own: {start}")
    say("look with: edgemesh status")


def _membership(wish: Wish, say: Say) -> tuple[Cluster, str, bool]:
    """The cluster, its CA in PEM, and whether the node joined just now."""
    places = wish.places
    held = [files.read(path) for path in (places.certificate, places.cluster, places.ca, places.key)]
    if all(held):
        certificate, told, ca, key = (each or b"" for each in held)
        try:
            trust.check_certificate(certificate.decode(), wish.name, csr.read_key(key), ca.decode())
            cluster = msgspec.json.decode(told, type=Cluster)
        except (JoinError, csr.CsrError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise JoinError(
                f"this machine has joined already, otherwise than asked for: {error}. To join anew, run 'edgemesh node "
                f"delete' for the old node, and remove {places.pki} here"
            ) from None
        _same_cluster(wish, cluster, ca.decode())
        if not _deleted(wish, cluster, say):
            return cluster, ca.decode(), False
        if not wish.token.strip():
            raise JoinError(
                f"this machine is the node {wish.name} of the cluster at {cluster.join}, which was deleted there: to "
                f"join anew, give a token: 'edgemesh token create --node {wish.name}' there prints the command"
            )
        say(f"the node {wish.name} was deleted from the cluster at {cluster.join}: it joins anew, with a new key")
        wish = msgspec.structs.replace(wish, url=wish.url or cluster.join)
        return *_ask(wish, say, places.next_key), True
    interrupted = places.next_key.exists()  # while it joined anew
    return *_ask(wish, say, places.next_key if interrupted else places.key), True


def _same_cluster(wish: Wish, cluster: Cluster, ca: str) -> None:
    """Raise JoinError where a token is given, and is not of the cluster with this CA."""
    if not wish.token.strip():
        return
    token = _token(wish)
    if token.pin not in trust.pins(ca):
        stop = " ".join(units.names(wish.relay))
        raise JoinError(
            f"this machine is the node {wish.name} of the cluster at {cluster.join}, and the token is another "
            f"cluster's. To change: 'edgemesh node delete {wish.name}' there; here stop the node's processes "
            f"('systemctl stop {stop}'), remove {wish.places.pki} and {wish.places.config}, and run this again"
        )


def _deleted(wish: Wish, cluster: Cluster, say: Say) -> bool:
    """Whether the cloud says that the node was deleted; a cloud that can't be asked has not said so."""
    try:
        trio.run(renewal.renew, wish.places.pki, wish.name, ASK_TIMEOUT)
    except renewal.RenewalError as error:
        if error.code == GONE:
            return True
        if error.code == 403:
            raise JoinError(str(error)) from None
        say(f"whether the node still counts in the cluster at {cluster.join} is not known: {error}")
    return False


def _token(wish: Wish) -> tokens.Token:
    try:
        return tokens.read(wish.token)
    except tokens.TokenError as error:
        raise JoinError(str(error)) from None


def _ask(wish: Wish, say: Say, key_file: Path) -> tuple[Cluster, str]:
    """Get a certificate from the cloud for the key in `key_file`, and keep both.

    What the node has is left until the cloud has answered. Interrupted after that, it has not joined, and the next run
    gets the same certificate for the same key.
    """
    places = wish.places
    if not trust.is_join_url(wish.url):
        raise JoinError(
            f"{wish.url!r} is no join URL: 'edgemesh token create' prints it, such as https://cloud.example:10002"
        )
    token = _token(wish)
    told = trust.fetch(wish.url)
    ca = trust.pinned(told, token.pin)
    say(f"the cloud at {wish.url} is the one that the token is from")
    key = csr.read_key(_key(places, key_file, say))
    request = JoinRequest(wish.token.strip(), csr.make(key, wish.name), wish.name, wish.zone)
    answer = trio.run(_post, wish.url, ca, request, told.time)
    certificate = trust.check_certificate(answer.certificate, wish.name, key, ca)
    trust.check_clock(certificate, utc(time.time()), told.time)
    if key_file != places.key:
        places.certificate.unlink(missing_ok=True)
        key_file.replace(places.key)
    files.replace(places.ca, ca.encode(), 0o644)
    if answer.api_ca is None:
        places.api_ca.unlink(missing_ok=True)
    else:
        files.replace(places.api_ca, answer.api_ca.encode(), 0o644)
    files.replace(places.cluster, msgspec.json.format(msgspec.json.encode(answer.cluster)) + b"\n", 0o644)
    files.replace(places.certificate, answer.certificate.encode(), 0o644)
    say(f"joined as {wish.name}: certificate until {certificate.not_valid_after_utc:%Y-%m-%d} in {places.pki}")
    return answer.cluster, ca


def _key(places: Places, path: Path, say: Say) -> bytes:
    key = files.read(path)
    if key is None:
        places.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        places.pki.mkdir(mode=0o700, exist_ok=True)
        key = csr.new_key()
        files.replace(path, key)
        say(f"made this node's key, {path}: it never leaves this machine")
    try:
        csr.read_key(key)
    except csr.CsrError as error:
        raise JoinError(f"{path}: {error}: restore it from a copy, or remove it to get a new one") from None
    return key


async def _post(url: str, ca: str, request: JoinRequest, cloud: float) -> JoinAnswer:
    try:
        async with Api(Access(server=url.rstrip("/"), ca=ca), request_timeout=trust.TIMEOUT) as api:
            return msgspec.json.decode(
                await api.request("POST", "/join", body=msgspec.json.encode(request)), type=JoinAnswer
            )
    except ApiStatus as error:
        raise JoinError(f"the cloud refuses: {error.message}") from None
    except ApiUnreachable as error:
        now = utc(time.time())
        if "not yet valid" in str(error) or "expired" in str(error):
            raise JoinError(f"{error}: {trust.clocks(now, cloud)}") from None
        raise JoinError(str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise JoinError(f"{url} does not answer as this version of a cloud does") from None


def _derived(wish: Wish, cluster: Cluster, ca: str, say: Say, joined: bool) -> bool:
    """Write what follows from the membership. Whether anything was written."""
    places = wish.places
    api_ca = files.read(places.api_ca)
    wanted = [kubeconfig(places, wish.name, cluster, ca if api_ca is None else api_ca.decode())]
    if joined or files.read(places.config) is None:  # else it is the operator's, and no relay's name is looked up
        cluster = msgspec.structs.replace(cluster, relays=tuple(_resolved(cluster.relays, say)))
        wanted.append(agent_config(places, cluster))
    wanted += units.units(places, wish.name, program(), relay=wish.relay) if wish.systemd else []
    return sum(_write(file, say) for file in wanted) > 0


def _write(file: File, say: Say) -> bool:
    there = files.read(file.path)
    if there == file.text.encode():
        return False
    if there is not None and not file.ours:
        say(f"kept {file.path}, which is not as join would write it: move it away and run this again to have that")
        return False
    files.replace(file.path, file.text.encode(), file.mode)
    say(f"wrote {file.path}")
    return True


def _resolved(relays: tuple[str, ...], say: Say) -> list[str]:
    """Relays by address, which is what the configuration takes."""
    found = []
    for relay in relays:
        host, port = split_host_port(relay, 20006)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            try:
                host = str(socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0])
            except OSError as error:
                say(f"relay {relay} is left out: {error.strerror}")
                continue
        found.append(host_port(host, port))
    return found


def _enable(wish: Wish, changed: bool, say: Say) -> bool:
    """Have systemd start the units, where it runs. Whether it was told to."""
    if not wish.systemd or not units.RUNNING.is_dir():
        return False
    names = units.names(wish.relay)
    check = subprocess.run(["systemctl", "is-enabled", "--quiet", *names], check=False, timeout=30)
    if check.returncode == 0 and not changed:
        return False
    for words in (["daemon-reload"], ["enable", "--now", *names]):
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False, timeout=90)
        if done.returncode:
            raise JoinError(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}: see to it, and run this again")
    say("enabled and started " + ", ".join(names))
    return True


def program() -> str:
    """The path of the command that runs."""
    beside = Path(sys.executable).parent / "edgemesh"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("edgemesh") or "/usr/bin/env edgemesh"
