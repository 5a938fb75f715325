"""The options of a request, from its query or, for a deletion, its body.

Source: apimachinery's ListOptions, CreateOptions, UpdateOptions, PatchOptions, DeleteOptions and their validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from sync.api import status
from sync.api.status import Cause
from sync.api.validation.fields import forbidden, invalid, not_supported, required
from sync.api.validation.metadata import FIELD_MANAGER_LENGTH, field_manager

MAX_PARAMETERS = 100
EXACT = "Exact"
NOT_OLDER_THAN = "NotOlderThan"
POLICIES = ("Background", "Foreground", "Orphan")
VALIDATIONS = ("", "Ignore", "Strict", "Warn")
_META = "meta.k8s.io"


class ListOptions(NamedTuple):
    """Of list, watch and deletecollection."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    match: str = ""
    limit: int = 0
    continuation: str = ""
    watch: bool = False
    bookmarks: bool = False
    initial_events: bool | None = None
    timeout: int | None = None


class Write(NamedTuple):
    """Of create, update and patch; `warnings` is filled while the request is handled."""

    manager: str
    warnings: list[str]
    user: str = ""
    groups: tuple[str, ...] = ()
    dry_run: bool = False
    validation: str = "Warn"
    force: bool = False


class Deletion(NamedTuple):
    """Of a deletion; `policy` is empty for the default."""

    grace: int | None = None
    policy: str = ""
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False
    accepted: bool = False
    """The client takes 202 for "not yet gone" (it set orphanDependents to false)."""


