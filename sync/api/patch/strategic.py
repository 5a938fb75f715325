"""Strategic merge patch: maps and keyed lists are merged as the kind's schema says, with directives in the patch.

Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`.
Source: apimachinery v0.34, `util/strategicpatch`. Lists are told apart by one merge key, so that of two service ports
with one number and two protocols the first is meant, as upstream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sync.api import status
from sync.api.patch.document import check_depth, decode_object, rejected
from sync.api.patch.fieldset import value as step
from sync.api.patch.values import copy
from sync.api.schema import Schema

PATCH, RETAIN = "$patch", "$retainKeys"
DELETE_FROM, ORDER = "$deleteFromPrimitiveList", "$setElementOrder"
_NOTHING = Schema({})


def strategic_merge(obj: Mapping[str, Any], body: bytes, schema: Schema) -> dict[str, Any]:
    """The object merged with the patch. `schema` is that of a built-in kind: others have no merge keys, and the server
    answers 415. Raises ApiError: 400 for a patch that is none or does not fit, 422 as upstream."""
    return check_depth(_merge_map(copy(dict(obj)), decode_object(body), schema))


def _merge_map(old: dict[str, Any], patch: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """`old` is changed; the patch's parts may become its parts."""
    if PATCH in patch:
        return _directed(patch)
    patch = _retained(old, patch)
    for name in [name for name in patch if name.startswith(ORDER)]:
        _merge_ordered(old, patch, name, schema)
    for name, said in [*_deletions(patch)]:
        _delete_from(old, name, said)
    for name, said in patch.items():
        if name.startswith((ORDER, DELETE_FROM)):
            continue
        if said is None:
            old.pop(name, None)
            continue
        known = old.get(name)
        if isinstance(said, dict) and isinstance(known, dict):
            old[name] = said if "replace" in _strategy(schema, name) else _merge_map(known, said, _at(schema, name))
        elif isinstance(said, list) and isinstance(known, list):
            old[name] = _merge_list(known, said, schema, name)
        else:
            _put(old, name, said)
    return old


def _directed(patch: dict[str, Any]) -> dict[str, Any]:
    if patch[PATCH] == "replace":
        return {name: said for name, said in patch.items() if name != PATCH}
    if patch[PATCH] == "delete":
        return {}
    raise _unknown_directive(patch)


