"""The agent's one raw socket: sends and receives path messages on the WireGuard port, beside the engine."""

from tunnel.endpoint import Address


class PathSocketError(Exception):
    """The socket can't be had, or broke; the message says why and what to do."""


class PathSocket:
    """Sends from, and receives on, the UDP port of an engine that has it bound. Non-blocking.

    Wait with `trio.lowlevel.wait_readable(socket)`, then call `receive` until it gives None.
    """

    def __init__(self, port: int) -> None:
        """`port` is the WireGuard port; raises PathSocketError (no CAP_NET_RAW)."""
        raise NotImplementedError

    def send(self, data: bytes, to: Address) -> bool:
        """Send one datagram; whether it went out. A missing route is logged once a destination, never raised."""
        raise NotImplementedError

    def receive(self) -> tuple[bytes, Address] | None:
        """The next path message and its source, None when there is none now; raises PathSocketError."""
        raise NotImplementedError

    def fileno(self) -> int:
        """For waiting."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket."""
        raise NotImplementedError
