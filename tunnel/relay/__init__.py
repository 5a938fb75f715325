"""The relay: knows nodes by key, passes sealed datagrams on by channel, answers STUN.

Files in reading order: protocol (messages), client and server (cores without I/O), forward (the UDP loop).
"""
