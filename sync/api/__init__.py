"""A Kubernetes API over the store: objects as JSON, requests and answers as Kubernetes' own.

Files in reading order: status (what a refusal looks like).

What is served: schema and registry (kinds, from `data/`, which `dev/openapi.py` makes, and from crd), discovery,
openapi. What becomes of an object that comes in: codec (bytes), prune with quantity and structural (types and unknown
fields), defaults, strategy (which endpoint writes what), validation/. How it is shown: events (in either group), tables
with printing, pod_state, duration and json_path.
"""
