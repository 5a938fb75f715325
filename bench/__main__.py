"""`python -m bench NAME [--quick] [--json]`: run one benchmark, or `all`; exit status 0 whether targets are met or not.

A benchmark is a module of this package with `measure(quick, say)`; `say` takes a line of progress.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from functools import partial

from rich.console import Console

from bench.report import Report

NAMES = ("dns", "service", "tunnel", "paths", "memory", "api")
ON_SITES = ("paths", "memory")
"""What is measured on the demo's topology, on the API or without it."""


def main(arguments: Sequence[str]) -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, with the peers that are there.")
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--quick", action="store_true", help="under 50 s each, with shorter runs; no fewer than three")
    parser.add_argument("--manifests", action="store_true", help=f"{' and '.join(ON_SITES)}: without the API")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    progress = Console(stderr=True)
    reports: list[Report] = []
    for name in NAMES if options.name == "all" else [options.name]:
        measure = importlib.import_module(f"bench.{name}").measure
        say = partial(progress.print, style="dim", highlight=False, markup=False)
        how = {"manifests": True} if options.manifests and name in ON_SITES else {}
        reports.append(measure(options.quick, say, **how))
        if not options.json:
            reports[-1].show(Console())
    if options.json and options.name != "all":
        print(reports[0].to_json())
    elif options.json:
        every = [json.loads(report.to_json()) for report in reports]
        targets = [target for report in every for target in report["targets"]]
        print(json.dumps({"reports": every, "targets": targets}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
