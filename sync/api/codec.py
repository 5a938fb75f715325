"""Bodies: JSON and YAML to a dict, with the paths of fields that stand twice.

What is given is safe for code that walks it by recursion: at most `MAX_DEPTH` levels, and no more values than
`MAX_VALUES` however YAML's aliases repeat themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from sync.api.status import ApiError, bad_request, unsupported_media_type

JSON = "application/json"
YAML = "application/yaml"
MAX_DEPTH = 200
"""Levels of nesting. A CRD's schema, the deepest of what is served, has two a level of the kind that it describes."""
MAX_VALUES = 1_000_000
"""Of a YAML body with its aliases followed."""


def decode(body: bytes, media_type: str) -> tuple[dict[str, Any], list[str]]:
    """An object, and the paths of duplicate fields ("spec.foo"). `media_type` is application/json or application/yaml,
    without parameters. Raises ApiError: 415 for another type, 400 for what can't be read or is no object."""
    if media_type == JSON:
        return decode_json(body)
    if media_type == YAML:
        return decode_yaml(body), []
    raise unsupported_media_type()


def decode_json(body: bytes) -> tuple[dict[str, Any], list[str]]:
    """RFC 8259, UTF-8; of a field that stands twice the last counts."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise _unreadable("json parse error", error) from None
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _measure(value)
    return _object(value), _duplicates(body)


def decode_yaml(body: bytes) -> dict[str, Any]:
    """One document. A field that stands twice is refused, unlike in JSON."""
    from sync.client.document import DocumentError, read

    try:
        documents = read(body)
    except DocumentError as error:
        raise _unreadable("yaml", error) from None
    if len(documents) != 1:
        raise bad_request(f"a request has one object, this body has {len(documents)}")
    value = documents[0].data
    _measure(value)
    # Through JSON: aliases share their value, and whoever changes one would change the other.
    try:
        return _object(msgspec.json.decode(msgspec.json.encode(value)))
    except (msgspec.MsgspecError, ValueError) as error:
        raise _unreadable("yaml", error) from None


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise bad_request("couldn't get version/kind; json parse error: the body is not an object")


def _unreadable(what: str, error: Exception) -> ApiError:
    return bad_request(f"couldn't get version/kind; {what}: {error}")


def _too_deep() -> ApiError:
    return bad_request(f"the object is nested too deeply: at most {MAX_DEPTH} levels")


def _measure(value: Any) -> None:
    level, count = [value], 0
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
            if count + len(below) > MAX_VALUES:
                raise bad_request(f"the object has more than {MAX_VALUES} values")
        if not below:
            return
        level, count = below, count + len(below)
    raise _too_deep()


def _duplicates(body: bytes) -> list[str]:
    twice = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        twice = twice or len({name for name, _ in pairs}) != len(pairs)

    text = body.decode()
    json.loads(text, object_pairs_hook=look, parse_int=str, parse_float=str)
    if not twice:
        return []
    return list(dict.fromkeys(_repeated(json.loads(text, object_pairs_hook=_Pairs, parse_int=str), "")))


class _Pairs(list[tuple[str, Any]]):
    """An object's fields as they stand, apart from a list's elements."""


def _repeated(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, below in value:
            here = f"{path}.{name}" if path else name
            if name in seen:
                yield here
            seen.add(name)
            yield from _repeated(below, here)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _repeated(below, f"{path}[{index}]")
