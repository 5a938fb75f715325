"""Hosts, routers and links in network namespaces of their own: no root, the machine untouched, nothing left.

Files in reading order: namespaces (the bed), preflight (whether there can be one), routers (NAT of each kind, weather),
node (a node's supervisor, run inside), world (DNS for all other names, run inside), topology (cloud, sites A and B),
workloads (scheduler and kubelet), calls (a client, run inside), caller (its outside end).
"""
