"""The relay: knows nodes by key, passes sealed datagrams on by channel, answers STUN.

Takes: datagrams on one UDP port; which node keys to admit.
Gives: to nodes, a channel to each peer that wants one too, and the address they are seen at.

Files in reading order: proof (keys, cookies, MACs), protocol (messages), client (a node's side, without I/O); rates,
rivals, table (what a relay remembers), server (its decisions, without I/O), forward (the UDP loop).

Invariants: nothing is kept for an address that is not proven, no answer to it is longer than the question; every
table has a cap; data is never looked into, never queued, and waits for no other work.
"""
