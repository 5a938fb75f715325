"""What a request leaves of the peers there are."""

import os
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tunnel.engine import uapi
from tunnel.engine.agreement import Cipher
from tunnel.engine.configure import Configuration
from tunnel.engine.state import State
from tunnel.engine.tun import Tun
from tunnel.engine.udp import UdpSocket
from tunnel.wireguard.device import Device

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()


def test_a_peer_that_is_listed_anew_has_only_what_is_said_of_it() -> None:
    state = State(Device(os.urandom, time.time), Tun("none", -1), UdpSocket(0), Cipher.CHACHA20_POLY1305)
    configuration = Configuration(state, 65_536)

    def say(text: str) -> None:
        change = uapi.parse(f"set=1\n{text}".encode())
        assert isinstance(change, uapi.DeviceChange)
        configuration.apply(change)

    try:
        peer = f"public_key={KEY.hex()}\n"
        say(
            peer + f"preshared_key={'11' * 32}\npersistent_keepalive_interval=25\npinned=true\nallowed_ip=10.1.0.0/16\n"
            "endpoint=127.0.0.1:9"
        )
        before = state.device.peers[KEY]
        say("replace_peers=true\n" + peer + "allowed_ip=10.2.0.0/16")
        after = state.device.peers[KEY]
        assert after is before  # and so are its sessions
        assert (after.keepalive, after.pinned, after.preshared_key) == (0, False, bytes(32))
        assert [str(network) for network in state.device.allowed_ips.of(after)] == ["10.2.0.0/16"]
        say("replace_peers=true")
        assert state.device.peers == {}
    finally:
        state.udp.close()
        os.close(state.wake)
