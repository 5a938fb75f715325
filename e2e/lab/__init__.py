"""Hosts, routers and links in network namespaces of their own: no root, the machine untouched, nothing left.

Files in reading order: namespaces, routers, topology, workloads.
"""
