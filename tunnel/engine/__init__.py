"""Our userspace data plane: TUN on one side, one UDP socket on the other, WireGuard between, in a process of its own.

Files in reading order: tun, udp (the two sides); segments (TCP segments in software), frames (whole segments as
one AEAD frame), agreement (the two ends agree on frames and on their size); transmit, receive (the two data
threads); uapi (the protocol of `wg`), control (its socket); engine (the process).
"""


class EngineTrouble(Exception):
    """The engine can't start or go on; the message says what failed and what to do."""
