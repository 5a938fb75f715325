"""Devices and routes, by raw rtnetlink."""

from collections.abc import Iterable, Mapping

ROUTE_PROTOCOL = 98
"""Our routes' protocol number (`ip route show proto 98`): by it our own are known from everybody else's."""


class LinkError(Exception):
    """The kernel refused; the message says what, on which device, why and what to do."""


class NoDevice(LinkError):
    """The device is not there (now): wait for it (`changes`), then apply all again."""


class Changes:
    """A socket that becomes readable when links, addresses or routes other than ours change."""

    def fileno(self) -> int:
        """For waiting."""
        raise NotImplementedError

    def drain(self) -> bool:
        """Read what is there; whether anything that is not our own doing changed. Debouncing is the caller's."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket."""
        raise NotImplementedError


class Links:
    """The machine's devices, addresses and routes. Short blocking calls (tens of µs); all raise LinkError."""

    def ensure_bridge(self, name: str, addresses: Iterable[str]) -> None:
        """Have a bridge without ports, up, with these addresses (CIDR); others of its own are removed."""
        raise NotImplementedError

    def ensure_up(self, device: str, mtu: int, addresses: Iterable[str] = ()) -> None:
        """Set an existing device's MTU, add addresses (CIDR), bring it up; raises NoDevice."""
        raise NotImplementedError

    def apply_routes(self, device: str, desired: Mapping[str, str]) -> int:
        """Make our routes through `device` these: destination CIDR → source address ("" for none).

        Only differences are written; their number is returned. Raises NoDevice.
        """
        raise NotImplementedError

    def lan_addresses(self) -> list[str]:
        """Addresses a neighbour in the same network could reach this node at, most likely first."""
        raise NotImplementedError

    def changes(self) -> Changes:
        """Open a notification socket."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket."""
        raise NotImplementedError


def enable_forwarding() -> None:
    """Let the kernel route between pods and tunnel (net.ipv4.ip_forward=1)."""
    raise NotImplementedError
