"""Topologies, the demo and scenarios in private network namespaces.

It runs the program as a user would, and imports none of it.

Parts in reading order: lab/ (namespaces, routers, topology, cluster), demo/ (scenes, screen, run), scenarios/.
"""
