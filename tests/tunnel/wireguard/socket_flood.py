"""Bring a WireGuard under load, then shake hands with it by cookie: `python -m … KEYS.json`.

The file is that of `socket_peer`. Prints `cookie` when a cookie for our own initiation came, `session` when the
initiation that carried it was answered though the flood went on, and ends; or `gave up`.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

from tunnel.endpoint import COOKIE_REPLY, Endpoint
from tunnel.wireguard.cookie import MacWriter
from tunnel.wireguard.device import Device
from tunnel.wireguard.messages import Initiation

BATCH = 1000
TRIES = 40


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    their_key = bytes.fromhex(settings["peer"])
    to = Endpoint(*settings["endpoint"])
    device = Device(os.urandom, time.time)
    device.set_private_key(bytes.fromhex(settings["private_key"]), 0.0)
    peer = device.add(their_key)
    device.update(peer, 0.0, preshared_key=bytes.fromhex(settings["preshared_key"]), endpoint=to)
    macs = MacWriter(their_key)
    flood = [
        macs.write(Initiation(number, os.urandom(32), os.urandom(48), os.urandom(28)).pack(), 0.0)
        for number in range(BATCH)
    ]
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as crowd,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
    ):
        ours.settimeout(0.05)
        now, cookie = 0.0, False
        for _ in range(TRIES):
            for datagram in flood:
                crowd.sendto(datagram, to.address)
            # retries are five seconds apart by right; here the time that passes is made up
            now += 6.0
            device.initiate(peer, now)
            while device.outbox:
                ours.sendto(device.outbox.popleft()[1], to.address)
            try:
                answer = ours.recv(2048)
            except TimeoutError:
                continue
            device.receive(answer, to, now)
            if answer[0] == COOKIE_REPLY and not device.dropped:
                cookie = True
                print("cookie", flush=True)
            elif cookie and peer.sending(now):
                print("session", flush=True)
                return
        print("gave up", flush=True)


if __name__ == "__main__":
    main()
