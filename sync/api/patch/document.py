"""Patches that know no schema: JSON patch (RFC 6902) and JSON merge patch (RFC 7386)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from sync.api import status
from sync.api.patch.values import copy
from sync.api.status import ApiError, Cause

MOST_OPERATIONS = 10_000
"""Of a JSON patch."""
MOST_COPIED = 3 * 1024 * 1024
"""Bytes that its copy operations may add, all together."""
DEEPEST = 200
"""Levels of a patched object."""
T = TypeVar("T")
REJECTED = "the server rejected our request due to an error in our request"


def json_patch(obj: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The object with the operations done. Raises ApiError: 400 for what is no JSON patch, 413 for too many operations,
    422 for an operation that can't be done; its cause says which and why (upstream's Status leaves that out)."""
    operations = _operations(body)
    import jsonpatch  # 15 ms, and few requests need it

    made: Any = copy(dict(obj))
    copied = 0
    for index, operation in enumerate(operations):
        try:
            patch = jsonpatch.JsonPatch([operation])
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, ValueError) as error:
            raise status.bad_request(f"operation {index} of the patch: {error}") from error
        try:
            if operation.get("op") == "copy":
                copied += len(msgspec.json.encode(jsonpatch.JsonPointer(operation["from"]).resolve(made)))
                if copied > MOST_COPIED:
                    raise rejected(f"[{index}]", f"copy operations add more than the limit, {MOST_COPIED} bytes")
            made = patch.apply(made, in_place=True)
        except ApiError:
            raise
        except jsonpatch.JsonPatchTestFailed as error:
            raise rejected(f"[{index}]", f"{_named(operation)}: the value there is another") from error
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            # the library's words quote the object, which is not for everybody who may patch it
            raise rejected(f"[{index}]", f"{_named(operation)}: there is no such place in the object") from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise rejected(f"[{index}]", f"{_named(operation)} does not apply") from error
    if not isinstance(made, dict):
        raise rejected("", "what the patch leaves is no object")
    return check_depth(made)


def _operations(body: bytes) -> list[dict[str, Any]]:
    operations = decode(body)
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise status.bad_request("error decoding patch: a JSON patch is a list of operations")
    if len(operations) > MOST_OPERATIONS:
        what = f"The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(operations)}"
        raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {what}")
    for index, operation in enumerate(operations):
        for field in ("op", "path"):
            if not isinstance(operation.get(field), str):
                raise status.bad_request(f"error decoding patch: operation {index} has no {field}, or it is no string")
    return operations


def _named(operation: Mapping[str, Any]) -> str:
    return f"{operation['op']} operation at {operation['path'] or 'the whole object'}"


def merge_patch(obj: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The object merged with the patch: maps by key, null takes away, all else replaces. Raises ApiError 400."""
    return check_depth(_merged(dict(obj), decode_object(body)))


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    made = dict(target) if isinstance(target, dict) else {}
    for name, said in patch.items():
        if said is None:
            made.pop(name, None)
        else:
            made[name] = _merged(made.get(name), said)
    return made


def decode_object(body: bytes) -> dict[str, Any]:
    """A patch that must be an object. Raises ApiError 400."""
    patch = decode(body)
    if not isinstance(patch, dict):
        raise status.bad_request("error decoding patch: the patch must be an object")
    return patch


def decode(body: bytes) -> Any:
    """JSON that nests no deeper than an object may. Raises ApiError 400."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise status.bad_request(f"error decoding patch: {error}") from error
    return check_depth(found)


def check_depth(value: T) -> T:
    """The value itself. Raises ApiError 400 if it nests too deeply for whoever walks it after."""
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        if not level:
            return value
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
    raise status.bad_request(f"the object nests more than {DEEPEST} levels deep")


def rejected(field: str, why: str) -> ApiError:
    """422 for a patch that can't be done."""
    cause = Cause(field, "FieldValueInvalid", why)._asdict()
    return ApiError(422, "Invalid", REJECTED, {"causes": [{key: said for key, said in cause.items() if said}]})
