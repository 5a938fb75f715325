"""An object as its kind's Go type would read and write it: unknown fields dropped, types checked, defaults set.

A built-in kind's value of the wrong type is refused here, as Kubernetes' decoder does before anything else looks at
the object. A custom kind's is left for the schema's validation. Texts as `encoding/json` and apimachinery have them.
"""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sync.api import quantity
from sync.api.registry import ResourceType
from sync.api.schema import Schema, builtin
from sync.api.status import ApiError, bad_request

OBJECT_META = Schema.of(builtin(), "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
_EITHER = ("JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray")
"""Definitions without a type: a schema, or what their names say."""
_INTEGERS = {"int32": 2**31, "int64": 2**63}
_ZERO: dict[str, Any] = {"string": "", "integer": 0, "boolean": False, "number": 0}


def prune_and_default(obj: dict[str, Any], type: ResourceType, *, found: list[str]) -> None:
    """In place. Paths of unknown fields ("spec.ports[0].foo") are added to `found`. Raises ApiError 400 for a value of
    the wrong type in a built-in kind (a custom one's is validate's to tell)."""
    if type.custom:
        _custom_object(obj, type.schema, "", found)
        if not isinstance(obj.get("metadata"), dict):
            raise _refused(type, "metadata is missing, or is no object")
        try:
            obj["metadata"] = _Typed(found).struct(obj["metadata"], OBJECT_META, "metadata")
        except _Mismatch as error:
            raise _refused(type, str(error)) from None
        default_custom(obj, type.schema)
        return
    from sync.api.defaults import set_defaults

    try:
        _Typed(found).struct(obj, type.schema, "")
    except _Mismatch as error:
        raise _refused(type, str(error)) from None
    set_defaults(obj, type)


def strict_error(type: ResourceType, unknown: Sequence[str], duplicate: Sequence[str]) -> ApiError:
    """400, for fieldValidation=Strict."""
    return _refused(type, f"strict decoding error: {', '.join(warnings(unknown, duplicate))}")


def warnings(unknown: Sequence[str], duplicate: Sequence[str]) -> list[str]:
    """The texts of Warning headers, for fieldValidation=Warn."""
    return [f'duplicate field "{path}"' for path in duplicate] + [f'unknown field "{path}"' for path in unknown]


def _refused(type: ResourceType, why: str) -> ApiError:
    return bad_request(f'{type.kind} in version "{type.version}" cannot be handled as a {type.kind}: {why}')


class _Mismatch(Exception):
    """A value that the Go type can't hold."""


class _Typed:
    """Walks a value along a built-in kind's schema."""

    def __init__(self, found: list[str]) -> None:
        self._found = found

    def struct(self, obj: dict[str, Any], schema: Schema, path: str) -> dict[str, Any]:
        fields = schema.properties
        for name in list(obj):
            here = f"{path}.{name}" if path else name
            field = fields.get(name)
            value = obj[name]
            if field is None:
                self._found.append(here)
                del obj[name]
            elif value is None:
                del obj[name]
            else:
                value = self.value(value, field, here, schema)
                if field.omits_zero and _is_zero(value):
                    del obj[name]
                else:
                    obj[name] = value
        for name, field in schema.always:
            if name not in obj:
                obj[name] = self._zero(field, name)
        return obj

    def value(self, value: Any, schema: Schema, path: str, owner: Schema) -> Any:
        match schema.type:
            case "string":
                if not isinstance(value, str):
                    raise _wrong(value, schema, path, owner)
                return _text(value, schema)
            case "integer":
                limit = _INTEGERS.get(schema.format, 2**63)
                if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
                    raise _wrong(value, schema, path, owner)
                return value
            case "boolean":
                if not isinstance(value, bool):
                    raise _wrong(value, schema, path, owner)
                return value
            case "number":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise _wrong(value, schema, path, owner)
                return value
            case "array":
                return self._list(value, schema, path, owner)
            case "object":
                return self._object(value, schema, path, owner)
        return self._untyped(value, schema, path, owner)

    def _list(self, value: Any, schema: Schema, path: str, owner: Schema) -> Any:
        if not isinstance(value, list):
            raise _wrong(value, schema, path, owner)
        element = schema.items
        if element is None:
            return value
        return [
            self._zero(element, "")
            if each is None
            else self.value(each, element, f"{path}[{index}]", element if element.name else owner)
            for index, each in enumerate(value)
        ]

    def _object(self, value: Any, schema: Schema, path: str, owner: Schema) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, schema, path, owner)
        if schema.properties:
            return self.struct(value, schema, path)
        if (element := schema.additional) is None:
            return value if schema.preserve_unknown else self.struct(value, schema, path)
        for name, each in value.items():
            value[name] = (
                self._zero(element, "") if each is None else self.value(each, element, f"{path}.{name}", owner)
            )
        return value

    def _untyped(self, value: Any, schema: Schema, path: str, owner: Schema) -> Any:
        if schema.int_or_string:
            if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
                if isinstance(value, int) and not -(2**31) <= value < 2**31:
                    raise _wrong(value, schema, path, owner, "int32")
                return value
            raise _wrong(value, schema, path, owner)
        if schema.name == _QUANTITY:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise _Mismatch(quantity.MISMATCH)
            try:
                return str(quantity.parse(str(value)))
            except ValueError as error:
                raise _Mismatch(str(error)) from None
        if schema.name.endswith(_EITHER):
            inner = Schema.of(builtin(), schema.name[: schema.name.rindex("Or")])
            if isinstance(value, dict):
                return self.struct(value, inner, path)
            if isinstance(value, list):
                return [
                    self.struct(each, inner, f"{path}[{index}]") if isinstance(each, dict) else each
                    for index, each in enumerate(value)
                ]
        return value

    def _zero(self, schema: Schema, name: str) -> Any:
        if schema.type == "object" and schema.properties:
            return self.struct({}, schema, name)
        if schema.int_or_string:
            return 0
        if schema.name == _QUANTITY:
            return "0"
        return None if schema.format == "date-time" else _ZERO.get(schema.type)


