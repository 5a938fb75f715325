"""The node's resolver: answers for the names it is told, and asks upstreams for the rest.

Takes: zones and names (`dns.records`), over a Unix socket (`dns.control`), from whoever knows them (`dns.client`).
Gives: answers on UDP and TCP port 53 (`dns.server.run`).

Files in reading order. What it knows: records, wire, table, compiled. What is not ours: cache, upstream, forward,
resolvconf. Both together, without I/O: resolver. Sockets and the disk: loop, datagrams, tcp, outbound, control,
commands, tablefile, server. The agent's side: client.

Invariants: answers come from records, never from remembered replies, except upstreams'; a name inside a zone of ours
never goes upstream; nothing waits for an upstream or the disk; whatever arrives from the network, at most its own
connection ends; every table that the network can fill has a cap, named MAX_*.
"""
