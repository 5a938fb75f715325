"""Patches of objects and the ownership of fields: pure functions over JSON objects.

Takes an object, a patch's body or an applied configuration, and the kind's schema; gives a new object (no argument is
changed, but `track` writes managedFields into `new`), or raises ApiError. Nothing here sets defaults or validates.

Files in reading order: values (JSON values as Go tells them apart), document (JSON patch, merge patch), strategic
(strategic merge patch), fieldset (sets of fields and FieldsV1), shape (how the values of a schema merge), structured
(check, list fields, take away) and merging (compare, merge), managers (managedFields), ownership (tracking of writes),
apply (server-side apply).

What the server does around it: decide by media type (`MEDIA_TYPES`; custom kinds know no strategic merge: 415), set
defaults before `track`, refuse an apply without a field manager, call `keep_times` before it compares a write with what
is stored.

Invariants: input raises nothing but ApiError; a field that two managers own has one value; an apply done twice changes
nothing the second time.
"""

from __future__ import annotations

from sync.api.patch.apply import server_side_apply
from sync.api.patch.document import json_patch, merge_patch
from sync.api.patch.managers import entries_of
from sync.api.patch.ownership import keep_times, track
from sync.api.patch.strategic import strategic_merge
from sync.api.registry import ResourceType

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
MEDIA_TYPES = (JSON, MERGE, STRATEGIC, APPLY)

__all__ = [
    "APPLY",
    "JSON",
    "MEDIA_TYPES",
    "MERGE",
    "STRATEGIC",
    "accepted",
    "entries_of",
    "json_patch",
    "keep_times",
    "merge_patch",
    "server_side_apply",
    "strategic_merge",
    "track",
]


def accepted(type: ResourceType) -> tuple[str, ...]:
    """The media types of patches that a kind takes."""
    return tuple(each for each in MEDIA_TYPES if each != STRATEGIC or not type.custom)
