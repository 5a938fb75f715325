"""What the engine's threads share: the device, both sides, what waits for a session; and the lock.

    forward    TUN to UDP, back    takes the lock only to keep a packet, to ask for a handshake, and for messages of
                                   the session itself; hands handshakes on
    receive    UDP to TUN          in its stead while a stream flows
    control    handshakes, timers, the control socket; holds the lock for one of them at a time

Invariants: all changes of the device happen under the lock, and are followed by `settle`, which sends what the device
has to send and does what its events ask for; a flood of handshake messages keeps control from nothing for long.
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from time import monotonic

from tunnel.endpoint import CHANNEL, Endpoint, channel_header
from tunnel.engine import transmit
from tunnel.engine.agreement import Cipher, Feedback, Malformed, Offer, parse
from tunnel.engine.session import FrameSize, Session
from tunnel.engine.tun import Tun
from tunnel.engine.udp import UdpSocket
from tunnel.engine.waiting import Waiting
from tunnel.wireguard.device import Device, HandshakeFailed
from tunnel.wireguard.keypair import Keypair
from tunnel.wireguard.peer import Peer


def hardware_ciphers(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cipher:
    """The ciphers to offer: AES only where the processor has instructions for it."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return Cipher.CHACHA20_POLY1305
    for line in text.splitlines():
        name, _, features = line.partition(":")
        if name.strip() in ("flags", "Features"):  # x86, arm64
            words = features.split()
            if "aes" in words and ("pclmulqdq" in words or "pmull" in words):
                return Cipher.CHACHA20_POLY1305 | Cipher.AES_256_GCM
            break
    return Cipher.CHACHA20_POLY1305


class State:
    """One engine's. `framed` and `ciphers` are what it sends and offers; `wake` is written to call control."""

    def __init__(self, device: Device, tun: Tun, udp: UdpSocket, ciphers: Cipher) -> None:
        self.device = device
        self.tun = tun
        self.udp = udp
        self.framed = True
        self.ciphers = ciphers
        self.lock = threading.RLock()
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting = Waiting()
        self._staged = transmit.Staged()
        self._transmitter: transmit.Transmitter | None = None

    # the data threads

    def stage(self, peer: Peer, packet: bytes) -> None:
        """Keep a packet until its peer has a session."""
        with self.lock:
            self._staged.add(peer, packet)
            if peer.sending(monotonic()) is not None:
                self._send_staged(peer)  # the session came in between
                return
        self.initiate(peer)

    def initiate(self, peer: Peer) -> None:
        """Start a handshake, if it is time for one."""
        with self.lock:
            self.device.initiate(peer, monotonic())
            self.settle()
        self.call()

    def confirm(self, keypair: Keypair, source: Endpoint, now: float) -> None:
        """The device asked to be told of this authenticated message."""
        with self.lock:
            self.device.confirm(keypair, source, now)
            self.settle()
        self.call()

    def handshake(self, datagram: memoryview, source: Endpoint) -> None:
        """Hand a message of type 1, 2 or 3 to the control thread; dropped where too many wait."""
        if self._waiting.put(datagram, source):
            self.call()

    def session_message(self, keypair: Keypair, plaintext: memoryview) -> None:
        """A message of our own came in a session; what is none is dropped."""
        session: Session | None = keypair.frames
        if session is None:
            return
        try:
            message = parse(plaintext)
        except Malformed:
            return
        with self.lock:
            if isinstance(message, Feedback):
                session.told(message)
            else:
                self.say(keypair, session.offered(message))

    def say(self, keypair: Keypair, message: Offer | Feedback | None) -> None:
        """Send a message of our own in a session."""
        endpoint = keypair.peer.endpoint
        if message is not None and endpoint is not None:
            datagram = keypair.seal(message.pack())
            self._post(endpoint, datagram)
            self.device.sent(keypair.peer, keypair, len(datagram), False, monotonic())

    # the control thread

    def call(self) -> None:
        """Make the control thread look again."""
        os.eventfd_write(self.wake, 1)

    def take_handshakes(self) -> None:
        """Do the handshake messages that wait now, the lock free between two of them."""
        for datagram, source in self._waiting.take():
            with self.lock:
                self.device.receive(datagram, source, monotonic())
                self.settle()

    def tick(self) -> float | None:
        """Do what is due; gives when to do so again."""
        with self.lock:
            now = monotonic()
            self.device.tick(now)
            self.settle()
            deadlines = [self.device.deadline()]
            for peer in self.device.peers.values():
                keypair = peer.current
                if keypair is not None and keypair.frames is not None:
                    agreement = keypair.frames.agreement
                    self.say(keypair, agreement.poll(now))
                    deadlines.append(agreement.deadline)
            return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def settle(self) -> None:
        """After any change of the device, under the lock: send what it has to send, follow its events."""
        device = self.device
        while device.outbox:
            self._post(*device.outbox.popleft())
        while device.events:
            event = device.events.popleft()
            if isinstance(event, HandshakeFailed):
                self._staged.take(event.peer)
            else:
                self._begin(event.peer, event.keypair)

    def forget_gone(self) -> None:
        """After peers were removed, under the lock: drop what waits for them."""
        self._staged.keep_only(set(self.device.peers.values()))

    def frame(self, framed: bool) -> None:
        """Send frames where the other end knows them, or packets only; under the lock."""
        self.framed = framed
        for peer in self.device.peers.values():
            for keypair in peer.keypairs():
                if keypair.frames is not None:
                    keypair.frames.use(framed)

    def _begin(self, peer: Peer, keypair: Keypair) -> None:
        if self.framed:
            known = (other.frames.size for other in peer.keypairs() if other.frames is not None)
            keypair.frames = Session(
                keypair,
                self.ciphers,
                next(known, None) or FrameSize(),
                monotonic(),
                framed=self.framed,
                overflowed=lambda: self.udp.overflowed(),
            )
            self.say(keypair, keypair.frames.agreement.poll(monotonic()))
        self._send_staged(peer)

    def _send_staged(self, peer: Peer) -> None:
        for packet in self._staged.take(peer):
            if self._transmitter is None:
                self._transmitter = transmit.Transmitter(self)
            self._transmitter.data[: len(packet)] = packet
            self._transmitter.forward(len(packet))
        if self._transmitter is not None:
            self._transmitter.flush()

    def _post(self, endpoint: Endpoint, datagram: bytes) -> None:
        if endpoint.channel:
            datagram = channel_header.pack(CHANNEL, endpoint.channel) + datagram
        self.udp.send((datagram,), endpoint.address, None, socket.MSG_DONTWAIT)
