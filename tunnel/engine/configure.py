"""Applying requests of the control socket to the engine: all of one, or nothing.

Invariants: what can fail (a port that is taken, a key that can't be a peer's, an address the socket can't send to)
is tried before anything is changed. Peers that `replace_peers` lists again keep their sessions.
"""

from __future__ import annotations

import errno
import logging
import socket
from time import monotonic

from tunnel.engine import EngineTrouble, uapi
from tunnel.engine.state import State
from tunnel.engine.uapi import BadRequest, DeviceChange, PeerChange
from tunnel.engine.udp import UdpSocket
from tunnel.wireguard.device import Refused
from tunnel.wireguard.noise import NO_PRESHARED_KEY

log = logging.getLogger("edgemesh.engine")

_NO_KEY = bytes(32)
_SO_MARK = 36


class Configuration:
    """The engine's settings: reads and changes them, under the state's lock."""

    def __init__(self, state: State, buffer: int) -> None:
        self._state = state
        self._buffer = buffer
        self._private_key: bytes | None = None
        self._mark = 0

    def describe(self) -> str:
        """The answer to a `get` request."""
        state = self._state
        with state.lock:
            device = state.device
            return uapi.describe(
                private_key=self._private_key,
                listen_port=state.udp.port,
                mark=self._mark,
                framed=state.framed,
                ciphers=state.ciphers,
                buffers=state.udp.buffers,
                peers=((peer, device.allowed_ips.of(peer)) for peer in list(device.peers.values())),
            )

    def apply(self, change: DeviceChange) -> None:
        """Follow a `set` request; raises BadRequest, and then nothing is changed."""
        with self._state.lock:
            udp = self._checked_socket(change)
            try:
                self._add_peers(change)
            except BadRequest:
                if udp is not self._state.udp:
                    udp.close()
                raise
            self._change_device(change, udp)
            for peer_change in change.peers:
                self._change_peer(peer_change)
            self._state.forget_gone()
            self._state.settle()

    def _checked_socket(self, change: DeviceChange) -> UdpSocket:
        """The socket with the port and mark asked for: a new one, or the one there is."""
        state = self._state
        for peer in change.peers:
            if peer.endpoint is not None and ":" in peer.endpoint.host and state.udp.socket.family != socket.AF_INET6:
                raise BadRequest(f"endpoint {peer.endpoint.host}: this engine's socket is IPv4", errno.EAFNOSUPPORT)
        udp = state.udp
        if change.listen_port and change.listen_port != udp.port:
            try:
                udp = UdpSocket(change.listen_port, buffer=self._buffer)
            except EngineTrouble as trouble:
                raise BadRequest(str(trouble), errno.EADDRINUSE) from trouble
        mark = self._mark if change.mark is None else change.mark
        if mark or self._mark:
            try:
                udp.socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            except OSError as error:
                if udp is not state.udp:
                    udp.close()
                raise BadRequest(f"fwmark: {error.strerror}", error.errno or errno.EPERM) from error
        return udp

    def _add_peers(self, change: DeviceChange) -> None:
        device = self._state.device
        added: list[bytes] = []
        for peer in change.peers:
            key = peer.public_key
            if peer.remove or peer.update_only or key in device.peers or key == device.public_key:
                continue
            try:
                device.add(key)
            except Refused as error:
                for earlier in added:
                    device.remove(earlier)
                raise BadRequest(str(error)) from error
            added.append(key)

    def _change_device(self, change: DeviceChange, udp: UdpSocket) -> None:
        state, device = self._state, self._state.device
        if udp is not state.udp:
            former, state.udp = state.udp, udp
            former.close()
            log.info("listening on UDP port %d", udp.port)
        device.listen_port = udp.port
        if change.mark is not None:
            self._mark = change.mark
        if change.ciphers is not None:
            state.ciphers = change.ciphers
        if change.framed is not None:
            state.frame(change.framed)
        if change.replace_peers:
            listed = {peer.public_key for peer in change.peers}
            for key in device.peers.keys() - listed:
                device.remove(key)
            for key in listed & device.peers.keys():
                peer = device.peers[key]
                device.allow(peer, (), replace=True)
                device.update(peer, monotonic(), keepalive=0, preshared_key=NO_PRESHARED_KEY, pinned=False)
        if change.private_key is not None:
            self._private_key = change.private_key if change.private_key != _NO_KEY else None
            device.set_private_key(self._private_key, monotonic())

    def _change_peer(self, change: PeerChange) -> None:
        device = self._state.device
        if change.remove:
            device.remove(change.public_key)
            return
        peer = device.peers.get(change.public_key)
        if peer is None:  # `update_only`, or our own key, which WireGuard ignores
            return
        if change.allowed_ips or change.replace_allowed_ips:
            device.allow(peer, change.allowed_ips, replace=change.replace_allowed_ips)
        device.update(
            peer,
            monotonic(),
            preshared_key=change.preshared_key,
            endpoint=change.endpoint,
            keepalive=change.keepalive,
            pinned=change.pinned,
        )
