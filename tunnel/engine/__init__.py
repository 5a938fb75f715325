"""Our userspace data plane: TUN on one side, one UDP socket on the other, WireGuard between, in a process of its own.

Files in reading order: tun, udp, segments, frames, agreement, uapi, engine.
"""
