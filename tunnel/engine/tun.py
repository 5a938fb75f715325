"""The TUN device: whole TCP segments in and out, each with a virtio-net header in front.

The kernel hands over TCP segments of up to 64 KB uncut and with unfinished checksums (TUN_F_TSO4, TUN_F_TSO6,
TUN_F_CSUM), and takes such segments back; cutting, joining and checksums are then its work, or that of nobody.

Invariants: the device's gso_max_size is left at 65,536 (a smaller one makes the kernel cut every forwarded
segment in software, a tenth of the speed); the device persists, so that a restarted engine finds it, its
addresses and its routes again; address and routes are other people's.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct

from tunnel.engine import EngineTrouble
from tunnel.rtnetlink import NEWLINK, Rtnetlink

MTU = 1420
"""Bytes of an inner packet: 1,500 less IPv6 (40), UDP (8) and a data message's 32."""

VNET = 10
"""Bytes of the virtio-net header (virtio 1.2, 5.1.6): flags, gso type, header length, gso size, checksum start
and offset, in the machine's byte order."""

VNET_HEADER = struct.Struct("=BBHHHH")
NEEDS_CSUM = 1
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4

LARGEST = VNET + 65_535
"""The most that a read gives, an IP packet with its virtio-net header."""

_PATH = "/dev/net/tun"
_NAME_SIZE = 16
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_OFFLOADS = 0x01 | 0x02 | 0x04  # checksum, TSO over IPv4, TSO over IPv6

_IFINFO = struct.Struct("=BxHiII")
_UP = 0x1
_IFLA_MTU, _IFLA_TXQLEN = 4, 13
_QUEUE = 1000
"""Packets that wait in the device for the engine; the kernel's 500 overflow when many connections start at once."""


class Tun:
    """An open device: `fd` is read and written by the data plane, a packet (or segment) a call.

    It is open as long as the process lives, and stays when it ends.
    """

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd


def open_tun(name: str) -> Tun:
    """Open the device, made if there is none, with its MTU set and up. Raises EngineTrouble with what to do."""
    if not 0 < len(name.encode()) < _NAME_SIZE or "/" in name:
        raise EngineTrouble(f"{name!r} can't be a device's name: 1 to 15 bytes without '/'")
    try:
        fd = os.open(_PATH, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise EngineTrouble(_why_no_tun(error)) from error
    try:
        _attach(fd, name)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        _bring_up(name)
    except OSError as error:
        os.close(fd)
        raise EngineTrouble(_why_no_device(name, error)) from error
    return Tun(name, fd)


def _attach(fd: int, name: str) -> None:
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET))
    fcntl.ioctl(fd, _TUNSETOFFLOAD, _OFFLOADS)


def _bring_up(name: str) -> None:
    """Set MTU and queue, and bring it up; by netlink, as an ioctl may set the queue in no user namespace."""
    values = {_IFLA_MTU: struct.pack("=I", MTU), _IFLA_TXQLEN: struct.pack("=I", _QUEUE)}
    with contextlib.closing(Rtnetlink()) as netlink:
        netlink.change(NEWLINK, 0, _IFINFO.pack(0, 0, socket.if_nametoindex(name), _UP, _UP), values)


def _why_no_tun(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return f"there is no {_PATH}: load the module (modprobe tun), or in a container pass --device {_PATH}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{_PATH} can't be opened: run as root, or in a container with --device {_PATH} --cap-add NET_ADMIN"
    return f"{_PATH} can't be opened: {error.strerror}"


def _why_no_device(name: str, error: OSError) -> str:
    if error.errno == errno.EPERM:
        return f"{name} can't be made: the right CAP_NET_ADMIN is missing; run as root or with --cap-add NET_ADMIN"
    if error.errno == errno.EBUSY:
        return f"{name} is in use by another process: end that one, or choose another name with --device"
    if error.errno == errno.EINVAL:
        return f"{name} exists and is no TUN device: remove it (ip link delete {name}), or choose another with --device"
    return f"{name} can't be set up: {error.strerror}"
