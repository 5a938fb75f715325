"""The text of a YAML or JSON file as plain data, with the line of each place in it.

libyaml composes the tree of nodes, each with its line; data are built from the nodes here. So lines are at hand
without reading a faulty file again, and a mapping with the same key twice, which PyYAML lets pass, is found. Scalars
have YAML 1.1's types as Kubernetes reads them: dates and base-60 numbers stay text. Merge keys (`<<`) are followed.

PyYAML is imported with the first text: a node whose manifests are as it remembers them starts without it. Hence a
node's kind is asked by its `id`, PyYAML's name for it, not by its class.

Hostile text raises `DocumentError` and nothing else: aliases share data and are never copied, and nesting is at most
`MAX_DEPTH` deep.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

MAX_DEPTH = 64
"""Levels of nesting; the deepest of our kinds has fewer than 12."""
MAX_SIZE = 16 * 1024 * 1024
"""Bytes of a file. 1,000 services with their endpoints are about 1 MB."""

_TAG = "tag:yaml.org,2002:"
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MERGE = f"{_TAG}merge"

Path = tuple[str | int, ...]


class Node(Protocol):
    """What is used of PyYAML's nodes; `id` is "scalar", "sequence" or "mapping"."""

    id: str
    tag: str
    value: Any
    start_mark: Any


class DocumentError(Exception):
    """The text is no YAML or JSON: `line` (from 1), `wrong`, and `right`, what would be."""

    def __init__(self, line: int, wrong: str, right: str = "") -> None:
        super().__init__(f"line {line}: {wrong}")
        self.line = line
        self.wrong = wrong
        self.right = right


class Document(NamedTuple):
    """One document of a file: its data, and its nodes for the lines."""

    data: object
    node: Node

    def line(self, path: Path) -> int:
        """Line of the deepest part of `path` that is there, from 1: of a field its key's, of an element its own."""
        node, line = self.node, _line(self.node)
        for part in path:
            if node.id == "mapping":
                found = next((item for item in node.value if item[0].value == part), None)
                if found is None:
                    break
                line, node = _line(found[0]), found[1]
            elif node.id == "sequence" and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = _line(node)
            else:
                break
        return line


def prepare() -> None:
    """Import what `read` needs, so that the first change to a directory takes no longer than the next."""
    import yaml  # noqa: F401


def read(text: bytes) -> list[Document]:
    """All documents of a file that are not empty. Raises DocumentError."""
    import yaml

    if len(text) > MAX_SIZE:
        raise DocumentError(1, f"the file has {len(text)} bytes", f"at most {MAX_SIZE}")
    try:
        loader = yaml.CSafeLoader(text)
        try:
            return list(_documents(loader))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise DocumentError(line, error.problem or error.context or "is not YAML", _advice(text, line)) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        # A reader's error has no line: bytes that are not UTF-8, or control characters.
        raise DocumentError(1, " ".join(str(error).split()), "text in UTF-8") from None
    except RecursionError:
        raise DocumentError(1, "is nested too deeply", f"at most {MAX_DEPTH} levels") from None


def _documents(loader: Any) -> Iterator[Document]:
    while loader.check_node():
        node = loader.get_node()
        if node is not None and node.tag != f"{_TAG}null":
            yield Document(_build(node, {}, 0), node)


def _build(node: Node, built: dict[int, object], depth: int) -> object:
    """Plain data of a node. `built` has what aliases share, by identity of the node; None marks one begun."""
    if node.id == "scalar":
        return _scalar(node)
    identity = id(node)
    if identity in built:
        if built[identity] is None:
            raise DocumentError(_line(node), "an alias inside what it stands for", "no alias here")
        return built[identity]
    if depth >= MAX_DEPTH:
        raise DocumentError(_line(node), "is nested too deeply", f"at most {MAX_DEPTH} levels")
    built[identity] = None
    result: object
    if node.id == "sequence":
        result = [_build(item, built, depth + 1) for item in node.value]
    else:
        result = _mapping(node, built, depth)
    built[identity] = result
    return result


def _mapping(node: Node, built: dict[int, object], depth: int) -> dict[str, object]:
    result: dict[str, object] = {}
    merged: dict[str, object] = {}
    for key, value in node.value:
        if key.tag == _MERGE:
            sources = value.value if value.id == "sequence" else [value]
            for source in sources:
                data = _build(source, built, depth + 1)
                if not isinstance(data, dict):
                    raise DocumentError(_line(key), "'<<' is not followed by a mapping")
                merged = data | merged
            continue
        if key.id != "scalar" or key.tag == f"{_TAG}null":
            raise DocumentError(_line(key), "a key is not text", "a word, in quotes if need be")
        if key.value in result:
            raise DocumentError(_line(key), f"the key '{key.value}' is there twice", "one of the two")
        result[key.value] = _build(value, built, depth + 1)
    return merged | result if merged else result


def _scalar(node: Node) -> object:
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return _BOOLS.get(text.lower(), text)
        case "int":
            return _integer(text)
        case "float":
            try:
                return float(text.replace("_", ""))
            except ValueError:
                return text
    return text


def _integer(text: str) -> object:
    digits = text.replace("_", "").lower()
    try:
        if digits.lstrip("+-").startswith("0") and digits.lstrip("+-").isdigit():
            return int(digits, 8)
        return int(digits, 0)
    except ValueError:  # base 60, as '10:30', or more digits than Python reads
        return text


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _advice(text: bytes, line: int) -> str:
    lines = text.split(b"\n")
    if line <= len(lines) and b"\t" in lines[line - 1]:
        return "spaces in place of the tab"
    return "check the indentation, the colons and the quotes here and on the line before"
