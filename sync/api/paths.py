"""What a request's path and method ask for.

`/api/v1/…` is the core group, `/apis/GROUP/VERSION/…` the others; then `[namespaces/NS/]RESOURCE[/NAME[/SUBRESOURCE]]`.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from sync.api.status import GroupResource

VERBS = {"GET": ("get", "list"), "POST": ("create", "create"), "PUT": ("update", ""), "PATCH": ("patch", "")}
_OF_A_NAMESPACE = ("status", "finalize")
MAX_SEGMENTS = 12


class Target(NamedTuple):
    """A resource, or one object of it, or a part of that. Empty: not said."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str
    subresource: str

    @property
    def group_resource(self) -> GroupResource:
        return GroupResource(self.group, self.plural)


def target(path: str) -> Target | None:
    """The resource that a (still percent-encoded) path names; None if it is another path: discovery, health."""
    segments = [unquote(segment) for segment in path.strip("/").split("/", MAX_SEGMENTS)]
    if segments[0] == "api" and len(segments) > 2:
        group, version, rest = "", segments[1], segments[2:]
    elif segments[0] == "apis" and len(segments) > 3:
        group, version, rest = segments[1], segments[2], segments[3:]
    else:
        return None
    if not all(rest) or any("/" in segment or segment in (".", "..") for segment in rest):
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and not (group == "" and len(rest) == 3 and rest[2] in _OF_A_NAMESPACE):
            rest = rest[2:]
        elif group:
            return None
        else:  # the namespace itself: it is in itself, as authorization sees it
            namespace = ""
    if len(rest) > 3:
        return None
    plural, name, subresource = (*rest, "", "")[:3]
    return Target(group, version, namespace, plural, name, subresource)


def verb(method: str, asked: Target, watching: bool) -> str:
    """Kubernetes' verb of a request, empty if there is none for the method there."""
    if method == "DELETE":
        return "delete" if asked.name else "deletecollection"
    found = VERBS.get("GET" if method == "HEAD" else method, ("", ""))[0 if asked.name else 1]
    return "watch" if found == "list" and watching else found
