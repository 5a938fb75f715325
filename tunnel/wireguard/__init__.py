"""WireGuard's protocol (whitepaper, revision of 2020-06-01): bytes and `now` in; bytes, events, deadline out.

Takes: keys and peers, datagrams of types 1 to 3, and word of each data message sealed or opened.
Gives: keypairs to seal and open with, handshake datagrams to send, events, the next deadline.
`tunnel.engine` is the shell around it and owns data messages: their buffers, framing and queues.

Files in reading order: messages, noise, timestamp, cookie, limiter, admission, replay, keypair, allowedips, peer,
sessions, handshakes, timers, device. Messages are NamedTuples: dataclasses would cost an engine 1.3 MB and 10 ms.

Invariants: no I/O, no clock, no threads, no randomness but what is passed in. Hostile bytes raise `Malformed` or
`Rejected` inside and are counted by `Device.receive`, which never raises for them. What the network can fill has a
named cap. `now` is monotonic seconds; wall time is only in handshake timestamps and `Peer.last_handshake`.
"""
