"""Pure translations, a service or a node at a time: Kubernetes objects to what dns, proxy and tunnel take.

Files in reading order: peers (nodes), endpoints (who answers for a service), records, services; planner (what of all
that a change touches, and the difference it makes).
"""
