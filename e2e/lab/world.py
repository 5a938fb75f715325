"""The rest of the world's names: a DNS server for the bed's internet, on UDP and TCP.

It answers for a handful of names under example.com and edgemesh.example, among them one whose answer is too long
for a UDP datagram (truncated there, whole over TCP), and says NXDOMAIN with an SOA for all others. Run as a program:
`python -m e2e.lab.world ADDRESS`; it says 'ready' on a line of its own once it listens.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading

from dnslib import QTYPE, RCODE, RR, SOA, TXT, A, DNSError, DNSRecord

TTL = 60
UDP_LIMIT = 512

ADDRESSES = {
    "cloud.edgemesh.example.": "203.0.113.30",
    "www.example.com.": "198.18.0.80",
    "ns.example.com.": "198.18.0.53",
}
LONG_NAME = "long.example.com."
LONG_TEXT = [f"line {number:02d} of a text too long for one datagram" for number in range(24)]


def answer(query: bytes) -> DNSRecord:
    """The answer to one query; raises DNSError for bytes that are none."""
    request = DNSRecord.parse(query)
    reply = request.reply()
    name = str(request.q.qname).lower()
    kind = QTYPE[request.q.qtype]
    if name == LONG_NAME and kind == "TXT":
        for line in LONG_TEXT:
            reply.add_answer(RR(name, QTYPE.TXT, rdata=TXT(line), ttl=TTL))
    elif name in ADDRESSES and kind == "A":
        reply.add_answer(RR(name, QTYPE.A, rdata=A(ADDRESSES[name]), ttl=TTL))
    else:
        if name not in ADDRESSES and name != LONG_NAME:
            reply.header.rcode = RCODE.NXDOMAIN
        soa = SOA("ns.example.com", "hostmaster.example.com", (1, 3600, 600, 86400, TTL))
        reply.add_auth(RR("example.com", QTYPE.SOA, rdata=soa, ttl=TTL))
    return reply


def serve_udp(listener: socket.socket) -> None:
    while True:
        query, client = listener.recvfrom(4096)
        try:
            reply = answer(query)
        except DNSError:
            continue
        packed: bytes = reply.pack()
        if len(packed) > UDP_LIMIT:
            packed = reply.truncate().pack()
        listener.sendto(packed, client)


def serve_tcp(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve_connection, args=(connection,), daemon=True).start()


def _serve_connection(connection: socket.socket) -> None:
    with connection, connection.makefile("rwb") as stream, contextlib.suppress(OSError, DNSError):
        while len(prefix := stream.read(2)) == 2:
            packed = answer(stream.read(struct.unpack("!H", prefix)[0])).pack()
            stream.write(struct.pack("!H", len(packed)) + packed)
            stream.flush()


def main(address: str) -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 53))
    tcp = socket.create_server((address, 53))
    threading.Thread(target=serve_tcp, args=(tcp,), daemon=True).start()
    print("ready", flush=True)
    serve_udp(udp)


if __name__ == "__main__":
    main(sys.argv[1])
