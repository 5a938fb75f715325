"""Bodies in Kubernetes' protobuf, which its typed clients send (`kubectl create`, kubelets): read, never written.

A body is "k8s\\0" and a runtime.Unknown that holds the object's message. What a message means is data, made from the
published `.proto` files (`dev/protobuf.py`). Go writes empty fields too: pruning takes them away, as it does with JSON.
Source: apimachinery's runtime/serializer/protobuf; protobuf.dev, "Encoding".
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import msgspec

from sync.api.schema import DATA
from sync.api.status import ApiError, bad_request

MEDIA = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
MAX_DEPTH = 100
_UNKNOWN, _TYPE_META = "Unknown", "TypeMeta"
_META = "k8s.io.apimachinery.pkg.apis.meta.v1."
_ENVELOPE = {
    _UNKNOWN: {1: ("typeMeta", "one", _TYPE_META), 2: ("raw", "one", "raw")},
    _TYPE_META: {1: ("apiVersion", "one", "string"), 2: ("kind", "one", "string")},
}
_PACKAGES = {
    "v1": "k8s.io.api.core.v1.",
    "authentication.k8s.io/v1": "k8s.io.api.authentication.v1.",
    "authorization.k8s.io/v1": "k8s.io.api.authorization.v1.",
    "certificates.k8s.io/v1": "k8s.io.api.certificates.v1.",
    "coordination.k8s.io/v1": "k8s.io.api.coordination.v1.",
    "discovery.k8s.io/v1": "k8s.io.api.discovery.v1.",
    "events.k8s.io/v1": "k8s.io.api.events.v1.",
    "meta.k8s.io/v1": _META,
}


class _Field(NamedTuple):
    name: str
    how: str
    """one, many, map, or inline: the message's fields are the object's own."""
    type: str


def decode(body: bytes) -> dict[str, Any]:
    """The object. Raises ApiError 400."""
    try:
        if not body.startswith(MAGIC):
            raise ValueError("it does not begin with k8s\\0")
        unknown = _message(memoryview(body)[len(MAGIC) :], _UNKNOWN, 0)
        said = unknown.get("typeMeta", {})
        version, kind = said.get("apiVersion", ""), said.get("kind", "")
        name = _PACKAGES.get(version, "?") + kind
        if name not in _messages() and kind == "DeleteOptions":
            name = _META + kind
        if name not in _messages():
            raise ValueError(f'no kind "{kind}" of version "{version}" is read from protobuf, send JSON')
        obj: dict[str, Any] = _message(memoryview(unknown.get("raw", b"")), name, 0)
    except (ValueError, IndexError, OverflowError, OSError, msgspec.MsgspecError) as error:
        raise _unreadable(error) from None
    return {"kind": kind, "apiVersion": version, **obj}


@cache
def _messages() -> dict[str, dict[int, _Field]]:
    read = msgspec.json.decode((DATA / "messages.json").read_bytes(), type=dict[str, dict[int, _Field]])
    return read | {name: {n: _Field(*field) for n, field in fields.items()} for name, fields in _ENVELOPE.items()}


def _message(data: memoryview, name: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    fields = _messages()[name]
    obj: dict[str, Any] = {}
    for number, wire, value in _wire(data):
        field = fields.get(number)
        if field is None:
            continue
        if field.how == "map":
            key, item = _pair(value, wire, field.type, depth)
            obj.setdefault(field.name, {})[key] = item
        elif field.how == "many":
            obj.setdefault(field.name, []).append(_value(value, wire, field.type, depth))
        elif field.how == "inline":
            obj.update(_value(value, wire, field.type, depth))
        else:
            obj[field.name] = _value(value, wire, field.type, depth)
    return _as_json(name.rpartition(".")[2], obj) if "." in name else obj


def _pair(value: Any, wire: int, type: str, depth: int) -> tuple[str, Any]:
    if wire != 2:
        raise ValueError("a map's element is no message")
    key, item = "", _empty(type)
    for number, inner, found in _wire(value):
        if number == 1:
            key = _value(found, inner, "string", depth)
        elif number == 2:
            item = _value(found, inner, type, depth)
    return key, item


def _empty(type: str) -> Any:
    return {"string": "", "bytes": ""}.get(type, {})


def _value(value: Any, wire: int, type: str, depth: int) -> Any:
    if type in ("string", "bytes", "raw"):
        if wire != 2:
            raise ValueError(f"a {type} has wire type {wire}")
        data = bytes(value)
        if type == "string":
            return data.decode()
        return data if type == "raw" else b64encode(data).decode()
    if type in ("bool", "int32", "int64", "uint32", "uint64"):
        if wire != 0:
            raise ValueError(f"a {type} has wire type {wire}")
        if type == "bool":
            return bool(value)
        return value - (1 << 64) if value >> 63 and type.startswith("int") else value
    if wire != 2 or type not in _messages():
        raise ValueError(f"a {type.rpartition('.')[2]} has wire type {wire}")
    return _message(value, type, depth + 1)


def _as_json(name: str, obj: dict[str, Any]) -> Any:
    """Messages that are no objects in JSON."""
    match name:
        case "Time" | "MicroTime":
            if "seconds" not in obj:
                return None
            at = datetime.fromtimestamp(obj["seconds"], UTC)
            text = at.strftime("%Y-%m-%dT%H:%M:%S")
            return f"{text}.{obj.get('nanos', 0) // 1000:06d}Z" if name == "MicroTime" else f"{text}Z"
        case "IntOrString":
            return obj.get("strVal", "") if obj.get("type") else obj.get("intVal", 0)
        case "Quantity":
            return obj.get("string", "0")
        case "ExtraValue":
            return obj.get("items", [])
        case "FieldsV1":
            return msgspec.json.decode(b64decode(obj.get("Raw", "")) or b"{}")
    return obj


def _wire(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Field number, wire type, and an int or a slice."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, wire, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is not known")
        if at + size > end:
            raise ValueError("it ends amid a field")
        yield tag >> 3, wire, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _unreadable(error: Exception) -> ApiError:
    return bad_request(f"the protobuf body can't be read: {error}")
