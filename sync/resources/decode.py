"""One object, from plain data (a manifest, an API's JSON) to its type, or a list of what is wrong with it."""

from collections.abc import Mapping

import msgspec

from sync.resources import fields
from sync.resources.kinds import KINDS, Resource
from sync.resources.shape import Fault, Ignorable, Reader, suggest
from sync.resources.validate import validate

_READER = Reader(Ignorable(fields.UNUSED, fields.OPEN))

DEFAULT_NAMESPACE = "default"


def decode(data: object, service_range: str = "") -> tuple[Resource | None, list[Fault]]:
    """Read an object of any known kind. There is an object exactly where there are no faults.

    `data` is left as it is. `service_range` is the range that cluster IPs must be in, as CIDR text; empty for any.
    """
    if not isinstance(data, Mapping):
        return None, [Fault((), "is not a Kubernetes object", "a mapping with apiVersion, kind and metadata")]
    name = data.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        known = "one of " + ", ".join(KINDS)
        wrong = "'kind' is missing" if name is None else f"unknown kind {name!r}"
        hint = suggest(name, KINDS) if isinstance(name, str) else known
        return None, [Fault(("kind",), wrong, known if hint.startswith("known here") else f"{hint} ({known})")]
    version = data.get("apiVersion")
    if version != kind.api_version:
        wrong = "'apiVersion' is missing" if version is None else f"{kind.__name__} of apiVersion {version!r}"
        return None, [Fault(("apiVersion",), wrong, f"apiVersion: {kind.api_version}")]
    faults: list[Fault] = []
    resource = _READER.read({key: value for key, value in data.items() if key != "apiVersion"}, kind, faults)
    if resource is None:
        return None, faults
    resource = _placed(resource)
    faults = validate(resource, service_range)
    return (None, faults) if faults else (resource, faults)


def _placed(resource: Resource) -> Resource:
    """Kubernetes' default namespace for what has none, and none for what has no use for it."""
    metadata = resource.metadata
    wanted = (metadata.namespace or DEFAULT_NAMESPACE) if resource.namespaced else ""
    if metadata.namespace == wanted:
        return resource
    moved = msgspec.structs.replace(metadata, namespace=wanted)
    return msgspec.structs.replace(resource, metadata=moved)
