"""What an object is called: its body against the path, and names that are generated."""

from __future__ import annotations

import secrets
from typing import Any

from sync.api import status
from sync.api.registry import ResourceType
from sync.api.status import ApiError

MAX_GENERATED = 58
"""Characters of a generateName that count; five follow."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def generated(base: str) -> str:
    """A name by chance (apiserver's storage/names)."""
    return base[:MAX_GENERATED] + "".join(secrets.choice(_LETTERS) for _ in range(5))


def metadata_of(obj: dict[str, Any]) -> dict[str, Any]:
    """A body's metadata, made if it is not there. Raises ApiError 400."""
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    if not isinstance(metadata, dict):
        raise status.bad_request("metadata has to be an object")
    for field in ("name", "generateName", "namespace", "resourceVersion", "uid"):
        if not isinstance(metadata.get(field, ""), str | None):
            raise status.bad_request(f"metadata.{field} has to be a string")
    return metadata


def same_namespace(metadata: dict[str, Any], namespace: str) -> None:
    """A new object is of the namespace that the path names. Raises ApiError 400."""
    said = metadata.get("namespace") or namespace
    if not namespace:
        metadata.pop("namespace", None)
    elif said != namespace:
        text = "the namespace of the provided object does not match the namespace sent on the request"
        raise status.bad_request(text)


def same_name(obj: dict[str, Any], namespace: str, name: str) -> None:
    """An object is the one that the path names; a namespace that it leaves out is taken from there.

    Raises ApiError 400.
    """
    metadata = metadata_of(obj)
    said = metadata.get("name")
    if not said:
        text = f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        raise status.bad_request(text)
    if said != name:
        text = f"the name of the object ({said}) does not match the name on the URL ({name})"
        raise status.bad_request(text)
    if namespace and (metadata.get("namespace") or namespace) != namespace:
        text = f"the namespace of the object ({metadata['namespace']}) does not match"
        raise status.bad_request(f"{text} the namespace on the request ({namespace})")
    if namespace:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)


def no_unique_name(type: ResourceType, name: str) -> ApiError:
    """409: all names that were tried are taken."""
    error = status.already_exists(type.group_resource, name)
    text = f"{error.message}, the server was not able to generate a unique name for the object"
    return ApiError(409, "AlreadyExists", text, {**error.details, "retryAfterSeconds": 1})
