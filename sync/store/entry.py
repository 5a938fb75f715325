"""What the store holds and hands out."""

from typing import NamedTuple


class Key(NamedTuple):
    """An object's name. Keys of one resource sort by (namespace, name)."""

    resource: str
    """GroupResource text: "services", "endpointslices.discovery.k8s.io"."""
    namespace: str
    """Empty for resources of cluster scope."""
    name: str


class Entry(NamedTuple):
    """An object's state as one write left it."""

    key: Key
    revision: int
    created: int
    """The revision of the write that made the object."""
    data: bytes
    """The object's JSON, with `revision` as its metadata.resourceVersion."""


class Change(NamedTuple):
    """What a write puts. For a deletion `data` is the last state, with the deletion's revision in it."""

    data: bytes
    deleted: bool = False


class Event(NamedTuple):
    """One durable write. The same object goes to all watchers."""

    revision: int
    type: str
    """ADDED, MODIFIED or DELETED."""
    entry: Entry
    """For DELETED the last state, as in Change."""
    previous: Entry | None
    """The state before; None for ADDED."""


class Page(NamedTuple):
    """A list, or its next part."""

    entries: list[Entry]
    revision: int
    """The snapshot's."""
    remaining: int
    """How many entries follow after these."""


class Expired(Exception):
    """That revision is compacted, or the watcher was too slow: Kubernetes' 410, list again."""


class Ahead(ValueError):
    """That revision was not given yet: it is another database's, or made up."""


class StoreFault(Exception):
    """The file can't be read or written. Nothing was written; the message is for the operator."""


class Closed(StoreFault):
    """The store, or this watch, was closed."""
