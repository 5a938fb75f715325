"""Kubernetes objects kept in step between machines.

Takes: a directory of manifests (later: an API server). Gives: typed objects and their changes.

Files in reading order: resources; controllers/ (pure functions from objects to objects); client/ (sources).
"""
