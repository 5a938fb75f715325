"""One case of the contract."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.sync.api.kinds import merged

Json = dict[str, Any]


class Case(NamedTuple):
    """An object to make; with `change` (a merge patch) to be made as it is and then replaced by what it becomes."""

    name: str
    obj: Json
    change: Json | None = None
    subresource: str = ""


def meta(obj: Json, **meta: Any) -> Json:
    found: Json = merged(obj, {"metadata": meta})
    return found


def having(obj: Json, **fields: Any) -> Json:
    return {**obj, **fields}


LONG = "a" * 64
"""Too long for a label."""
LONGER = "a" * 254
"""Too long for a name."""
