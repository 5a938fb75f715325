"""Which endpoint stands in which slice, so that a change rewrites as few slices as can be.

Upstream's endpointslice reconciler's way: what is in a slice stays there; what is gone is taken out; what is new goes
into slices that are rewritten anyway, then into the fullest other one that has room for all the rest, then into new
ones. A slice left empty is deleted. A service with a selector and no endpoints has one empty slice.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from sync.controllers.slices import MAX_ENDPOINTS, Shape, endpoints, made_here, piece
from sync.resources.kinds import SERVICE_NAME, EndpointSlice, Key, Node, Pod, Service, SliceEndpoint


class Placement(NamedTuple):
    """What to write. New slices have no name: the API gives one, from the service's."""

    create: tuple[EndpointSlice, ...] = ()
    update: tuple[EndpointSlice, ...] = ()
    delete: tuple[Key, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)


def place(
    service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node], existing: Iterable[EndpointSlice]
) -> Placement:
    """What makes a service's slices what they should be; those of other controllers are left alone."""
    if not service.spec.selector or service.spec.type == "ExternalName":
        return Placement(delete=tuple(sorted(found.key for found in existing if made_here(found))))
    there: dict[Shape, list[EndpointSlice]] = {}
    delete: list[Key] = []
    for found in sorted((found for found in existing if made_here(found)), key=lambda found: found.metadata.name):
        there.setdefault(_shape(found), []).append(found)
    wanted = dict(endpoints(service, pods, nodes)) or {_empty_shape(there): []}
    create: list[EndpointSlice] = []
    update: list[EndpointSlice] = []
    for shape, kept in there.items():
        if shape not in wanted:
            delete += [found.key for found in kept]
    for shape, members in wanted.items():
        filled = _fill(members, there.get(shape, []))
        for found, content in filled.kept:
            if not content and (members or found is not filled.kept[0][0]):
                delete.append(found.key)
            elif (new := piece(service, found.metadata.name, shape, content)) != found:
                update.append(new)
        create += [piece(service, "", shape, content) for content in filled.new]
    return Placement(tuple(create), tuple(update), tuple(sorted(delete)))


def _shape(found: EndpointSlice) -> Shape:
    return Shape("IPv6" if found.address_type == "IPv6" else "IPv4", found.ports)


def _empty_shape(there: Mapping[Shape, list[EndpointSlice]]) -> Shape:
    """Of the slice of a service without endpoints: one that is there already, if it has no ports."""
    return next((shape for shape in there if not shape.ports), Shape("IPv4", ()))


class _Filled(NamedTuple):
    """The content of the slices that are there, and of those to be made."""

    kept: list[tuple[EndpointSlice, list[SliceEndpoint]]]
    new: list[list[SliceEndpoint]]


def _fill(members: list[SliceEndpoint], existing: list[EndpointSlice]) -> _Filled:
    waiting = {_identity(member): member for member in members}
    contents: list[list[SliceEndpoint]] = []
    for found in existing:
        content = [waiting.pop(key) for key in map(_identity, found.endpoints) if key in waiting]
        contents.append(content)
    rest = list(waiting.values())
    rewritten = [
        content for found, content in zip(existing, contents, strict=True) if tuple(content) != found.endpoints
    ]
    for content in rewritten:
        if content:  # one that is left empty rather goes
            rest = _into(content, rest)
    if rest:
        roomy = [content for content in contents if len(content) + len(rest) <= MAX_ENDPOINTS]
        if roomy:
            rest = _into(max(roomy, key=len), rest)
    new = [rest[start : start + MAX_ENDPOINTS] for start in range(0, len(rest), MAX_ENDPOINTS)]
    if not members and not existing:
        new = [[]]
    return _Filled(list(zip(existing, contents, strict=True)), new)


def _into(content: list[SliceEndpoint], rest: list[SliceEndpoint]) -> list[SliceEndpoint]:
    """Put what there is room for into a slice; the remainder."""
    room = MAX_ENDPOINTS - len(content)
    content += rest[:room]
    return rest[room:]


def _identity(endpoint: SliceEndpoint) -> tuple[tuple[str, ...], str]:
    """What makes an endpoint the same one when its conditions change."""
    return endpoint.addresses, endpoint.node_name


def body(placed: EndpointSlice, service_uid: str, pods: Mapping[str, str]) -> dict[str, object]:
    """The object to send. `pods` has the service's pods' names by their addresses; their uids are left out."""
    document: dict[str, object] = msgspec.to_builtins(placed)
    metadata: dict[str, object] = dict(msgspec.to_builtins(placed.metadata))
    labels = placed.metadata.labels
    name = labels[SERVICE_NAME]
    if not placed.metadata.name:
        metadata["generateName"] = f"{name}-"
    metadata["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "name": name,
            "uid": service_uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    members = []
    for endpoint, item in zip(placed.endpoints, msgspec.to_builtins(placed.endpoints), strict=True):
        if pod := pods.get(endpoint.addresses[0]):
            item["targetRef"] = {"kind": "Pod", "namespace": placed.metadata.namespace, "name": pod}
        members.append(item)
    return {
        **document,
        "apiVersion": EndpointSlice.api_version,
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": placed.address_type,
        "endpoints": members,
        "ports": msgspec.to_builtins(placed.ports),
    }
