"""Benchmarks against peers: `python -m bench NAME [--quick] [--json]`. Each module has `measure(quick, say) -> Report`.

Files in reading order: report, peers, kubernetes (builds it), apiserver (runs it); one a benchmark: dns, tunnel,
service, paths, memory; sites (the topology of most), starts (of a node's processes), answer and call (servers and a
client, run inside); __main__ runs them.
"""
