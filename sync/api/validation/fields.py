"""Faults as Kubernetes words them (apimachinery `util/validation/field`): a reason, the bad value, what would be right.

A path is text: "spec.ports[0].name", "data[a key]".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from sync.api.status import Cause


def quoted(text: str) -> str:
    """As Go's %q, for text without control characters."""
    return msgspec.json.encode(text).decode()


def shown(value: Any) -> str:
    """A value in a message: text in quotes, all else as JSON."""
    return msgspec.json.encode(value).decode()


def invalid(path: str, value: Any, detail: str = "") -> Cause:
    return Cause(path, "FieldValueInvalid", _said("Invalid value", value, detail))


def type_invalid(path: str, value: Any, detail: str) -> Cause:
    return Cause(path, "FieldValueTypeInvalid", _said("Invalid value", value, detail))


def required(path: str, detail: str = "") -> Cause:
    return Cause(path, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def forbidden(path: str, detail: str) -> Cause:
    return Cause(path, "FieldValueForbidden", f"Forbidden: {detail}")


def duplicate(path: str, value: Any) -> Cause:
    return Cause(path, "FieldValueDuplicate", _said("Duplicate value", value, ""))


def not_found(path: str, value: Any) -> Cause:
    return Cause(path, "FieldValueNotFound", _said("Not found", value, ""))


def not_supported(path: str, value: Any, supported: Iterable[str]) -> Cause:
    detail = "supported values: " + ", ".join(map(quoted, supported))
    return Cause(path, "FieldValueNotSupported", _said("Unsupported value", value, detail))


def too_long(path: str, limit: int) -> Cause:
    unit = "byte" if limit == 1 else "bytes"
    return Cause(path, "FieldValueTooLong", f"Too long: may not be more than {limit} {unit}")


def too_many(path: str, count: int, limit: int) -> Cause:
    unit = "item" if limit == 1 else "items"
    return Cause(path, "FieldValueTooMany", _said("Too many", count, f"must have at most {limit} {unit}"))


def immutable(path: str, new: Any, old: Any) -> list[Cause]:
    """A fault if the two differ."""
    return [] if new == old else [invalid(path, new, "field is immutable")]


def each_invalid(path: str, value: Any, messages: Iterable[str]) -> list[Cause]:
    return [invalid(path, value, message) for message in messages]


def choice(path: str, value: Any, supported: Iterable[str]) -> list[Cause]:
    """A fault if text is missing or none of the `supported`."""
    if not value:
        return [required(path)]
    options = tuple(supported)
    return [] if value in options else [not_supported(path, value, options)]


def _said(what: str, value: Any, detail: str) -> str:
    return f"{what}: {shown(value)}: {detail}" if detail else f"{what}: {shown(value)}"
