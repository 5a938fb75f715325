"""`edgemesh node` and `edgemesh token`: what they do at the API, with an administrator's kubeconfig."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import trio
from cryptography import x509

from edgemesh import authority
from edgemesh import token as tokens
from edgemesh.join import objects, record
from edgemesh.join.objects import Objects, find, remove
from edgemesh.names import NODE_LABEL, NODE_NAME_RULE, SYSTEM_NAMESPACE, is_node_name
from sync.client.connection import ApiStatus

REVOKED_WITHIN = 4.0
"""Seconds that `delete` waits for the cloud."""
LEASES = ("kube-node-lease", SYSTEM_NAMESPACE)


class CommandError(Exception):
    """It was not done, or not all of it; the message says what is left and what to do."""


class JoinLine(NamedTuple):
    """What to type on the new node, and what the token is."""

    command: str
    id: str
    expires: datetime


async def create_token(api: Objects, now: datetime, *, node: str = "", life: timedelta = tokens.LIFE) -> JoinLine:
    """Make a token. Raises CommandError, ApiStatus, ApiUnreachable."""
    if node and not is_node_name(node):
        raise CommandError(f"{node!r} can't be a node's name: {NODE_NAME_RULE}")
    config = (await find(api, objects.CLUSTER) or {}).get("data") or {}
    try:
        pin = authority.pin(x509.load_pem_x509_certificate(config["ca.crt"].encode()))
        url = config["join"]
    except (KeyError, ValueError):
        raise CommandError(
            "the ConfigMap edgemesh-system/edgemesh has no ca.crt and join: 'edgemesh cloud' writes it: does it run?"
        ) from None
    await list_tokens(api, now)
    while True:
        token = tokens.new(pin)
        expires = now + life
        try:
            await api.create(objects.SECRETS, tokens.secret(token, expires, node))
        except ApiStatus as error:
            if error.reason != "AlreadyExists":
                raise
            continue
        named = f" --node-name {node}" if node else ""
        return JoinLine(f"edgemesh join {url} --token {token}{named}", token.id, expires)


async def list_tokens(api: Objects, now: datetime) -> list[tokens.Kept]:
    """The tokens that are good, those that end first first; the others are removed."""
    found = await api.list(objects.SECRETS, {"fieldSelector": f"type={tokens.TYPE}"})
    kept = [token for each in found.get("items") or () if (token := tokens.kept(each))]
    for token in kept:
        if token.expires <= now:
            await remove(api, f"{objects.SECRETS}/{tokens.PREFIX}{token.id}")
    return sorted((token for token in kept if token.expires > now), key=lambda token: token.expires)


async def revoke_token(api: Objects, id: str) -> None:
    """Raises CommandError where there is none."""
    id = id.partition(".")[0]  # a whole token is taken too
    if not await remove(api, f"{objects.SECRETS}/{tokens.PREFIX}{id}"):
        raise CommandError(f"there is no token {id}: see 'edgemesh token list'")


OF_THE_NODE = ("MeshNode", "Leases")
"""What a node writes itself: a finalizer of its own there is no reason to keep the object."""


class NodeLine(NamedTuple):
    """A node as `edgemesh node list` shows it; empty where it is not known. `ends` is its certificate's."""

    name: str
    ready: str
    zone: str
    address: str
    key: str
    ends: datetime | None


async def list_nodes(api: Objects) -> list[NodeLine]:
    """All that have joined, have a Node or have a MeshNode, by name."""
    records = {
        found.name: found
        for each in (await api.list(objects.CONFIG_MAPS, record.SELECTOR)).get("items") or ()
        if (found := record.read(each))
    }
    nodes = await _by_name(api, objects.NODES)
    meshes = await _by_name(api, objects.MESH_NODES)
    lines = []
    for name in sorted({*records, *nodes, *meshes}):
        node, mesh = nodes.get(name, {}), meshes.get(name, {})
        conditions = (node.get("status") or {}).get("conditions") or ()
        ready = next((each.get("status", "") for each in conditions if each.get("type") == "Ready"), "")
        lines.append(
            NodeLine(
                name=name,
                ready={"True": "Ready", "False": "NotReady", "Unknown": "NotReady"}.get(ready, ""),
                zone=((node.get("metadata") or {}).get("labels") or {}).get("topology.kubernetes.io/zone", ""),
                address=", ".join((mesh.get("status") or {}).get("meshAddresses") or ()),
                key=(mesh.get("spec") or {}).get("publicKey", ""),
                ends=records[name].parsed().not_valid_after_utc if name in records else None,
            )
        )
    return lines


async def _by_name(api: Objects, path: str) -> dict[str, Any]:
    try:
        return {each["metadata"]["name"]: each for each in (await api.list(path)).get("items") or ()}
    except ApiStatus as error:
        if error.code != 404:  # the CRD is not there yet
            raise
        return {}


async def delete_node(api: Objects, name: str) -> list[str]:
    """Cut a node off: what was removed, in words. Raises CommandError where the cloud did not revoke it in time.

    First the record, so that the certificate is refused before the rest goes: a node that is still let in would make
    its MeshNode again.
    """
    if not is_node_name(name):
        raise CommandError(f"{name!r} can't be a node's name: {NODE_NAME_RULE}")
    done: list[str] = []
    revoked = True
    if await remove(api, record.path(name)):
        with trio.move_on_after(REVOKED_WITHIN) as scope:
            await _gone(api, record.path(name))
        revoked = not scope.cancelled_caught
        done += ["certificate revoked"] * revoked
    requests = await api.list(objects.REQUESTS, {"labelSelector": f"{NODE_LABEL}={name}"})
    paths = {
        "MeshNode": [f"{objects.MESH_NODES}/{name}"],
        "Node": [f"{objects.NODES}/{name}"],
        "Leases": [f"{objects.leases(namespace)}/{name}" for namespace in LEASES],
        "CertificateSigningRequests": [
            f"{objects.REQUESTS}/{each['metadata']['name']}" for each in requests.get("items") or ()
        ],
        "tokens": [
            f"{objects.SECRETS}/{each['metadata']['name']}"
            for each in (await api.list(objects.SECRETS, {"fieldSelector": f"type={tokens.TYPE}"})).get("items") or ()
            if _bound(each) == name
        ],
    }
    for what, all_of_it in paths.items():
        if sum([await remove(api, path, whatever=what in OF_THE_NODE) for path in all_of_it]):
            done.append(f"{what} deleted")
    if not revoked:
        raise CommandError(
            f"{name}: {', '.join(done) or 'nothing deleted'}, but 'edgemesh cloud' has not revoked the certificate "
            f"within {REVOKED_WITHIN:g} s: it does so as soon as it runs; until then the node may still be let in"
        )
    if not done:
        raise CommandError(f"there is no node {name}: see 'edgemesh node list'")
    return done


async def _gone(api: Objects, path: str) -> None:
    """Wait until an object is gone; what has it is another process."""
    while await find(api, path) is not None:  # noqa: ASYNC110
        await trio.sleep(0.1)


def _bound(secret: dict[str, Any]) -> str:
    try:
        return base64.b64decode(secret["data"]["node"]).decode()
    except (KeyError, TypeError, ValueError):
        return ""
