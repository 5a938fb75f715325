"""In which form an answer goes out: JSON or YAML; whole objects, their metadata alone, or a Table for people.

Source: Kubernetes API concepts, "resource encodings" and "receiving resources as tables"; RFC 9110 12.5.1 for Accept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from sync.api import status, tables, versions
from sync.api.registry import ResourceType

JSON = "application/json"
YAML = "application/yaml"
TABLE = "Table"
METADATA = "PartialObjectMetadata"
METADATA_LIST = "PartialObjectMetadataList"
TABLE_MEDIA = "application/json;as=Table;v=v1;g=meta.k8s.io"
_META_VERSIONS = ("v1", "v1beta1")
MAX_ACCEPT = 2048


class Form(NamedTuple):
    """`shape` is empty for whole objects; `include`: what of the object a table's row has."""

    media: str = JSON
    shape: str = ""
    version: str = "v1"
    include: str = "Metadata"


def negotiate(accept: str, include: str = "", *, only_json: bool = False) -> Form:
    """The first form of an Accept header that there is. Raises ApiError 406."""
    form = _negotiated(accept[:MAX_ACCEPT], only_json)
    if form.shape != TABLE or include in ("", "Metadata"):
        return form
    if include not in ("Object", "None"):
        text = f"includeObject has to be Metadata, Object or None, and is {include!r}"
        raise status.bad_request(text)
    return form._replace(include=include)


def parameters(text: str) -> tuple[str, dict[str, str]]:
    """A media type in lower case, and its parameters."""
    media, *rest = text.split(";")
    pairs = (each.partition("=") for each in rest)
    return media.strip().lower(), {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


@lru_cache(maxsize=256)
def _negotiated(accept: str, only_json: bool) -> Form:
    ranges = []
    for index, each in enumerate(accept.split(",") if accept.strip() else [JSON]):
        media, said = parameters(each)
        ranges.append((-_quality(said.get("q", "1")), index, media, said))
    for quality, _, media, said in sorted(ranges, key=lambda each: each[:2]):
        wanted = JSON if media in (JSON, "*/*", "application/*") else media
        if quality == 0 or wanted not in ((JSON,) if only_json else (JSON, YAML)):
            continue
        shape = said.get("as", "")
        if not shape:
            return Form(wanted)
        known = shape in (TABLE, METADATA, METADATA_LIST) and said.get("g") == "meta.k8s.io"
        if known and said.get("v") in _META_VERSIONS:
            return Form(wanted, METADATA if shape == METADATA_LIST else shape, said["v"])
    raise status.not_acceptable()


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def one(type: ResourceType, data: bytes, form: Form) -> bytes:
    """An object's JSON in a form."""
    if not form.shape:
        return _written(data, form)
    obj = msgspec.json.decode(data)
    if form.shape == METADATA:
        return _written(msgspec.json.encode(partial(obj, form.version)), form)
    table = tables.table(type, [obj], form.version, form.include, now=time.time())
    table["metadata"] = {"resourceVersion": obj.get("metadata", {}).get("resourceVersion", "")}
    return _written(msgspec.json.encode(table), form)


def many(type: ResourceType, items: Sequence[bytes], metadata: dict[str, Any], form: Form) -> bytes:
    """A list of stored objects in a form; `metadata` is the list's."""
    if form.shape == TABLE:
        objects = [versions.read(type, item) for item in items]
        table = tables.table(type, objects, form.version, form.include, now=time.time())
        return _written(msgspec.json.encode({**table, "metadata": metadata}), form)
    if form.shape == METADATA:
        kind, version = METADATA_LIST, f"meta.k8s.io/{form.version}"
        parts = [msgspec.json.encode(partial(versions.read(type, item), form.version)) for item in items]
    else:
        kind, version = type.list_kind or f"{type.kind}List", type.api_version
        parts = [versions.show(type, item) for item in items]
        if not type.custom:  # as Go's typed lists are: their items do not say again what they are
            start = len(versions.head(type))
            parts = [b"{" + part[start:] for part in parts]
    first = msgspec.json.encode({"kind": kind, "apiVersion": version, "metadata": metadata})
    return _written(b"".join((first[:-1], b',"items":[', b",".join(parts), b"]}")), form)


def partial(obj: dict[str, Any], version: str) -> dict[str, Any]:
    """An object's metadata alone."""
    return {"kind": METADATA, "apiVersion": f"meta.k8s.io/{version}", "metadata": obj.get("metadata", {})}


def document(obj: Any, form: Form) -> bytes:
    """Anything else, such as a Status, in a form's media type."""
    return _written(msgspec.json.encode(obj), form)


def _written(data: bytes, form: Form) -> bytes:
    if form.media == JSON:
        return data + b"\n"
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(msgspec.json.decode(data), Dumper=dumper, sort_keys=True, allow_unicode=True)
    return text.encode()
