"""Kubernetes objects kept in step between machines.

Takes: a directory of manifests, or an API server. Gives: typed objects and their changes; and a Kubernetes API of its
own, on one file.

Parts in reading order: resources; controllers/ (pure functions from objects to objects); client/ (sources); store
(objects and revisions on disk); api/ (the API over it).
"""
