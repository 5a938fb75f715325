"""A Kubernetes API over the store: objects as JSON, requests and answers as Kubernetes' own.

Takes HTTPS requests of kubectl, client-go and whatever else speaks to a kube-apiserver. Gives their answers; what is
acknowledged is on disk. `python -m sync.api` runs it alone.

Files in reading order: status (what a refusal looks like); schema, registry and crd (the kinds that are served); codec,
protobuf, prune, structural, defaults, quantity and duration (bodies to objects of their kind); strategy, pod_state and
validation/ (what may be written by which endpoint, and whether it can be); patch/ and selectors; versions, naming,
admission, deletion and allocation (an object in another version, what it is called, where it may be made, what a
deletion makes of it, its addresses); objects (the verbs, over the store); lists, recent, lines and watch (pages of one
snapshot, and what happens from then on); chores, garbage, emptying and bootstrap (what the server does by itself);
access, rules and reviews (who asks, and what they may); paths, options, binding and requests (a request from its parts
to its answer); forms, tables, printing, events, json_path, discovery, openapi and nonresource (the forms of answers,
and what is served as clients ask it); http, gate, connections, inflight and server (HTTP: its library, limits,
beginning and end); __main__.

`data/` is made by `dev/openapi.py` and `dev/protobuf.py` from what Kubernetes publishes.

Invariants: every write is computed on the newest state inside `Store.write`; nothing is said to be written that is not
durable; bad input is 4xx with Kubernetes' Status, never a fault of the server's; each client's share is bounded.

What differs from kube-apiserver on purpose is listed in docs/api.md.
"""
