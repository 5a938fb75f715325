"""Our userspace data plane: TUN on one side, one UDP socket on the other, WireGuard between, in a process of its own.

Takes: a device's name, and configuration over the control socket (`uapi`); keeps none of it.
Gives: packets of peers at the TUN device, datagrams at the UDP port, state over the control socket.

Files in reading order: tun, udp (the two sides); segments, joiner (TCP segments in software); frames (whole segments
sealed as one), agreement, session (the two ends agree on frames and on their size); waiting, state (what the threads
share); transmit, receive (the two directions), forward (the data threads); uapi, configure, control (the control socket
and its thread); engine (the process).

Invariants: a data message or frame counter is used once; nothing the network sends raises out of the data threads or
grows anything without a named bound; a failed data thread ends the process.
"""


class EngineTrouble(Exception):
    """The engine can't start or go on; the message says what failed and what to do."""
