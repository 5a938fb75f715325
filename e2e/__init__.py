"""Topologies, the demo and scenarios in private network namespaces; runs the program as a user would, imports none of it.

Parts in reading order: lab/ (namespaces, routers, topology, workloads), demo/ (scenes, screen, run), scenarios/.
"""
