"""NAT routers of each kind that is met in the field, made of nftables, and weather: blocked ways and loss.

A kind is named by what users call it; the terms of RFC 4787 (section 4.1 mapping, section 5 filtering) say what it
does: EIM, APDM: endpoint-independent, address-and-port-dependent mapping; EIF, ADF, APDF: endpoint-independent,
address-dependent, address-and-port-dependent filtering.

Linux's own source NAT maps endpoint-independently as long as no two inside hosts use one port, and its connection
tracking filters by address and port. The freer kinds are made of it by a map, written after source NAT from
external port to inside address and port, that incoming packets are translated by. The map's update stands in a
chain of type filter: one of type nat sees only the first packet of a flow, and the entry would expire under traffic.

Unsolicited packets are dropped on the WAN side by all kinds but `linux-gateway`: that one lets them reach itself,
where they leave an unreplied entry that takes the tuple the inside host's own packet would get. This clash is what
breaks hole punching.
"""

from __future__ import annotations

from enum import StrEnum

from e2e.lab.namespaces import Space

WAN, LAN = "wan", "lan"
"""The names of every router's two devices."""


class Nat(StrEnum):
    """How a router translates and filters UDP."""

    CONE = "cone"
    RESTRICTED = "restricted"
    PORT_RESTRICTED = "port-restricted"
    SYMMETRIC = "symmetric"
    LINUX_GATEWAY = "linux-gateway"


TERMS = {
    Nat.CONE: "EIM/EIF",
    Nat.RESTRICTED: "EIM/ADF",
    Nat.PORT_RESTRICTED: "EIM/APDF",
    Nat.SYMMETRIC: "APDM/APDF",
    Nat.LINUX_GATEWAY: "EIM/APDF, and answers unsolicited packets itself",
}
"""Mapping and filtering in the terms of RFC 4787."""


class Reach(StrEnum):
    """What two sites' nodes must reach; EITHER: the kinds allow a direct path, but not every time."""

    DIRECT = "direct"
    RELAYED = "relayed"
    EITHER = "either"


_FREE = frozenset({Nat.CONE, Nat.RESTRICTED})


def expected(left: Nat, right: Nat) -> Reach:
    """What a pair of routers must reach: the table of docs/nat.md (a test holds the two together)."""
    if _FREE & {left, right}:
        return Reach.DIRECT
    if Nat.LINUX_GATEWAY in (left, right):
        return Reach.EITHER
    return Reach.RELAYED if Nat.SYMMETRIC in (left, right) else Reach.DIRECT


_DROP_NEW_INPUT = """
    chain input { type filter hook input priority filter; iifname "wan" ct state new,invalid drop; }
"""

_DROP_NEW_FORWARD = """
    chain forward {
        type filter hook forward priority filter
        iifname "wan" ct state new,invalid drop
    }
"""

_MAPPED_FORWARD = """
    chain forward {
        type filter hook forward priority filter
        iifname "wan" ct status dnat accept
        iifname "wan" ct state new,invalid drop
    }
"""

_MAP = """
    map inside_of { type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; size 4096; }
    set allowed { type ipv4_addr . inet_service; flags dynamic,timeout; timeout 5m; size 65536; }
    chain remember_in {
        update @inside_of { udp sport : ct reply ip saddr . ct reply proto-src }
    }
    chain remember_out {
        update @inside_of { udp sport : ct original ip saddr . ct original proto-src }
        update @allowed { ip daddr . udp sport }
    }
    chain remember {
        type filter hook postrouting priority srcnat + 10
        oifname "wan" meta l4proto udp ct direction original jump remember_out
        oifname "wan" meta l4proto udp ct direction reply jump remember_in
    }
"""


def _postrouting(translate: str) -> str:
    return f"""
    chain postrouting {{ type nat hook postrouting priority srcnat; oifname "wan" {translate}; }}
"""


def rules(kind: Nat, address: str) -> str:
    """The router's ruleset (nft script) for its kind and WAN address; replaces a former one as one transaction."""
    if kind in (Nat.CONE, Nat.RESTRICTED):
        condition = "ip saddr . udp dport @allowed " if kind is Nat.RESTRICTED else ""
        body = f"""{_MAP}
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "wan" ip daddr {address} meta l4proto udp {condition}dnat to udp dport map @inside_of
    }}
{_postrouting(f"snat to {address}")}{_DROP_NEW_INPUT}{_MAPPED_FORWARD}"""
    elif kind is Nat.PORT_RESTRICTED:
        body = _postrouting("masquerade") + _DROP_NEW_INPUT + _DROP_NEW_FORWARD
    elif kind is Nat.SYMMETRIC:
        body = _postrouting("masquerade fully-random") + _DROP_NEW_INPUT + _DROP_NEW_FORWARD
    else:
        body = _postrouting("masquerade") + _DROP_NEW_FORWARD
    return f"table ip router\ndelete table ip router\ntable ip router {{{body}}}\n"


def make_router(space: Space, kind: Nat, address: str) -> None:
    """Make a space with devices `wan` (which has `address`) and `lan` a router of that kind."""
    space.run("echo 1 > /proc/sys/net/ipv4/ip_forward")
    space.run(["nft", "-f", "-"], input=rules(kind, address))


class Weather:
    """What goes wrong on the way: blocks and loss on a router's forwarding path, silent as on the internet.

    The names of devices and addresses are the outer ones: those that the space forwards between. A block of one way
    lets the other pass. Everything is dropped without an answer.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._blocked: set[tuple[str, str]] = set()
        self._loss = 0.0

    def block(self, source: str, destination: str) -> None:
        """Drop what goes from one address (or prefix) to the other."""
        self._blocked.add((source, destination))
        self._apply()

    def clear(self) -> None:
        """All ways open, no loss."""
        self._blocked.clear()
        self._loss = 0.0
        self._apply()

    def lose(self, share: float) -> None:
        """Drop this share (0 to 1) of all forwarded packets, by chance.

        A packet here is what the device hands over: to lose single packets of a segmented train, set
        `gso_max_segs` to 1 on the devices that lead here.
        """
        self._loss = share
        self._apply()

    def _apply(self) -> None:
        lines = [f"ip saddr {source} ip daddr {destination} drop" for source, destination in sorted(self._blocked)]
        if self._loss:
            lines.append(f"numgen random mod 100000 < {round(self._loss * 100000)} drop")
        chain = "\n        ".join(["type filter hook forward priority filter - 10", *lines])
        self.space.run(
            ["nft", "-f", "-"],
            input="table ip weather\ndelete table ip weather\n"
            f"table ip weather {{\n    chain forward {{\n        {chain}\n    }}\n}}\n",
        )


def cut_segments(space: Space, device: str, segments: int = 1) -> None:
    """Make a device cut trains of packets before it sends (`gso_max_segs`), so that each meets its own fate."""
    space.run(["ip", "link", "set", "dev", device, "gso_max_segs", str(segments)])
