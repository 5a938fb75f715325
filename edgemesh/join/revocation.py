"""The cloud's side of `edgemesh node delete`: records that are being deleted go into the list of the revoked.

`revoke` is one pass; the cloud runs it once a second. The list is published as the ConfigMap edgemesh-revoked; the
cloud has a copy of its own beside its key, so that who takes the ConfigMap away or puts an old one in its place lets
nobody in again.
"""

from __future__ import annotations

import base64
import binascii
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from edgemesh import files
from edgemesh.authority import Authority, read_crl
from edgemesh.join import objects, record
from edgemesh.join.objects import Object, Objects
from edgemesh.names import REVOKED_CONFIG, SYSTEM_NAMESPACE

log = logging.getLogger("edgemesh.join")


async def revoke(api: Objects, authority: Authority, kept: Path, now: datetime) -> frozenset[int]:
    """All revoked serials, once those of deleted records are published. `kept` is the cloud's copy of the list.

    Raises ApiStatus, ApiUnreachable, OSError: run it again.
    """
    deleted = [
        (each, found)
        for each in (await api.list(objects.CONFIG_MAPS, record.SELECTOR)).get("items", ())
        if each["metadata"].get("deletionTimestamp") and record.FINALIZER in each["metadata"].get("finalizers", ())
        for found in (record.read(each),)
    ]
    own, published = files.read(kept) or b"", crl_of(await objects.find(api, objects.REVOKED))
    serials = {serial for _, found in deleted if found for serial in found.issued}
    current = read_crl(own, [authority.certificate])
    if current is None or own != published or not serials <= current.revoked.keys():
        own = authority.revoke(serials, [own, published], now)
        files.replace(kept, own)
        await objects.put(api, objects.CONFIG_MAPS, revoked_config(own))
        current = read_crl(own, [authority.certificate])
    assert current is not None
    for each, found in deleted:
        name = each["metadata"]["name"]
        if found is None:
            log.error("ConfigMap %s is broken: which certificates it stood for is not known", name)
        finalizers = [one for one in each["metadata"]["finalizers"] if one != record.FINALIZER]
        await api.update(
            f"{objects.CONFIG_MAPS}/{name}", {**each, "metadata": {**each["metadata"], "finalizers": finalizers}}
        )
        log.info("node %s is revoked", name.removeprefix(record.PREFIX))
    return frozenset(current.revoked)


def revoked_config(crl: bytes) -> Object:
    """The ConfigMap that publishes a list."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": REVOKED_CONFIG, "namespace": SYSTEM_NAMESPACE},
        "data": {"crl": base64.b64encode(crl).decode()},
    }


def crl_of(found: Any) -> bytes:
    """The list (DER) that a ConfigMap publishes; empty where there is none."""
    try:
        return base64.b64decode(found["data"]["crl"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return b""
