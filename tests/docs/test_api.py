"""docs/api.md is true: its kinds are those that are served, its tests are there, its differences those of the tests."""

import re

from sync.api.registry import Registry
from tests.docs.pages import ROOT
from tests.sync.api.kubectl.script import STEPS

PAGE = (ROOT / "docs" / "api.md").read_text()
TESTS = ROOT / "tests" / "sync" / "api"


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_kinds_are_those_that_are_served() -> None:
    served = [
        [each.plural, each.api_version, ", ".join(sorted(sub.name for sub in each.served_subresources))]
        for each in Registry().all()
    ]
    assert sorted(rows("What is served")) == sorted(served)


def test_each_row_names_tests_that_there_are() -> None:
    found = rows("What works, and the tests that say so")
    assert len(found) > 20
    for what, named in found:
        file = ""
        tests = re.findall(r"(?:([\w/.]+\.py)::)?(test_\w+)\b(?!\.py)", named)
        assert tests, what
        for path, test in tests:
            file = path or file
            assert f"def {test}(" in (TESTS / file).read_text(), f"{what}: {file}::{test}"


def test_each_difference_of_kubectl_is_listed() -> None:
    listed = {what for what, _ in rows("What differs from kube-apiserver")}
    assert {step.why for step in STEPS if step.why} <= listed
