"""The control socket's text: what wg(8) sends, our own keys, garbage."""

from __future__ import annotations

import contextlib
import errno
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.endpoint import Endpoint
from tunnel.engine.agreement import Cipher
from tunnel.engine.uapi import BadRequest, DeviceChange, Get, PeerChange, describe, parse
from tunnel.wireguard.peer import Peer

A, B = bytes(range(32)), bytes(range(32, 64))


def test_get() -> None:
    assert isinstance(parse(b"get=1"), Get)


def test_everything_a_set_request_may_say() -> None:
    request = f"""set=1
private_key={A.hex()}
listen_port=51820
fwmark=
replace_peers=true
framing=packets
ciphers=aes-256-gcm,chacha20-poly1305
public_key={B.hex()}
update_only=true
preshared_key={A.hex()}
endpoint=192.0.2.7:20006
channel=4294967295
persistent_keepalive_interval=25
replace_allowed_ips=true
allowed_ip=10.244.1.9/24
allowed_ip=fd00::/64
pinned=true
protocol_version=1
public_key={A.hex()}
endpoint=[2001:db8::1]:51820
public_key={A.hex()}
remove=true"""
    assert parse(request.encode()) == DeviceChange(
        private_key=A,
        listen_port=51820,
        mark=0,
        replace_peers=True,
        framed=False,
        ciphers=Cipher.AES_256_GCM | Cipher.CHACHA20_POLY1305,
        peers=[
            PeerChange(
                B,
                update_only=True,
                preshared_key=A,
                endpoint=Endpoint("192.0.2.7", 20006, 4294967295),
                keepalive=25,
                replace_allowed_ips=True,
                allowed_ips=[ip_network("10.244.1.0/24"), ip_network("fd00::/64")],
                pinned=True,
            ),
            PeerChange(A, endpoint=Endpoint("2001:db8::1", 51820)),
            PeerChange(A, remove=True),
        ],
    )


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("private_key=00", errno.EINVAL),
        ("private_key=" + "zz" * 32, errno.EINVAL),
        ("private_key=" + " " + "00" * 31 + "0", errno.EINVAL),
        ("listen_port=65536", errno.EINVAL),
        ("listen_port=-1", errno.EINVAL),
        ("listen_port=²", errno.EINVAL),
        ("replace_peers=yes", errno.EINVAL),
        ("framing=jumbo", errno.EINVAL),
        ("ciphers=", errno.EINVAL),
        ("ciphers=rot13", errno.EINVAL),
        ("nonsense=1", errno.EINVAL),
        ("nonsense", errno.EINVAL),
        ("", errno.EINVAL),
        ("endpoint=192.0.2.1:1", errno.EINVAL),  # of no peer
        (f"public_key={A.hex()}\nlisten_port=1", errno.EINVAL),  # of no device
        (f"public_key={A.hex()}\nendpoint=192.0.2.1", errno.EINVAL),
        (f"public_key={A.hex()}\nendpoint=192.0.2.1:0", errno.EINVAL),
        (f"public_key={A.hex()}\nendpoint=[192.0.2.1]:1", errno.EINVAL),
        (f"public_key={A.hex()}\nendpoint=2001:db8::1:1", errno.EINVAL),
        (f"public_key={A.hex()}\nendpoint=host.example:1", errno.EINVAL),
        (f"public_key={A.hex()}\nendpoint=[fe80::1%eth0]:1", errno.EINVAL),
        (f"public_key={A.hex()}\nchannel=1", errno.EINVAL),
        (f"public_key={A.hex()}\nallowed_ip=10.0.0.0/33", errno.EINVAL),
        (f"public_key={A.hex()}\npinned=1", errno.EINVAL),
        (f"public_key={A.hex()}\nprotocol_version=2", errno.EPROTONOSUPPORT),
        (f"public_key={A.hex()}\nremove=false", errno.EINVAL),
    ],
)
def test_what_is_refused(line: str, number: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(f"set=1\n{line}".encode())
    assert caught.value.number == number
    assert "00" * 30 not in str(caught.value)


@pytest.mark.parametrize("lines", ["private_key={}\nset=1", "set=1\n{}", "set=1\nprivate_key{}", "set=1\n{}=1"])
def test_what_is_refused_is_logged_without_keys(lines: str) -> None:
    key = bytes(range(32)).hex()
    with pytest.raises(BadRequest) as caught:
        parse(lines.format(key).encode())
    assert key[:20] not in str(caught.value)


@pytest.mark.parametrize("request_", [b"", b"set", b"set=2", b"get=1\nx=1", b"get=2", b"\xff"])
def test_other_requests_are_refused(request_: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(request_)


words = st.sampled_from(
    ["set=1", "get=1", "public_key", "endpoint", "allowed_ip", "=", "\n", A.hex(), "10.0.0.0/8", "1", "true", "channel"]
)


@given(st.binary(max_size=200) | st.lists(words | st.text(max_size=5), max_size=30).map(lambda w: "".join(w).encode()))
def test_garbage_is_refused_or_read(garbage: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert isinstance(parse(garbage), Get | DeviceChange)


def test_what_get_tells() -> None:
    peer = Peer(B, b"")
    peer.endpoint = Endpoint("2001:db8::1", 7, 5)
    peer.last_handshake, peer.rx_bytes, peer.tx_bytes, peer.keepalive, peer.pinned = 12.5, 3, 4, 25, True
    text = describe(
        private_key=A,
        listen_port=9,
        mark=6,
        framed=True,
        ciphers=Cipher.CHACHA20_POLY1305,
        buffers=(1, 2),
        peers=iter([(peer, iter([ip_network("10.0.0.0/8")]))]),
    )
    assert text == (
        f"private_key={A.hex()}\nlisten_port=9\nfwmark=6\nframing=segments\nciphers=chacha20-poly1305\n"
        f"rcvbuf=1\nsndbuf=2\npublic_key={B.hex()}\npreshared_key={bytes(32).hex()}\nprotocol_version=1\n"
        "endpoint=[2001:db8::1]:7\nchannel=5\nlast_handshake_time_sec=12\nlast_handshake_time_nsec=500000000\n"
        "tx_bytes=4\nrx_bytes=3\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\n"
        "pinned=true\nframing=packets\nerrno=0\n\n"
    )
