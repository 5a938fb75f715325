"""Plain data against a type: which fields are unknown, which have the wrong type, and where.

Faults are found in two passes: one over the fields' names, which finds all unknown ones and drops those that are
known and not used (`Ignorable`), and msgspec's conversion, which stops at the first value of a wrong type. A null is
an absent field, as in Kubernetes. The same pass serves the configuration file.
"""

import re
import types
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

Path = tuple[str | int, ...]
T = TypeVar("T")


class Fault(NamedTuple):
    """What is wrong at a place in an object, and what would be right; `right` may be empty."""

    path: Path
    wrong: str
    right: str


class Ignorable(NamedTuple):
    """Fields that are known and not used, by type, and types in which any other field is ignored too."""

    unused: Mapping[type, frozenset[str]]
    open: Collection[type] = ()


def spell(path: Path) -> str:
    """A path as people write it: `spec.ports[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def suggest(name: str, known: Collection[str]) -> str:
    """What `name` was perhaps meant to be, as advice; else the known names."""
    import difflib  # only a mistake needs it

    folded = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{folded[close[0]]}'?"
    return "known here: " + ", ".join(sorted(known))


class Reader:
    """Turns plain data into a type, with what may be ignored fixed once."""

    def __init__(self, ignorable: Ignorable) -> None:
        self._ignorable = ignorable

    def read(self, data: object, kind: type[T], faults: list[Fault], ignored: list[Path] | None = None) -> T | None:
        """Convert; on faults append them and return None. Paths of fields known and not used go to `ignored`."""
        before = len(faults)
        pruned = self._prune(data, kind, (), faults, ignored)
        try:
            result = msgspec.convert(pruned, kind)
        except msgspec.ValidationError as error:
            fault = translate(str(error), data, kind)
            if not any(fault.path == other.path for other in faults[before:]):
                faults.append(fault)
            return None
        return result if len(faults) == before else None

    def _prune(self, data: object, kind: type, path: Path, faults: list[Fault], ignored: list[Path] | None) -> object:
        """The data without nulls and unused fields; unknown fields are faults. Never fails: types are checked later."""
        if not isinstance(data, dict):
            if isinstance(data, list):
                return [self._prune(item, kind, (*path, i), faults, ignored) for i, item in enumerate(data)]
            return data
        known = _fields(kind)
        if known is None:  # a map of free keys, such as labels
            return {name: "" if value is None else value for name, value in data.items()}
        unused = self._ignorable.unused.get(kind, frozenset[str]())
        pruned: dict[str, object] = {}
        for name, value in data.items():
            if value is None and (name in known or name in unused):
                continue
            if name in known:
                inner = known[name]
                pruned[name] = self._prune(value, inner, (*path, name), faults, ignored) if inner else value
            elif name in unused:
                if ignored is not None:
                    ignored.append((*path, name))
            elif kind not in self._ignorable.open:
                faults.append(Fault((*path, name), f"unknown field '{name}'", suggest(name, {*known, *unused})))
        return pruned


@cache
def _fields(kind: type) -> dict[str, type | None] | None:
    """Field names of a struct, with the type that is nested in each; None for what is no struct."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return None
    fields: dict[str, type | None] = {
        field.encode_name: next(_nested(field.type), None) for field in msgspec.structs.fields(kind)
    }
    if kind.__struct_config__.tag_field:
        fields[kind.__struct_config__.tag_field] = None
    return fields


def _nested(hint: Any) -> Iterator[type]:
    """The struct or map inside a type hint such as `tuple[Port, ...] | None`."""
    origin = get_origin(hint)
    if origin is dict:
        yield dict
    elif origin in (tuple, list, Union, types.UnionType):
        for inner in get_args(hint):
            yield from _nested(inner)
    elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text (a string, in quotes if it looks like a number)",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping of fields",
    "null": "nothing",
}
_ARTICLES = {"int": "a number", "float": "a number", "str": "text", "bool": "true or false", "array": "a list"}
_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_VALUE_OF_MAP = "[...]"
"""How msgspec writes a key of a map: it does not say which."""
_EXPECTED = re.compile(r"Expected `(?P<types>[^`]*)`(?:, got `(?P<got>\w+)`)?(?P<limit>.*)", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")


def translate(message: str, data: object, kind: type) -> Fault:
    """One of msgspec's messages as a fault, in a user's words; `data` is what was converted to `kind`."""
    found = _WHERE.match(message)
    what, where = (found["what"], found["path"] or "") if found else (message, "")
    path: Path = tuple(name or int(index) for name, index in _STEP.findall(where.removesuffix(_VALUE_OF_MAP)))
    value = _at(data, path)
    if where.endswith(_VALUE_OF_MAP) and isinstance(value, dict):
        name, value = next((item for item in value.items() if not isinstance(item[1], str | None)), ("", None))
        path = (*path, name)
    if missing := _MISSING.match(what):
        return Fault(path, f"'{missing[1]}' is missing", f"add '{missing[1]}'")
    if what.startswith("Invalid enum value"):
        return Fault(path, f"{value!r} is not one of its values", ", ".join(_choices(kind, path)))
    expected = _EXPECTED.match(what)
    if not expected:
        return Fault(path, what, "")
    wanted = " or ".join(_WORDS.get(name.strip(), name.strip()) for name in expected["types"].split("|"))
    if expected["got"]:
        shown = f"{value!r} is " if isinstance(value, str | int | float | bool) else "is "
        return Fault(path, f"{shown}{_ARTICLES.get(expected['got'], 'a mapping')}", wanted)
    return Fault(path, f"{value!r} is out of range", f"{wanted}{expected['limit']}")


def _choices(kind: type, path: Path) -> list[str]:
    """The values of the enumerated field at `path`."""
    names = [part for part in path if isinstance(part, str)]
    for name in names[:-1]:
        kind = (_fields(kind) or {}).get(name) or kind
    for field in msgspec.structs.fields(kind):
        if field.encode_name == names[-1]:
            values = get_args(field.type) or [member.value for member in field.type]
            return [str(value) for value in values if value]
    return []


def _at(data: object, path: Path) -> object:
    for part in path:
        try:
            data = data[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return data