def _retained(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The patch without $retainKeys; fields of `old` that it does not name are taken away."""
    if RETAIN not in patch:
        return patch
    keys = patch[RETAIN]
    rest = {name: said for name, said in patch.items() if name != RETAIN}
    written = [name for name, said in rest.items() if said is not None and not name.startswith((DELETE_FROM, ORDER))]
    if not isinstance(keys, list) or any(name not in keys for name in written):
        raise status.bad_request("invalid patch format of retainKeys")
    for name in [name for name in old if name not in keys]:
        del old[name]
    return rest


def _deletions(patch: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, said in patch.items():
        if name.startswith(DELETE_FROM):
            yield _field_of(name, DELETE_FROM, "primitive list"), said


def _field_of(directive: str, prefix: str, what: str) -> str:
    head, slash, field = directive.partition("/")
    if head != prefix or not slash:
        raise status.bad_request(f"invalid patch format of {what}")
    return field


def _delete_from(old: dict[str, Any], name: str, gone: Any) -> None:
    if gone is None:
        old.pop(name, None)
    elif isinstance(old.get(name), list):
        if not isinstance(gone, list):
            raise status.bad_request("invalid patch format of primitive list")
        deleted = {_token(item, "") for item in gone}
        old[name] = [item for item in old[name] if _token(item, "") not in deleted]


def _put(old: dict[str, Any], name: str, said: Any) -> None:
    """A value where none was, or one of another type: directives and nulls in it go."""
    if isinstance(said, dict) and PATCH in said:
        old.pop(name, None)
    else:
        old[name] = _bare(said)


def _bare(said: Any) -> Any:
    if isinstance(said, dict):
        return {
            name: _bare(item)
            for name, item in said.items()
            if item is not None and not (isinstance(item, dict) and PATCH in item)
        }
    if isinstance(said, list):
        return [_bare(item) for item in said if not (isinstance(item, dict) and PATCH in item)]
    return said


def _merge_list(old: list[Any], patch: list[Any], schema: Schema, name: str) -> list[Any]:
    if "merge" not in _strategy(schema, name):
        return patch
    if not old and not patch:
        return old
    if not _of_maps(old, patch):
        merged = list({_token(item, ""): item for item in [*old, *patch]}.values())
        return _ordered(merged, patch, old, "")
    key = _merge_key(schema, name)
    if not key:
        raise status.bad_request(f"cannot merge lists without merge key for {name}")
    kept, patch = _without_directives(old, patch, key)
    merged, places = list(kept), _places(kept, key)
    for item in patch:
        index = places.setdefault(_token(item, key), len(merged))
        if index == len(merged):
            merged.append(item)
        else:
            merged[index] = _merge_map(merged[index], item, _element(schema, name))
    return _ordered(merged, patch, kept, key)


def _without_directives(old: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """The old list without what the patch deletes, and the patch's other elements."""
    rest = [item for item in patch if PATCH not in item]
    deleted = set()
    for item in patch:
        if item.get(PATCH) == "delete":
            deleted.add(_token(item, key))
        elif item.get(PATCH) == "merge":
            raise status.bad_request("merging lists cannot yet be specified in the patch")
        elif item.get(PATCH, "replace") != "replace":
            raise _unknown_directive(item)
    if len(rest) + sum(item.get(PATCH) == "delete" for item in patch) < len(patch):
        return rest, []
    return [item for item in old if _token(item, key) not in deleted] if deleted else old, rest


def _merge_ordered(old: dict[str, Any], patch: dict[str, Any], directive: str, schema: Schema) -> None:
    """`$setElementOrder/FIELD`: merge the field and order its elements; the field is taken out of the patch."""
    name = _field_of(directive, ORDER, "setElementOrder list")
    order, known, said = patch[directive], old.get(name), patch.get(name)
    if not all(isinstance(value, list) for value in (order, known or [], said or [])):
        raise status.bad_request("invalid patch format of setElementOrder list")
    if said is None and (name in patch or known is None):
        return
    key = _merge_key(schema, name)
    if said:
        _check_order(said, order, key)
    if known is None:
        merged = _bare(said)
    elif said is None:
        merged = known
    else:
        merged = _merge_list(known, said, schema, name)
    patch.pop(name, None)
    old[name] = _ordered(merged, order, known or [], key)


def _check_order(said: list[Any], order: list[Any], key: str) -> None:
    """What the patch says of a list must come in the order that it asks for."""
    rest = iter([_token(item, key) for item in order])
    written = [_token(item, key) for item in said if not (isinstance(item, dict) and PATCH in item)]
    if order and not all(token in rest for token in written):
        raise status.bad_request(f"The order in patch list:\n{said}\n doesn't match {ORDER} list:\n{order}\n")


def _ordered(merged: list[Any], order: list[Any], old: list[Any], key: str) -> list[Any]:
    """Elements that `order` names come in its order; others stay before whichever of them they were before."""
    wanted, before = _places(order, key), _places(old, key)
    tokens = [(_token(item, key), item) for item in merged]
    asked = sorted((each for each in tokens if each[0] in wanted), key=lambda each: wanted[each[0]])
    others = sorted((each for each in tokens if each[0] not in wanted), key=lambda each: before.get(each[0], -1))
    made, i = [], 0
    for token, item in asked:
        while i < len(others) and before.get(others[i][0], len(old)) < before.get(token, -1):
            made.append(others[i][1])
            i += 1
        made.append(item)
    return made + [item for _, item in others[i:]]


def _places(items: list[Any], key: str) -> dict[str, int]:
    """The first place of each element."""
    found: dict[str, int] = {}
    for index, item in enumerate(items):
        found.setdefault(_token(item, key), index)
    return found


def _token(item: Any, key: str) -> str:
    """What an element is told by: its merge key, or all of it. Raises ApiError 400 for one without the key."""
    if key:
        if not isinstance(item, dict):
            raise status.bad_request(f"a list with merge key {key} has an element that is no map: {item}")
        if key not in item:
            raise status.bad_request(f"map: {item} does not contain declared merge key: {key}")
        item = item[key]
    return step(item)


def _of_maps(*lists: list[Any]) -> bool:
    """Whether the elements are maps; they are of one type. Raises ApiError."""
    types = {type(item) for items in lists for item in items}
    if list in types:
        raise rejected("", "lists of lists are not supported")
    if len(types) > 1:
        raise status.bad_request(f"list element types are not identical: {[*lists]}")
    return types == {dict}


def _unknown_directive(patch: Mapping[str, Any]) -> status.ApiError:
    return status.bad_request(f"unknown patch type: {patch[PATCH]} in map: {dict(patch)}")


def _at(schema: Schema, name: str) -> Schema:
    return schema.field(name) or _NOTHING


def _element(schema: Schema, name: str) -> Schema:
    return _at(schema, name).items or _NOTHING


def _strategy(schema: Schema, name: str) -> frozenset[str]:
    return _at(schema, name).patch_strategy


def _merge_key(schema: Schema, name: str) -> str:
    return _at(schema, name).patch_merge_key
