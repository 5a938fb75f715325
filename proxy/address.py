"""Addresses, ranges and ports from their texts: IPv4 for now, checked before anything is made of them."""

import socket

import msgspec


class LayoutError(ValueError):
    """A service or network that can't stand in the table; the message says which value and why."""


def ipv4(text: str) -> bytes:
    """The four bytes of an address. Raises LayoutError."""
    try:
        return socket.inet_pton(socket.AF_INET, text)
    except OSError:
        raise LayoutError(f"{text!r} is not an IPv4 address") from None


def port(number: int) -> int:
    """The number, if it is a port. Raises LayoutError."""
    if not 0 < number < 65536:
        raise LayoutError(f"port {number} is not within 1 and 65535")
    return number


class Prefix(msgspec.Struct, frozen=True):
    """An IPv4 range: its first address and its mask, as numbers."""

    first: int
    mask: int

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """From "10.244.1.0/24". Raises LayoutError."""
        address, slash, length = text.partition("/")
        if not slash or not length.isascii() or not length.isdecimal() or int(length) > 32:
            raise LayoutError(f"{text!r} is not an IPv4 range such as 10.244.1.0/24")
        mask = 0xFFFFFFFF << (32 - int(length)) & 0xFFFFFFFF
        return cls(int.from_bytes(ipv4(address), "big") & mask, mask)

    def __contains__(self, address: bytes) -> bool:
        return int.from_bytes(address, "big") & self.mask == self.first
