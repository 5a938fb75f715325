"""A device on a real UDP socket that answers pings from inside the tunnel: `python -m … KEYS.json`.

The file has private_key, peer, preshared_key (hex), address, peer_address (inside), endpoint ([host, port] or
null) and ping (whether to ping the peer). Prints a line for each event. Ends when it is killed.
"""

import json
import os
import select
import socket
import struct
import sys
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

from tunnel.endpoint import DATA, Endpoint
from tunnel.wireguard.device import Device, SessionReady
from tunnel.wireguard.keypair import Rejected
from tunnel.wireguard.messages import Malformed, parse_data_header

PORT = 51820
ECHO_REPLY, ECHO_REQUEST = 0, 8


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def icmp(source: bytes, destination: bytes, kind: int, rest: bytes) -> bytes:
    """An IPv4 packet with an ICMP echo of an even number of bytes."""
    body = struct.pack(">BBH", kind, 0, checksum(struct.pack(">BBH", kind, 0, 0) + rest)) + rest
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, 1, 0, source, destination)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body


def say(*words: object) -> None:
    print(*words, flush=True)


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    address, peer_address = ip_address(settings["address"]).packed, ip_address(settings["peer_address"]).packed
    now = time.monotonic
    device = Device(os.urandom, time.time)
    device.set_private_key(bytes.fromhex(settings["private_key"]), now())
    peer = device.add(bytes.fromhex(settings["peer"]))
    device.allow(peer, [ip_network((peer_address, 32))])
    endpoint = Endpoint(*settings["endpoint"]) if settings["endpoint"] else None
    device.update(peer, now(), preshared_key=bytes.fromhex(settings["preshared_key"]), endpoint=endpoint)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", PORT))
    say("listening")

    def send(packet: bytes) -> None:
        keypair = peer.sending(now())
        assert keypair is not None
        assert peer.endpoint is not None
        message = keypair.seal(packet.ljust(-(-len(packet) // 16) * 16, b"\0"))
        udp.sendto(message, peer.endpoint.address)
        device.sent(peer, keypair, len(message), True, now())

    def flush() -> None:
        while device.outbox:
            to, datagram = device.outbox.popleft()
            udp.sendto(datagram, to.address)
        while device.events:
            event = device.events.popleft()
            if isinstance(event, SessionReady):
                say("session", "initiator" if event.keypair.initiator else "responder")
                if settings["ping"]:
                    send(icmp(address, peer_address, ECHO_REQUEST, b"\0\1\0\1hello tunnel"))

    def take(datagram: bytes, source: Endpoint) -> None:
        if datagram[0] != DATA:
            device.receive(datagram, source, now())
            return
        keypair = device.keypair(parse_data_header(datagram)[0])
        if keypair is None:
            raise Rejected("no session")
        packet = keypair.open(datagram, now())
        if device.received(keypair, source, len(datagram), bool(packet), now()):
            device.confirm(keypair, source, now())
            flush()
        if not packet:
            say("keepalive")
            return
        assert device.route(packet[12:16]) is keypair.peer
        packet = packet[: int.from_bytes(packet[2:4], "big")]
        if packet[20] == ECHO_REQUEST:
            say("asked")
            send(icmp(address, peer_address, ECHO_REPLY, packet[24:]))
        elif packet[20] == ECHO_REPLY and packet[24:] == b"\0\1\0\1hello tunnel":
            say("answered")

    if settings["ping"]:
        device.initiate(peer, now())
    while True:
        flush()
        deadline = device.deadline()
        readable, _, _ = select.select([udp], [], [], None if deadline is None else max(deadline - now(), 0.0))
        if readable:
            datagram, (host, port) = udp.recvfrom(2048)
            try:
                take(datagram, Endpoint(host, port))
            except (Malformed, Rejected) as error:
                say("rejected", error)
        device.tick(now())


if __name__ == "__main__":
    main()