def _is_zero(value: Any) -> bool:
    return value in ("", 0, False) or value in ([], {})


def _wrong(value: Any, schema: Schema, path: str, owner: Schema, go: str = "") -> _Mismatch:
    match value:
        case bool():
            said = "bool"
        case str():
            said = "string"
        case list():
            said = "array"
        case dict():
            said = "object"
        case _:
            said = f"number {value}" if schema.type == "integer" or go else "number"
    struct = owner.name.rpartition(".")[2]
    field = ".".join(part.split("[")[0] for part in path.split("."))
    return _Mismatch(
        f"json: cannot unmarshal {said} into Go struct field {struct}.{field} of type {go or schema.go_type}"
    )


def _text(value: str, schema: Schema) -> str:
    if schema.format == "date-time":
        return _time(value, micro=schema.name == _MICRO_TIME)
    if schema.format == "byte":
        try:
            return base64.b64encode(base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)).decode()
        except (binascii.Error, ValueError):
            raise _Mismatch(f"illegal base64 data at input byte {_first_not_base64(value)}") from None
    return value


def _first_not_base64(value: str) -> int:
    allowed = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    body = value.rstrip("=")
    return next((index for index, char in enumerate(body) if char not in allowed), len(body) // 4 * 4)


def _time(value: str, *, micro: bool) -> str:
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    try:
        if len(value) < 20 or value[10] != "T":
            raise ValueError
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Mismatch(f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"') from None
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return f"{text}.{moment.microsecond:06}Z" if micro else f"{text}Z"


def _custom_object(obj: dict[str, Any], schema: Schema, path: str, found: list[str]) -> None:
    """A whole object: apiVersion, kind and metadata are known without being in the schema."""
    own: dict[str, Any] = {name: obj.pop(name) for name in ("apiVersion", "kind", "metadata") if name in obj}
    _prune(obj, schema, path, found)
    obj |= own


def _prune(value: Any, schema: Schema, path: str, found: list[str]) -> None:
    """Structural schemas' pruning (apiextensions-apiserver `schema/pruning`)."""
    if isinstance(value, list):
        if schema.items:
            for index, each in enumerate(value):
                _prune_below(each, schema.items, f"{path}[{index}]", found)
        return
    if not isinstance(value, dict):
        return
    for name in list(value):
        here = f"{path}.{name}" if path else name
        below = schema.field(name)
        if below is not None:
            _prune_below(value[name], below, here, found)
        elif not schema.preserve_unknown:
            found.append(here)
            del value[name]


def _prune_below(value: Any, schema: Schema, path: str, found: list[str]) -> None:
    if schema.embedded and isinstance(value, dict):
        _custom_object(value, schema, path, found)
    else:
        _prune(value, schema, path, found)


def default_custom(value: Any, schema: Schema) -> None:
    """In place: a CRD's defaults. A `null` where there is a default and the schema isn't nullable counts as absent."""
    if isinstance(value, list):
        if schema.items:
            for each in value:
                default_custom(each, schema.items)
        return
    if not isinstance(value, dict):
        return
    for name, field in schema.properties.items():
        if field.has_default and (name not in value or (value[name] is None and not field.nullable)):
            value[name] = copy.deepcopy(field.default)
        if name in value:
            default_custom(value[name], field)
    if schema.additional:
        for name, each in value.items():
            if name not in schema.properties:
                default_custom(each, schema.additional)
