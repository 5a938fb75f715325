"""The tree as others get it: everything pinned, nothing of the machine it was written on."""

import importlib.metadata
import re
import subprocess
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.pages import ROOT

HOSTS = re.compile(
    r"(127\.0\.0\.1|localhost|[\w.-]*\.?(example|test|invalid|local)(\.com|\.net|\.org)?|orders\.shop"
    r"|[\w-]+|kubernetes\.default\.svc|([\w-]+\.)*(k8s|kubernetes)\.io|www\.apache\.org|www\.wireguard\.com"
    r"|\d+\.\d+\.\d+\.\d+)"
)
"""Where an address may point to: names without a dot, the demo's and documents' names and numbers, sources quoted."""
MACHINE = re.compile(r"(?:^|[^\w}/.])/(?:root|work|home|Users)/\w")
"""A path into somebody's own directories."""


@cache
def tracked() -> dict[str, str]:
    """The text of all files under version control."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    if listing.returncode:
        pytest.skip("not a repository")
    names = [name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]
    return {name: (ROOT / name).read_text(errors="replace") for name in names}


def test_no_foreign_addresses_and_no_machine_paths() -> None:
    found = []
    for name, text in tracked().items():
        for number, line in enumerate(text.splitlines(), 1):
            hosts = re.findall(r"https?://([\w.-]+)", line)
            if MACHINE.search(line) or any(not HOSTS.fullmatch(host) for host in hosts):
                found.append(f"{name}:{number}: {line.strip()}")
    assert found == []


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def project() -> dict[str, list[str]]:
    """All that pyproject.toml asks for, by extra; "" is what the program itself needs."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted: dict[str, list[str]] = {
        "": settings["project"]["dependencies"],
        "build": settings["build-system"]["requires"],
    }
    wanted.update(settings["project"]["optional-dependencies"])
    return wanted


def closure(requirements: list[str]) -> set[str]:
    """The distributions that these bring, with all that those need here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += map(Requirement, importlib.metadata.requires(requirement.name) or ())
    return found


def test_all_dependencies_are_pinned_and_nothing_else() -> None:
    wanted = project()
    needed = closure([*wanted[""], *wanted["test"]])
    others = {canonicalize_name(Requirement(text).name) for text in (*wanted["build"], *wanted["peers"])}
    assert set(pinned()) == needed | others


def test_pins_are_what_is_installed_and_allowed() -> None:
    pins = pinned()
    wanted = project()
    for text in (text for texts in wanted.values() for text in texts):
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text
    for name in closure([*wanted[""], *wanted["test"]]):
        assert importlib.metadata.version(name) == pins[name]
