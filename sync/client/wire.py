"""An API's lists and watch events to typed objects: the bytes of one kind, decoded without a tree between.

Fields that we don't use are skipped. An object that can't be used is an item with a problem: the others count.
Bytes that are no list, or no event, raise `RubbishError` and nothing else.

Source: kubernetes.io, "Kubernetes API Concepts" (lists, watch events); k8s.io/apimachinery's meta/v1 WatchEvent.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import msgspec
from msgspec import Struct, field

from sync.resources.kinds import Key, Resource
from sync.resources.shape import Fault, spell, translate
from sync.resources.validate import validate

PAGE = 500
"""Objects asked for at once."""
TEXT = 300
"""Characters that are kept of what the other side says."""


class RubbishError(Exception):
    """The bytes are not what an API gives; the message says what they are in place of."""


class Followed(NamedTuple):
    """A kind to follow: its plural, and which of its objects; `selector` is a field selector, `labels` a label's."""

    kind: type[Resource]
    plural: str
    namespace: str = ""
    selector: str = ""
    labels: str = ""

    @property
    def path(self) -> str:
        """The collection's path."""
        from sync.client.connection import resource_path

        group, _, version = self.kind.api_version.rpartition("/")
        return resource_path(group, version, self.plural, self.namespace)


class Item(NamedTuple):
    """One object of a list or an event: `resource`, or what is wrong with it."""

    key: Key
    resource: Resource | None
    problem: str = ""


class Page(NamedTuple):
    """A page of a list: with `after` there is more, which is asked for with it."""

    items: list[Item]
    revision: str
    after: str


class Event(NamedTuple):
    """One event. `type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR; an error has `code` and `message`."""

    type: str
    revision: str = ""
    item: Item | None = None
    code: int = 0
    message: str = ""


class _Metadata(Struct, rename="camel", frozen=True):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Any(Struct):
    metadata: _Metadata = _Metadata()


class _ListMetadata(Struct, rename="camel"):
    resource_version: str
    after: str = field(default="", name="continue")


class _List(Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(Struct):
    type: str
    object: msgspec.Raw


class _Status(Struct):
    code: int = 0
    message: str = ""


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Decoder:
    """Of one kind; `service_range` is where cluster IPs must be (CIDR text, empty for anywhere)."""

    def __init__(self, kind: type[Resource], service_range: str = "") -> None:
        self._kind = kind
        self._service_range = service_range
        self._object = msgspec.json.Decoder(kind)
        self._any = msgspec.json.Decoder(_Any)
        self._list = msgspec.json.Decoder(_List)
        self._event = msgspec.json.Decoder(_Event)

    def page(self, body: bytes) -> Page:
        """A list's answer. Raises RubbishError."""
        try:
            read = self._list.decode(body)
            items = [self._item(raw, self._any.decode(raw).metadata) for raw in read.items or ()]
        except _UNREADABLE as error:
            raise RubbishError(f"the answer is no list: {str(error)[:TEXT]}") from None
        return Page(items, read.metadata.resource_version, read.metadata.after)

    def event(self, line: bytes) -> Event:
        """A line of a watch. Raises RubbishError."""
        try:
            read = self._event.decode(line)
            if read.type == "ERROR":
                status = msgspec.json.decode(read.object, type=_Status)
                return Event("ERROR", code=status.code, message=status.message[:TEXT])
            metadata = self._any.decode(read.object).metadata
            if read.type not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not metadata.resource_version:
                raise RubbishError(f"the watch gave a {read.type[:TEXT]!r} without a revision, or of no known type")
            if read.type == "BOOKMARK":
                return Event("BOOKMARK", metadata.resource_version)
            return Event(read.type, metadata.resource_version, self._item(read.object, metadata))
        except _UNREADABLE as error:
            raise RubbishError(f"the watch gave no event: {str(error)[:TEXT]}") from None

    def _item(self, raw: msgspec.Raw, metadata: _Metadata) -> Item:
        kind = self._kind
        namespace = sys.intern(metadata.namespace) if kind.namespaced else ""
        key = Key(kind.__name__, namespace, metadata.name)
        resource: Resource | None
        try:
            resource = self._object.decode(raw)
        except msgspec.ValidationError:
            resource, fault = self._tolerant(raw)
            if resource is None:
                return Item(key, None, _tell(fault))
        if faults := validate(resource, self._service_range):
            return Item(key, None, _tell(faults[0]))
        return Item(resource.key, resource)

    def _tolerant(self, raw: msgspec.Raw) -> tuple[Resource | None, Fault]:
        """Read an object that has nulls, as Go writes empty lists; else what is wrong with it."""
        data = _without_nulls(msgspec.json.decode(raw))
        try:
            return msgspec.convert(data, self._kind), Fault((), "", "")
        except msgspec.ValidationError as error:
            return None, translate(str(error), data, self._kind)


def _tell(fault: Fault) -> str:
    what = f"{spell(fault.path)}: {fault.wrong}" if fault.path else fault.wrong
    return (what + (f"; {fault.right}" if fault.right else ""))[:TEXT]


def _without_nulls(data: object) -> object:
    """An absent field for a null, as in Kubernetes."""
    if isinstance(data, dict):
        return {name: _without_nulls(value) for name, value in data.items() if value is not None}
    if isinstance(data, list):
        return [_without_nulls(item) for item in data]
    return data
