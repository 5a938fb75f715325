"""A cluster's address ranges and domain: the defaults, and what can't be one; in the cloud's options and agents' files.

Everybody in a cluster has the same: the cloud gives addresses, and nodes route and translate by them.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

SERVICE_RANGE = "10.96.0.0/12"
POD_RANGE = "10.244.0.0/16"
MESH_RANGE = "10.222.0.0/16"
CLUSTER_DOMAIN = "cluster.local"

RESERVED = ("100.64.0.0/10", "172.17.0.0/16", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/4")
"""Ranges that sites have in use by default (carriers, Docker, home networks, link-local): no place for the mesh."""

_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""Of a domain's name (RFC 1123, 2.1)."""


class Setting(NamedTuple):
    """What a range is called where it is set, and its CIDR text."""

    name: str
    text: str


class Wrong(NamedTuple):
    """A setting that can't be: its name, what is wrong, and what would be right."""

    name: str
    wrong: str
    right: str


def wrong(domain: Setting, service: Setting, pod: Setting, mesh: Setting) -> Iterator[Wrong]:
    """A domain that is none, capitals and a dot at the end taken; ranges that are none, or not IPv4, as services, pods
    and mesh addresses are, or that overlap."""
    if not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*\.?", domain.text.lower()):
        yield Wrong(domain.name, f"{domain.text!r} is not a domain", f"such as {CLUSTER_DOMAIN}")
    known: dict[str, ipaddress.IPv4Network] = {}
    for name, text in (service, pod, mesh):
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as error:
            bits = "host bits" in str(error)
            right = str(ipaddress.IPv4Network(text, strict=False)) if bits else f"such as {SERVICE_RANGE}"
            yield Wrong(name, f"{text!r} is not a range of IPv4 addresses", right)
            continue
        for other, taken in known.items():
            if network.overlaps(taken):
                yield Wrong(name, f"{network} overlaps {other} {taken}", "a range of its own")
        if name == mesh.name:
            for taken in map(ipaddress.IPv4Network, RESERVED):
                if network.overlaps(taken):
                    yield Wrong(name, f"{network} overlaps {taken}, which sites use", f"such as {MESH_RANGE}")
        known[name] = network


def normal(domain: str) -> str:
    """A domain as names are compared with it."""
    return domain.rstrip(".").lower()
