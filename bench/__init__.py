"""Benchmarks against peers: `python -m bench NAME [--quick] [--json]`. Each module has `measure(quick, say) -> Report`.

Files in reading order: report, peers, then one a benchmark; __main__ runs them.
"""
