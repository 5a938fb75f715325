"""Who owns which fields: `metadata.managedFields` read and written.

Source: apimachinery v0.34, `util/managedfields/internal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sync.api.patch.fieldset import BadFields, FieldSet

APPLY, UPDATE = "Apply", "Update"
MOST_UPDATERS = 10
"""Managers by Update that an object keeps apart; of more, the oldest become one."""
ANCIENT = "ancient-changes"


class Manager(NamedTuple):
    """Whose fields. The version that an apply was written in is no part of who applied."""

    name: str
    operation: str
    api_version: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        """As conflicts say it."""
        said = f'"{self.name}"'
        if self.subresource:
            said += f' with subresource "{self.subresource}"'
        return f"{said} using {self.api_version}" if self.operation == UPDATE else said


class Owned(NamedTuple):
    """What a manager owns, in the words of which version, since when (RFC 3339; empty: not known)."""

    fields: FieldSet
    api_version: str
    time: str = ""


Managers = dict[Manager, Owned]


def manager(name: str, operation: str, api_version: str, subresource: str) -> Manager:
    """The manager of a write; one without a name is "unknown"."""
    return Manager(name or "unknown", operation, "" if operation == APPLY else api_version, subresource)


def decode(entries: Any) -> Managers:
    """`managedFields` as managers. Raises BadFields."""
    found: Managers = {}
    if not isinstance(entries, list):
        raise BadFields("managedFields must be a list")
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise BadFields("an entry of managedFields must be an object")
        name, operation, version, subresource, time = (
            _text(entry, key) for key in ("manager", "operation", "apiVersion", "subresource", "time")
        )
        if operation not in (APPLY, UPDATE):
            raise BadFields("operation must be `Apply` or `Update`")
        if not version:
            raise BadFields("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise BadFields(f"missing or invalid fieldsType in managed fields entry {index}")
        who = Manager(name, operation, "" if operation == APPLY else version, subresource)
        found[who] = Owned(FieldSet.decode(entry.get("fieldsV1") or {}), version, time)
    return found


def _text(entry: Mapping[str, Any], key: str) -> str:
    said = entry.get(key) or ""
    if not isinstance(said, str):
        raise BadFields(f"{key} must be a string")
    return said


def of(obj: Mapping[str, Any] | None) -> Managers:
    """The managers of an object; none where it says nothing that can be read."""
    entries = _entries(obj)
    try:
        return decode(entries) if entries else {}
    except BadFields:
        return {}


def of_write(live: Mapping[str, Any] | None, new: Mapping[str, Any], *, subresource: bool) -> Managers:
    """The managers to go on with: those that the write itself says, else the live object's. A write may empty them
    (`[]` or `[{}]`), and none by a subresource has a say."""
    entries = _entries(new)
    if subresource or entries is None:
        return of(live)
    if entries in ([], [{}]):
        return {}
    try:
        return decode(entries) or of(live)
    except BadFields:
        return of(live)


def _entries(obj: Mapping[str, Any] | None) -> Any:
    metadata = (obj or {}).get("metadata")
    return metadata.get("managedFields") if isinstance(metadata, dict) else None


def put(obj: dict[str, Any], managers: Managers) -> None:
    """Write the managers into an object, in Kubernetes' order."""
    entries = [_entry(who, owned) for who, owned in sorted(managers.items(), key=_order)]
    if entries:
        if not isinstance(obj.get("metadata"), dict):
            obj["metadata"] = {}
        obj["metadata"]["managedFields"] = entries
    elif isinstance(obj.get("metadata"), dict):
        obj["metadata"].pop("managedFields", None)


def _entry(who: Manager, owned: Owned) -> dict[str, Any]:
    entry = {
        "manager": who.name,
        "operation": who.operation,
        "apiVersion": owned.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.fields.encode(),
        "subresource": who.subresource,
    }
    return {key: said for key, said in entry.items() if said != ""}


def _order(item: tuple[Manager, Owned]) -> tuple[Any, ...]:
    who, owned = item
    return (who.operation, seconds(owned.time), who.name, owned.api_version, who.subresource)


def seconds(time: str) -> int:
    """Unix time of an RFC 3339 one; 0 for what is none."""
    try:
        return int(datetime.fromisoformat(time).timestamp()) if time else 0
    except (ValueError, OverflowError):
        return 0


def cap(managers: Managers) -> Managers:
    """At most MOST_UPDATERS managers by Update: the oldest are made one, `ancient-changes`, for each version."""
    made = dict(managers)
    updaters = [(who, owned) for who, owned in managers.items() if who.operation == UPDATE]
    many = len(updaters)
    oldest: dict[str, tuple[Manager, Owned]] = {}
    for who, owned in sorted(updaters, key=lambda item: (seconds(item[1].time), item[0])):
        if many <= MOST_UPDATERS:
            break
        version = owned.api_version
        if version not in oldest:
            oldest[version] = (who, owned)
            continue
        bucket = Manager(ANCIENT, UPDATE, version)
        if who == bucket:
            continue
        if bucket not in made:
            first, before = oldest[version]
            del made[first]
            made[bucket] = before
        made[bucket] = Owned(made[bucket].fields | owned.fields, version, owned.time)
        del made[who]
        many -= 1
    return made
