"""Finding and choosing a way to a peer: relayed at once, direct when proven, back when it dies.

Files in reading order: stun, probe, candidate, punch, choice (cores without I/O), socket (the raw socket).
"""
