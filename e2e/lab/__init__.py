"""Hosts, routers and links in network namespaces of their own: no root, the machine untouched, nothing left.

Files in reading order: namespaces (the bed), preflight (whether there can be one), routers (NAT of each kind, weather),
node (a node's supervisor, run inside), world (DNS for all other names, run inside), topology (cloud, sites A and B);
api (a client), runtime (pods as namespaces), kubelet and scheduler, which run inside;
workloads (pods as seen from outside, and a cluster of manifests), cluster (the one on the API); calls (a client, run
inside), caller (its outside end).
"""
