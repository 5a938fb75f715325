"""What the resolver is told: zones it is the authority for, and names with their data.

Names are absolute, lower case and without the final dot. A `Name` is everything known of one owner name: to
change any part of it, send it whole; to delete it, name it as gone. A name that exists only as the parent of
others (an empty non-terminal, RFC 8020) need not be sent.
"""

import msgspec


class Zone(msgspec.Struct, frozen=True, array_like=True):
    """A subtree answered from the table alone: what is absent there is NXDOMAIN, never asked upstream.

    `pods` says that `a-b-c-d.NAMESPACE.pod.<zone>` is answered from the name itself (CoreDNS' `pods insecure`,
    which EdgeMesh uses), for any namespace.
    """

    name: str
    pods: bool = False


class Srv(msgspec.Struct, frozen=True, array_like=True):
    """One SRV target (RFC 2782)."""

    target: str
    port: int
    priority: int = 0
    weight: int = 100


class Name(msgspec.Struct, frozen=True, array_like=True):
    """All data of one owner name; `ttl` in seconds. `cname` excludes the other types (RFC 1034, 3.6.2)."""

    name: str
    a: tuple[str, ...] = ()
    aaaa: tuple[str, ...] = ()
    srv: tuple[Srv, ...] = ()
    ptr: tuple[str, ...] = ()
    cname: str = ""
    ttl: int = 30
