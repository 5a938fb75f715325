"""JSON values as Go tells them apart: 1, 1.0 and true are three things to Python's `==` too few."""

from __future__ import annotations

from typing import Any, Final


class Missing:
    """No value at all, which is not null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal. Numbers compare by value, and are no booleans."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return bool(a == b)


def copy(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy(item) for item in value]
    return value
