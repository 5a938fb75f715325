"""Devices, addresses and routes of this machine, as the tunnel needs them.

Our routes bear a protocol number of our own, so that what is ours is known after a restart, and only that is ever
removed. What should be is compared with what is, and the difference written.

Invariants: devices, addresses and routes of others are never changed; every refusal is a LinkError that names the
device, what was asked, the kernel's reason and what to do.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from tunnel import rtnetlink as rt

ROUTE_PROTOCOL = 98
"""Our routes' protocol number (`ip route show proto 98`): by it our own are known from everybody else's."""

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")

NOT_LAN = ("lo", "docker", "br-", "cni", "virbr", "veth", "flannel", "cali", "cilium", "kube", "edgemesh", "tailscale")
"""Beginnings of device names whose addresses no neighbour could use."""
TUNNELS = frozenset({"tun", "wireguard", "ipip", "sit", "gre", "vxlan", "geneve", "dummy", "ifb"})
"""Kinds of device that lead to no neighbour, even if the default route leads there."""

# linux/if.h, if_link.h, if_addr.h, rtnetlink.h
_UP, _LOOPBACK = 0x1, 0x8
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_TENTATIVE_OR_WORSE = 0x20 | 0x40 | 0x08
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 6, 7, 15
_MAIN, _UNIVERSE, _LINK, _UNICAST, _CLONED = 254, 0, 253, 1, 0x200

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")

_ADVICE = {
    errno.EPERM: "run as root, or grant CAP_NET_ADMIN",
    errno.ENETDOWN: "the device is down: it is brought up and tried again",
    errno.ENODEV: "the device has gone: tried again when it is back",
    errno.EEXIST: "something else of that name or destination is there: remove it",
    errno.EOPNOTSUPP: "the kernel lacks support for this: load its module",
    errno.EINVAL: "the kernel finds it wrong; a source address must be one of this node's own",
}


class LinkError(Exception):
    """The kernel refused; the message says what, on which device, why and what to do."""


class NoDevice(LinkError):
    """The device is not there (now): wait for it (`changes`), then apply all again."""


class Device(msgspec.Struct, frozen=True):
    """A network device. `kind` is the kernel's (`bridge`, `tun`, ...), empty for plain hardware."""

    index: int
    name: str
    kind: str
    flags: int


class _Route(msgspec.Struct, frozen=True):
    destination: str
    device: int
    source: str
    protocol: int
    metric: int