def query(text: str) -> dict[str, str]:
    """A query's parameters, the first of each name. Raises ApiError."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
    except ValueError as error:
        raise status.bad_request(f"the query can't be read: {error}") from None
    return dict(reversed(pairs))


def list_options(asked: Mapping[str, str]) -> ListOptions:
    """Raises ApiError."""
    initial = _flag(asked, "sendInitialEvents") if "sendInitialEvents" in asked else None
    options = ListOptions(
        label_selector=asked.get("labelSelector", ""),
        field_selector=asked.get("fieldSelector", ""),
        resource_version=asked.get("resourceVersion", ""),
        match=asked.get("resourceVersionMatch", ""),
        limit=max(_number(asked, "limit") or 0, 0),
        continuation=asked.get("continue", ""),
        watch=_flag(asked, "watch"),
        bookmarks=_flag(asked, "allowWatchBookmarks"),
        initial_events=initial,
        timeout=_number(asked, "timeoutSeconds"),
    )
    if causes := list(_watch_faults(options) if options.watch else _list_faults(options)):
        raise status.invalid(_META, "ListOptions", "", causes)
    return options


def write_options(
    asked: Mapping[str, str], agent: str, patch: str = "", user: str = "", groups: tuple[str, ...] = ()
) -> Write:
    """`agent` is the User-Agent header, which names the field manager where nothing else does; `patch` its kind."""
    kind = "PatchOptions" if patch else "CreateOptions"
    manager = asked.get("fieldManager", "")
    causes: list[Cause] = []
    if patch == "apply" and not manager:
        causes.append(required("fieldManager", "is required for apply patch"))
    if patch not in ("", "apply") and "force" in asked:
        causes.append(forbidden("force", "may not be specified for non-apply patch"))
    causes += field_manager(manager)
    dry_run, faults = _dry_run([asked["dryRun"]] if asked.get("dryRun") else [])
    causes += faults
    validation = asked.get("fieldValidation", "")
    if validation not in VALIDATIONS:
        causes.append(not_supported("fieldValidation", validation, VALIDATIONS))
    if causes:
        raise status.invalid(_META, kind, "", causes)
    return Write(
        manager=manager or _from_agent(agent),
        warnings=[],
        user=user,
        groups=groups,
        dry_run=dry_run,
        validation=validation or "Warn",
        force=_flag(asked, "force"),
    )


class _Preconditions(msgspec.Struct, rename="camel"):
    uid: str | None = None
    resource_version: str | None = None


class _DeleteOptions(msgspec.Struct, rename="camel"):
    grace_period_seconds: int | None = None
    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    preconditions: _Preconditions | None = None
    dry_run: list[str] | None = None


def deletion(asked: Mapping[str, str], body: dict[str, Any] | None) -> Deletion:
    """From the body if there is one, else from the query. Raises ApiError."""
    if body is not None:
        if body.get("kind", "DeleteOptions") != "DeleteOptions":
            raise status.bad_request("decoded object cannot be converted to DeleteOptions")
        try:
            options = msgspec.convert(body, _DeleteOptions)
        except msgspec.ValidationError as error:
            raise status.bad_request(f"DeleteOptions can't be read: {error}") from None
    else:
        options = _DeleteOptions(
            grace_period_seconds=_number(asked, "gracePeriodSeconds"),
            propagation_policy=asked.get("propagationPolicy") or None,
            orphan_dependents=_flag(asked, "orphanDependents") if "orphanDependents" in asked else None,
            dry_run=[asked["dryRun"]] if asked.get("dryRun") else None,
        )
    dry_run, causes = _dry_run(options.dry_run or [])
    policy, orphan = options.propagation_policy, options.orphan_dependents
    if policy is not None and orphan is not None:
        causes.append(
            invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set")
        )
    if policy is not None and policy not in POLICIES:
        causes.append(not_supported("propagationPolicy", policy, ("Foreground", "Background", "Orphan", "nil")))
    if causes:
        raise status.invalid(_META, "DeleteOptions", "", causes)
    grace = options.grace_period_seconds
    preconditions = options.preconditions or _Preconditions()
    return Deletion(
        grace=None if grace is None else (1 if grace < 0 else min(grace, 2**31)),
        policy=policy or {True: "Orphan", False: "Background", None: ""}[orphan],
        uid=preconditions.uid,
        resource_version=preconditions.resource_version,
        dry_run=dry_run,
        accepted=orphan is False,
    )


def revision(text: str, name: str = "resourceVersion") -> int:
    """A resourceVersion as a number, 0 for none. Raises ApiError."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise status.bad_request(
            f'{name}: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def _list_faults(options: ListOptions) -> list[Cause]:
    name, match = "resourceVersionMatch", options.match
    causes = []
    if match:
        if not options.resource_version:
            causes.append(forbidden(name, f"{name} is forbidden unless resourceVersion is provided"))
        if options.continuation:
            causes.append(forbidden(name, f"{name} is forbidden when continue is provided"))
        if match not in (EXACT, NOT_OLDER_THAN):
            causes.append(not_supported(name, match, (EXACT, NOT_OLDER_THAN, "")))
        if match == EXACT and options.resource_version == "0":
            causes.append(forbidden(name, f'{name} "exact" is forbidden for resourceVersion "0"'))
    if options.initial_events is not None:
        causes.append(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_faults(options: ListOptions) -> list[Cause]:
    name, match = "resourceVersionMatch", options.match
    causes = []
    if options.initial_events is not None and match != NOT_OLDER_THAN:
        causes.append(forbidden(name, f"sendInitialEvents requires setting {name} to {NOT_OLDER_THAN}"))
    if match:
        if options.initial_events is None:
            causes.append(forbidden(name, f"{name} is forbidden for watch unless sendInitialEvents is provided"))
        if match != NOT_OLDER_THAN:
            causes.append(not_supported(name, match, (NOT_OLDER_THAN,)))
        if options.continuation:
            causes.append(forbidden(name, f"{name} is forbidden when continue is provided"))
    return causes


def _dry_run(values: list[str]) -> tuple[bool, list[Cause]]:
    wrong = [value for value in values if value != "All"]
    if not wrong:
        return bool(values), []
    shown = ",".join(f'"{value}"' for value in values)
    return False, [Cause("dryRun", "FieldValueNotSupported", f'Unsupported value: [{shown}]: supported values: "All"')]


def _flag(asked: Mapping[str, str], name: str) -> bool:
    """As Go's conversion has it: anything but "0" and "false" is true, an empty value too."""
    return name in asked and asked[name].lower() not in ("0", "false")


def _number(asked: Mapping[str, str], name: str) -> int | None:
    text = asked.get(name)
    if not text:
        return None
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _from_agent(agent: str) -> str:
    name = "".join(filter(str.isprintable, agent.partition("/")[0]))
    return name[:FIELD_MANAGER_LENGTH] or "unknown"
