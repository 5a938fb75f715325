"""Finding and choosing a way to a peer: relayed at once, direct when proven, back when it dies.

Takes: a peer's key, addresses and relays; datagrams of the path socket; an engine's counters.
Gives: where the engine's peer should point (`finder.PathFinder.moves`), and what kind of path that is.

Files in reading order: stun, probe (messages and their seal), candidate (which addresses may be probed), punch (when),
way (liveness of one endpoint), proof, pair (what both ends do), choice (the chooser, and how the two agree), follower,
finder (all of a node); socket (the raw socket) is the only one with I/O.

Invariants: both ends send by one way, as one decides; a direct way counts once data came by it at both ends; a way that
stops answering is left within a second; nothing that a peer or stranger sends makes more than a bounded number of ways,
pings or answers.
"""