class Links:
    """The machine's devices, addresses and routes. Short blocking calls (tens of µs); all raise LinkError."""

    def __init__(self) -> None:
        try:
            self._netlink = rt.Rtnetlink()
        except OSError as error:
            raise LinkError(f"no netlink socket: {error.strerror}") from error

    def device(self, name: str) -> Device:
        """The device of that name; raises NoDevice."""
        for device in self._devices():
            if device.name == name:
                return device
        raise NoDevice(f"{name}: there is no such device (now)")

    def ensure_bridge(self, name: str, addresses: Iterable[str]) -> None:
        """Have a bridge without ports, up, with these addresses (CIDR); others on it are removed."""
        try:
            device = self.device(name)
        except NoDevice:
            kind = rt.attribute(_IFLA_INFO_KIND, b"bridge")
            values = {_IFLA_IFNAME: name.encode() + b"\0", _IFLA_LINKINFO: kind}
            flags = rt.CREATE | rt.EXCLUDE
            self._change(f"{name}: can't make the bridge", rt.NEWLINK, flags, _IFINFO.pack(0, 0, 0, 0, 0), values)
            device = self.device(name)
        if device.kind != "bridge":
            raise LinkError(f"{name}: is there, and is no bridge: remove it (ip link delete {name})")
        wanted = {_interface(address) for address in addresses}
        for address in self._addresses(device.index) - wanted:
            if not address.ip.is_link_local or address.version == 4:
                self._address(device, rt.DELADDR, 0, address)
        self._ready(device, wanted)

    def apply_routes(self, device: str, desired: Mapping[str, str]) -> int:
        """Make our routes through `device` these: destination CIDR → source address ("" for none).

        Only differences are written; their number is returned. A route that is refused keeps no other from being
        written; LinkError then tells the first. A device that is down, and so can't have any, is brought up. Raises
        NoDevice.
        """
        found = self.device(device)
        self._ready(found, set())
        index = found.index
        wanted = {_network(destination): source for destination, source in desired.items()}
        present = {
            route.destination: route.source
            for route in self._routes()
            if route.protocol == ROUTE_PROTOCOL and route.device == index
        }
        stale = [(rt.DELROUTE, 0, *item) for item in present.items() if item[0] not in wanted]
        changed = [
            # only our own is replaced; where another's is in the way, that is said
            (rt.NEWROUTE, rt.REPLACE if destination in present else rt.CREATE | rt.EXCLUDE, destination, source)
            for destination, source in wanted.items()
            if present.get(destination) != source
        ]
        refused: list[LinkError] = []
        for kind, flags, destination, source in stale + changed:
            try:
                self._route(device, index, kind, flags, destination, source)
            except NoDevice:
                raise
            except LinkError as error:
                refused.append(error)
        if refused:
            more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
            raise LinkError(f"{refused[0]}{more}") from refused[0]
        return len(stale) + len(changed)

    def routes(self, device: str) -> dict[str, str]:
        """Our routes through a device, as they are: destination → source; raises NoDevice."""
        index = self.device(device).index
        ours = (route for route in self._routes() if route.protocol == ROUTE_PROTOCOL and route.device == index)
        return {route.destination: route.source for route in ours}

    def lan_addresses(self) -> list[str]:
        """Addresses a neighbour in the same network could reach this node at, most likely first.

        Those of the devices that default routes lead through, best metric first, IPv4 first; without a default
        route, of all devices that look like hardware (or a veth, inside a container).
        """
        devices = {device.index: device for device in self._devices() if device.flags & _UP}
        defaults = sorted(
            (route for route in self._routes() if route.destination in ("0.0.0.0/0", "::/0")),
            key=lambda route: route.metric,
        )
        order = dict.fromkeys(route.device for route in defaults if route.device in devices)
        chosen = [devices[index] for index in order if _to_neighbours(devices[index])]
        if not chosen:
            chosen = [each for each in devices.values() if _to_neighbours(each) and each.kind != "bridge"]
        found = [
            address.ip
            for device in chosen
            for address in sorted(self._addresses(device.index), key=lambda each: (each.version, each.ip.packed))
            if not (address.ip.is_link_local or address.ip.is_loopback or address.ip.is_multicast)
        ]
        return list(dict.fromkeys(str(address) for address in sorted(found, key=lambda each: each.version)))

    def changes(self) -> "Changes":
        """Open a notification socket."""
        return Changes()

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def _ready(self, device: Device, addresses: "set[_Interface]") -> None:
        for address in addresses - self._addresses(device.index):
            self._address(device, rt.NEWADDR, rt.CREATE | rt.REPLACE, address)
        if not device.flags & _UP:
            body = _IFINFO.pack(0, 0, device.index, _UP, _UP)
            self._change(f"{device.name}: can't be brought up", rt.NEWLINK, 0, body, {})

    def _address(self, device: Device, kind: int, flags: int, address: "_Interface") -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        body = _IFADDR.pack(family, address.network.prefixlen, 0, 0, device.index)
        values = {_IFA_LOCAL: address.ip.packed, _IFA_ADDRESS: address.ip.packed}
        verb = "remove" if kind == rt.DELADDR else "add"
        self._change(f"{device.name}: can't {verb} address {address}", kind, flags, body, values)

    def _route(self, device: str, index: int, kind: int, flags: int, destination: str, source: str) -> None:
        network = ipaddress.ip_network(destination)
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        scope = _LINK if network.version == 4 else _UNIVERSE
        body = _ROUTE.pack(family, network.prefixlen, 0, 0, _MAIN, ROUTE_PROTOCOL, scope, _UNICAST, 0)
        values = {_RTA_DST: network.network_address.packed, _RTA_OIF: struct.pack("=I", index)}
        if source:
            values[_RTA_PREFSRC] = ipaddress.ip_address(source).packed
        verb = "remove" if kind == rt.DELROUTE else "add"
        what = f"{device}: can't {verb} the route to {destination}" + (f" from {source}" if source else "")
        gone = (errno.ESRCH,) if kind == rt.DELROUTE else ()
        self._change(what, kind, flags, body, values, gone)

    def _change(
        self, what: str, kind: int, flags: int, body: bytes, values: dict[int, bytes], fine: tuple[int, ...] = ()
    ) -> None:
        try:
            self._netlink.change(kind, flags, body, values)
        except OSError as error:
            if error.errno in fine:
                return
            advice = _ADVICE.get(error.errno or 0, "see the kernel's log")
            refusal = NoDevice if error.errno == errno.ENODEV else LinkError
            raise refusal(f"{what}: {error.strerror}: {advice}") from error

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        try:
            return self._netlink.dump(kind, body)
        except OSError as error:
            raise LinkError(f"can't read the kernel's devices and routes: {error.strerror or error}") from error

    def _devices(self) -> list[Device]:
        found = []
        for data in self._dump(rt.GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            _, _, index, flags, _ = _IFINFO.unpack_from(data)
            values = rt.attributes(data[_IFINFO.size :])
            kind = rt.attributes(values.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")
            name = values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()
            found.append(Device(index, name, kind.rstrip(b"\0").decode(), flags))
        return found

    def _addresses(self, index: int) -> "set[_Interface]":
        """A device's usable addresses: none that are deprecated, tentative or double."""
        found = set()
        for data in self._dump(rt.GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            _, prefix, flags, _, device = _IFADDR.unpack_from(data)
            values = rt.attributes(data[_IFADDR.size :])
            if _IFA_FLAGS in values:
                flags = int.from_bytes(values[_IFA_FLAGS], "little")
            local = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if device == index and local and not flags & _TENTATIVE_OR_WORSE:
                found.add(ipaddress.ip_interface((local, prefix)))
        return found

    def _routes(self) -> list[_Route]:
        """Unicast routes of the main table, both families, with one way each."""
        found = []
        for data in self._dump(rt.GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, prefix, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(data)
            if family not in (socket.AF_INET, socket.AF_INET6) or flags & _CLONED:
                continue
            values = rt.attributes(data[_ROUTE.size :])
            table = int.from_bytes(values[_RTA_TABLE], "little") if _RTA_TABLE in values else table
            if table != _MAIN or kind != _UNICAST or _RTA_OIF not in values:
                continue
            host = values.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
            source = values.get(_RTA_PREFSRC, b"")
            found.append(
                _Route(
                    f"{ipaddress.ip_address(host)}/{prefix}",
                    int.from_bytes(values[_RTA_OIF], "little"),
                    str(ipaddress.ip_address(source)) if source else "",
                    protocol,
                    int.from_bytes(values.get(_RTA_PRIORITY, b""), "little"),
                )
            )
        return found


class Changes:
    """A socket that becomes readable when links, addresses or routes change. Non-blocking."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            self._socket.bind((0, rt.GROUPS))
        except OSError as error:
            raise LinkError(f"no netlink socket for notifications: {error.strerror}") from error

    def fileno(self) -> int:
        """For waiting."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Read what is there; whether anything changed but a route of ours was made. Debouncing is the caller's."""
        changed = False
        while True:
            try:
                data = self._socket.recv(rt.BUFFER)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise LinkError(f"notifications of the kernel can't be read: {error.strerror}") from error
                changed = True  # more came than was kept
                continue
            for kind, _, _, body in rt.messages(data):
                ours = kind == rt.NEWROUTE and _ROUTE.unpack_from(body)[5] == ROUTE_PROTOCOL
                changed = changed or not ours

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def enable_forwarding() -> None:
    """Let the kernel route between pods and tunnel (net.ipv4.ip_forward=1); raises LinkError."""
    try:
        if FORWARDING.read_text().strip() != "1":
            FORWARDING.write_text("1")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise LinkError(
            f"{FORWARDING}: can't be set to 1: {reason}: pods on this node can't use the tunnel; "
            "run 'sysctl -w net.ipv4.ip_forward=1' as root, or mount /proc/sys writable"
        ) from error


_Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def _interface(text: str) -> _Interface:
    try:
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise LinkError(f"{text!r} is no address: write it as 10.0.0.1/24") from error


def _network(text: str) -> str:
    """A destination as the kernel tells it, host bits cleared."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise LinkError(f"{text!r} is no destination: write it as 10.0.0.0/24") from error


def _to_neighbours(device: Device) -> bool:
    """Whether a device looks as if other machines were at its far end."""
    return not (device.flags & _LOOPBACK or device.name.startswith(NOT_LAN) or device.kind in TUNNELS)
