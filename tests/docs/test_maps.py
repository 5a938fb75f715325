"""Each package's docstring is its map: it names all its files and sub-packages, and none that is not there."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PACKAGES = sorted(
    path.parent.relative_to(ROOT)
    for top in ("bench", "dns", "e2e", "edgemesh", "proxy", "sync", "tunnel")
    for path in (ROOT / top).rglob("__init__.py")
)


def listed(docstring: str) -> str:
    """The paragraph that lists the files, what is in brackets left out."""
    (paragraph,) = re.findall(r"(?:[Ff]iles|Parts)(?: in reading order)?[.:] (.*?)(?:\n\n|\Z)", docstring, re.DOTALL)
    return re.sub(r"\([^)]*\)", "", paragraph)


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_the_map_is_true(package: Path) -> None:
    directory = ROOT / package
    docstring = ast.get_docstring(ast.parse((directory / "__init__.py").read_text()))
    assert docstring
    text = listed(docstring)
    files = {path.stem for path in directory.glob("*.py")} - {"__init__"}
    parts = {path.parent.name for path in directory.glob("*/__init__.py")}
    named = set(re.findall(r"\w+", text))
    assert files | parts <= named, f"not named: {sorted((files | parts) - named)}"
    items = [" ".join(item.split()) for item in re.split(r"[,;:.]|\band\b", text)]
    single = {item.rstrip("/") for item in items if re.fullmatch(r"[a-z_]\w*/?", item)}
    assert single <= files | parts, f"named, but not there: {sorted(single - files - parts)}"


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_each_file_says_what_it_is(package: Path) -> None:
    for path in (ROOT / package).glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} has no docstring"
