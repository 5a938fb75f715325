"""The command line of `edgemesh demo`: the show itself, and `enter` and `down` for one that was kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from e2e.demo import kept
from e2e.demo.record import Record, Step
from e2e.demo.run import SECONDS, show
from e2e.demo.screen import Screen
from e2e.lab import preflight
from e2e.lab.namespaces import BedError
from e2e.lab.routers import TERMS, Nat


def parser() -> argparse.ArgumentParser:
    kinds = "\n".join(f"  {kind:<16} {TERMS[kind]}" for kind in Nat)
    top = argparse.ArgumentParser(
        prog="edgemesh demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A call by name between two sites behind NAT, and what happens when things break: real processes\n"
        f"and packets, no root, in namespaces of their own. About {SECONDS} s.",
        epilog=f"kinds of router, in the terms of RFC 4787 (mapping/filtering):\n{kinds}\n\n"
        "EIM, APDM: endpoint-independent, address-and-port-dependent mapping;\n"
        "EIF, ADF, APDF: endpoint-independent, address-dependent, address-and-port-dependent filtering.\n"
        "What each pair must reach stands in docs/nat.md.",
    )
    for site in ("a", "b"):
        top.add_argument(
            f"--nat-{site}",
            choices=[str(kind) for kind in Nat],
            default=str(Nat.PORT_RESTRICTED),
            metavar="KIND",
            help=f"the router of site {site.upper()} (default: port-restricted)",
        )
    top.add_argument("--only", choices=["calls"], help="leave the faults out")
    top.add_argument("--manifests", action="store_true", help="without an API: a directory of manifests on every node")
    top.add_argument("--json", action="store_true", help="print one JSON document, last, alone on standard output")
    top.add_argument("--keep", action="store_true", help="leave the demo running, to look around in it")
    commands = top.add_subparsers(dest="command", metavar="")
    enter = commands.add_parser("enter", help="a shell on a node or in a pod of a kept demo")
    enter.add_argument("node", help="cloud, a1, a2, b1, a router, or a pod")
    enter.add_argument("run", nargs=argparse.REMAINDER, help="a command to run instead of a shell")
    commands.add_parser("down", help="end kept demos")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        if given.command == "enter":
            return kept.enter(given.node, given.run)
        if given.command == "down":
            return kept.down()
        if problem := preflight.problem():
            return _refused(given, problem)
        screen = Screen(sys.stderr if given.json else sys.stdout)
        nat_a, nat_b = Nat(given.nat_a), Nat(given.nat_b)
        record = show(
            nat_a,
            nat_b,
            with_faults=given.only != "calls",
            manifests=given.manifests,
            screen=screen,
            keep=given.keep,
        )
    except KeyboardInterrupt:
        print("\nedgemesh demo: ended; nothing of it is left", file=sys.stderr)
        return 130
    except BedError as error:
        return _refused(given, str(error))
    if given.json:
        print(record.json())
    return 0 if record.ok else 1


def _refused(given: argparse.Namespace, why: str) -> int:
    """Say why there is no demo; a program that waits for the document is told by it, too."""
    print(f"edgemesh demo: {why}", file=sys.stderr)
    if given.json:
        print(Record(given.nat_a, given.nat_b, steps=[Step("a private bed", detail=why)]).json())
    return 1


if __name__ == "__main__":
    sys.exit(main())
