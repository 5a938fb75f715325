"""Lists in pages: one snapshot through all of them, told by the token that goes on.

A token is as upstream's (base64 of JSON): the snapshot's revision and the key to begin behind. A snapshot that is
compacted by then is 410 with a token of revision -1, which goes on with what there is now.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from sync.api import status, versions
from sync.api.options import EXACT, ListOptions, revision
from sync.api.registry import ResourceType
from sync.api.selectors import field_selector, label_selector
from sync.store import Ahead, Entry, Expired, Store

NEWEST = -1
MAX_TOKEN = 4096
_VERSION = "meta.k8s.io/v1"

Match = Callable[[dict[str, Any]], bool]


class Listed(NamedTuple):
    """Stored objects, and the metadata of their list."""

    items: list[bytes]
    metadata: dict[str, Any]


class _Token(msgspec.Struct):
    v: str
    rv: int
    start: str


def matcher(type: ResourceType, options: ListOptions) -> Match | None:
    """What the selectors let through; None: all. Raises ApiError."""
    tests: list[Match] = []
    if options.label_selector:
        labels = label_selector(options.label_selector)
        tests.append(lambda obj: labels(obj.get("metadata", {}).get("labels") or {}))
    if options.field_selector:
        tests.append(field_selector(options.field_selector, type))
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else lambda obj: all(test(obj) for test in tests)


def objects(store: Store, type: ResourceType, namespace: str, options: ListOptions) -> Listed:
    """One page. Raises ApiError."""
    match = matcher(type, options)
    limit = options.limit
    after: tuple[str, str] | None = None
    if options.continuation:
        if revision(options.resource_version):
            raise status.bad_request("specifying resource version is not allowed when using continue")
        token = _decoded(options.continuation)
        at = 0 if token.rv == NEWEST else token.rv
        after = _after(token.start, type.namespaced, namespace)
    else:
        at = _snapshot(options, store.revision)
        if options.resource_version == "0":
            limit = 0  # as upstream, which answers these from its cache, whole
    try:
        found, at, remaining = _page(store, type, namespace, at, after, limit, match)
    except Expired:
        if options.continuation:
            raise status.continue_expired(_encoded(NEWEST, after or ("", ""), namespaced=type.namespaced)) from None
        raise status.expired() from None
    except Ahead:
        raise status.too_large_revision(at, store.revision) from None
    metadata: dict[str, Any] = {"resourceVersion": str(at)}
    if remaining:
        last = found[-1].key
        metadata["continue"] = _encoded(at, (last.namespace, last.name), namespaced=type.namespaced)
        if match is None:
            metadata["remainingItemCount"] = remaining
    return Listed([entry.data for entry in found], metadata)


def _page(
    store: Store,
    type: ResourceType,
    namespace: str,
    at: int,
    after: tuple[str, str] | None,
    limit: int,
    match: Match | None,
) -> tuple[list[Entry], int, int]:
    """As many entries as match, up to the limit; the snapshot's revision; how many more there may be."""
    found: list[Entry] = []
    while True:
        page = store.list(type.storage, namespace, at=at, after=after, limit=limit)
        at = page.revision
        if match is None:
            return page.entries, at, page.remaining
        for index, entry in enumerate(page.entries):
            if match(versions.read(type, entry.data)):
                found.append(entry)
                left = len(page.entries) - index - 1 + page.remaining
                if limit and len(found) == limit:
                    return found, at, left
        if not page.remaining:
            return found, at, 0
        last = page.entries[-1].key
        after = (last.namespace, last.name)


def _snapshot(options: ListOptions, newest: int) -> int:
    """At which revision to list: 0 is the newest."""
    asked = revision(options.resource_version)
    if asked > newest:
        raise status.too_large_revision(asked, newest)
    exact = options.match == EXACT or (not options.match and options.limit)
    return asked if exact else 0


def _encoded(at: int, last: tuple[str, str], *, namespaced: bool) -> str:
    start = "/".join(last) if namespaced else last[1]
    return urlsafe_b64encode(msgspec.json.encode(_Token(_VERSION, at, start + "\0"))).rstrip(b"=").decode()


def _decoded(text: str) -> _Token:
    try:
        if len(text) > MAX_TOKEN:
            raise ValueError("too long")
        token = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Token)
    except (ValueError, msgspec.MsgspecError) as error:
        raise status.bad_request(f"continue key is not valid: {error}") from None
    if token.v != _VERSION:
        text = f"continue key is not valid: server does not recognize this encoded version {token.v}"
        raise status.bad_request(text)
    if token.rv == 0 or token.rv < NEWEST or token.rv >= 1 << 63:
        text = f"continue key is not valid: incorrect encoded start resourceVersion (version {_VERSION})"
        raise status.bad_request(text)
    if not token.start:
        raise status.bad_request(f"continue key is not valid: encoded start key empty (version {_VERSION})")
    return token


def _after(start: str, namespaced: bool, namespace: str) -> tuple[str, str]:
    """The key to begin behind; in a list of one namespace upstream's token has the name alone, which is taken too."""
    parts = start.removesuffix("\0").split("/")
    if not namespaced and len(parts) == 1:
        return "", parts[0]
    if namespaced and len(parts) == 2:
        return parts[0], parts[1]
    if namespaced and namespace and len(parts) == 1:
        return namespace, parts[0]
    raise status.bad_request(f"continue key is not valid: {start!r}")
