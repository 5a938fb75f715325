"""A Kubernetes API over the store: objects as JSON, requests and answers as Kubernetes' own.

Files in reading order: status (what a refusal looks like); schema, registry, crd (the kinds that are served, from
`data/` and from definitions), discovery, openapi (how they are told); codec (bytes), prune, quantity, structural (types,
unknown fields), defaults, strategy (which endpoint writes what), validation/ (what can be); events (in either group),
tables, printing, pod_state, duration, json_path (what is shown).

`data/` is made by `dev/openapi.py` from what Kubernetes publishes.
"""
