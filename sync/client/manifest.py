"""One manifest: a file's text to objects, and what is wrong in it with its line.

A file has any number of documents, and a document is an object or a list of them (`kind: List`). Good objects are
taken from a faulty file, too.
"""

from typing import NamedTuple

from sync.client import document
from sync.client.document import Document, DocumentError
from sync.resources.decode import decode
from sync.resources.kinds import Key, Resource
from sync.resources.shape import spell


class Problem(NamedTuple):
    """A mistake in a manifest: where it is (line from 1; 0: none), what is wrong, what would be right (or empty)."""

    file: str
    line: int
    field: str
    wrong: str
    right: str

    def __str__(self) -> str:
        what = f"{self.field}: {self.wrong}" if self.field else self.wrong
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {what}" + (f"; {self.right}" if self.right else "")


def parse(name: str, text: bytes, service_range: str = "") -> tuple[tuple[Resource, ...], list[Problem]]:
    """The good objects of a file, and what is wrong with the others."""
    try:
        documents = document.read(text)
    except DocumentError as error:
        return (), [Problem(name, error.line, "", error.wrong, error.right)]
    objects: dict[Key, Resource] = {}
    problems: list[Problem] = []
    for place in documents:
        for data, path in _items(place):
            resource, faults = decode(data, service_range)
            problems += (
                Problem(name, place.line((*path, *fault.path)), spell(fault.path), fault.wrong, fault.right)
                for fault in faults
            )
            if resource is None:
                continue
            if resource.key in objects:
                line = place.line((*path, "metadata", "name"))
                problems.append(Problem(name, line, "metadata.name", f"{resource.key} is there twice", "one of them"))
            else:
                objects[resource.key] = resource
    if not documents:
        problems.append(Problem(name, 1, "", "there are no objects in it", "delete the file if they are to go"))
    return tuple(objects.values()), problems


def _items(place: Document) -> list[tuple[object, document.Path]]:
    """The objects of a document, with the path to each: itself, or the items of a list."""
    data = place.data
    if isinstance(data, dict) and data.get("kind") == "List" and isinstance(data.get("items"), list):
        return [(item, ("items", i)) for i, item in enumerate(data["items"])]
    return [(data, ())]


def locate(text: bytes, key: Key) -> int:
    """The line of an object's name, from 1; 1 if it isn't there."""
    try:
        documents = document.read(text)
    except DocumentError:
        return 1
    for place in documents:
        for data, path in _items(place):
            resource, _ = decode(data)
            if resource is not None and resource.key == key:
                return place.line((*path, "metadata", "name"))
    return 1
