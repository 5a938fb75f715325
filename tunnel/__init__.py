"""Encrypted paths between nodes: WireGuard sessions, hole-punched where it can be, relayed where it can't.

Takes: peers with key, addresses and relays (`tunnel.peer`).
Gives: routes that work, and the state of each path.

Parts in reading order: endpoint, peer, trains (ground); wireguard/ (protocol core, no I/O); engine/ (our data
plane, a process of its own); control/ (one interface to any engine); paths/ (finding and choosing a way);
relay/; rtnetlink, links (devices and routes); mesh (the face: apply(peers), path events).

Invariants: the protocol cores do no I/O; only the agent's process sets keys and peers; relayed data goes
engine to relay to engine.
"""
