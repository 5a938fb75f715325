"""The node's resolver: answers for the names it is told, and asks upstreams for the rest.

Takes: zones and names (`dns.records`), over a Unix socket (`dns.control`), from whoever knows them.
Gives: answers on UDP and TCP port 53.

Files in reading order: records, wire, table, cache, upstream, resolvconf, control, client, server.
"""
