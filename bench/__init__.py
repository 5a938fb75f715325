"""Benchmarks against peers: `python -m bench NAME [--quick] [--json]`. Each module has `measure(quick, say) -> Report`.

Files in reading order: report, peers, kubernetes (builds it), apiserver (runs it); one a benchmark: dns, tunnel,
service, paths, memory, api; sites (the demo's topology, all of it running), starts (of a node's processes), moves (of
an endpoint), forward (the way beside the mesh), control (asks an engine), answer and call (servers and a client, run
inside); api_servers (the two APIs), api_load (a client that costs little), api_peer (a node on the other API), objects
(what a large cluster has); __main__ runs them.

Every figure is the median of three rounds or more, `--quick` or not: quick rounds are shorter, not fewer than that.
"""
