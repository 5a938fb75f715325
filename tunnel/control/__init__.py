"""One interface to any WireGuard engine: set keys and peers, move a peer's endpoint, read its state.

Files in reading order: engine (the interface and its types), uapi (engines with the cross-platform socket).
"""
