"""The systemd units of a node, from `deploy/systemd`: this program, this node's name, objects from the API."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from edgemesh.join.files_of_node import File, Places
from edgemesh.join.trust import JoinError

NAMES = ("edgemesh-engine.service", "edgemesh-resolver.service", "edgemesh-agent.service")
"""In the order in which they are started."""
RELAY = "edgemesh-relay.service"
"""On a node with a public address that others are relayed by."""
RUNNING = Path("/run/systemd/system")
"""There where systemd is this machine's init (sd_booted(3))."""

_PLACES = (
    Path(__file__).parents[2] / "deploy" / "systemd",
    Path(sys.prefix) / "share" / "edgemesh" / "systemd",
)


def names(relay: bool) -> tuple[str, ...]:
    """Those of a node."""
    return (*NAMES, RELAY) if relay else NAMES


def units(places: Places, name: str, program: str, *, relay: bool = False) -> list[File]:
    """The units of a node; `program` is the path of the command. Raises JoinError."""
    folder = next(filter(Path.is_dir, _PLACES), None)
    if folder is None:
        raise JoinError(f"the units are not installed: {_PLACES[1]} is missing; install edgemesh anew, or --no-systemd")
    found = []
    for unit in names(relay):
        text = (folder / unit).read_text()
        text = re.sub(r"^ExecStart=/usr/bin/env edgemesh (\w+).*$", rf"ExecStart={program} \1", text, flags=re.M)
        if "agent" in unit:
            text = text.replace("\nExecStart=", f"\nEnvironment=NODE_NAME={name}\nExecStart=", 1)
        if "engine" not in unit and places.state_dir != Places().state_dir:  # all else is read-only to them
            text = text.replace("\nExecStart=", f"\nReadWritePaths={places.state_dir}\nExecStart=", 1)
        if unit == RELAY and places.state_dir != Places().state_dir:
            text = re.sub(r"^(ExecStart=.* relay)$", rf"\1 --state-dir {places.state_dir}", text, flags=re.M)
        if config := _config_option(places):
            text = re.sub(r"^(ExecStart=.* (agent|resolver))$", rf"\1{config}", text, flags=re.M)
        found.append(File(places.systemd_dir / unit, text))
    return found


def _config_option(places: Places) -> str:
    return "" if places.config_dir == Places().config_dir else f" --config-file {places.config}"
