"""metadata: name, namespace, labels, annotations, owners, finalizers (apimachinery `api/validation`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync.api.status import Cause
from sync.api.validation.fields import each_invalid, forbidden, immutable, invalid, required, too_long
from sync.api.validation.names import (
    NameRule,
    data_key,
    dns_label,
    dns_subdomain,
    label_value,
    prefix_of,
    qualified_name,
)

ANNOTATIONS_SIZE = 256 * 1024
"""Bytes of all keys and values."""
FIELD_MANAGER_LENGTH = 128
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"

Json = Mapping[str, Any]


def metadata(meta: Json, *, namespaced: bool, name_rule: NameRule = dns_subdomain) -> list[Cause]:
    """Of a new object."""
    at = "metadata"
    found: list[Cause] = []
    if prefix := meta.get("generateName"):
        found += each_invalid(f"{at}.generateName", prefix, prefix_of(name_rule)(prefix))
    if name := meta.get("name", ""):
        found += each_invalid(f"{at}.name", name, name_rule(name))
    else:
        found.append(required(f"{at}.name", "name or generateName is required"))
    namespace = meta.get("namespace", "")
    if not namespaced:
        found += [forbidden(f"{at}.namespace", "not allowed on this type")] if namespace else []
    elif namespace:
        found += each_invalid(f"{at}.namespace", namespace, dns_label(namespace))
    else:
        found.append(required(f"{at}.namespace"))
    return found + _common(meta) + _finalizers(meta.get("finalizers", ()))


def metadata_update(meta: Json, old: Json) -> list[Cause]:
    """Of an object that there is."""
    at = "metadata"
    found: list[Cause] = []
    if old.get("deletionTimestamp"):
        new = sorted(set(meta.get("finalizers", ())) - set(old.get("finalizers", ())))
        if new:
            listed = ", ".join(f'"{each}"' for each in new)
            found.append(
                forbidden(
                    f"{at}.finalizers",
                    "no new finalizers can be added if the object is being deleted, "
                    f"found new finalizers []string{{{listed}}}",
                )
            )
    if not meta.get("resourceVersion"):
        found.append(invalid(f"{at}.resourceVersion", "", "must be specified for an update"))
    for name in ("name", "namespace", "uid"):
        found += immutable(f"{at}.{name}", meta.get(name, ""), old.get(name, ""))
    for name in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        found += immutable(f"{at}.{name}", meta.get(name), old.get(name))
    return found + _common(meta)


def labels(values: Mapping[str, str], path: str) -> list[Cause]:
    """Keys and values of labels or of a selector by equality."""
    found: list[Cause] = []
    for key, value in values.items():
        found += each_invalid(path, key, qualified_name(key))
        found += each_invalid(path, value, label_value(value))
    return found


def label_selector(selector: Json | None, path: str) -> list[Cause]:
    """matchLabels and matchExpressions."""
    if not selector:
        return []
    found = labels(selector.get("matchLabels", {}), f"{path}.matchLabels")
    for index, each in enumerate(selector.get("matchExpressions", ())):
        at = f"{path}.matchExpressions[{index}]"
        values = each.get("values") or ()
        match each.get("operator"):
            case "In" | "NotIn":
                if not values:
                    found.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
            case "Exists" | "DoesNotExist":
                if values:
                    detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    found.append(forbidden(f"{at}.values", detail))
            case operator:
                found.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
        found += each_invalid(f"{at}.key", each.get("key", ""), qualified_name(each.get("key", "")))
        for place, value in enumerate(values):
            found += each_invalid(f"{at}.values[{place}]", value, label_value(value))
    return found


def _common(meta: Json) -> list[Cause]:
    at = "metadata"
    found: list[Cause] = []
    if meta.get("generation", 0) < 0:
        found.append(invalid(f"{at}.generation", meta["generation"], "must be greater than or equal to 0"))
    found += labels(meta.get("labels", {}), f"{at}.labels")
    annotations = meta.get("annotations", {})
    for key in annotations:
        found += each_invalid(f"{at}.annotations", key, qualified_name(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > ANNOTATIONS_SIZE:
        found.append(too_long(f"{at}.annotations", ANNOTATIONS_SIZE))
    return found + _owners(meta.get("ownerReferences", ())) + _managed(meta.get("managedFields", ()))


def _owners(references: Any) -> list[Cause]:
    at = "metadata.ownerReferences"
    found: list[Cause] = []
    controller = ""
    for each in references:
        version = each.get("apiVersion", "")
        if not version.rpartition("/")[2]:
            found.append(invalid(f"{at}.apiVersion", version, "version must not be empty"))
        empty = [name for name in ("kind", "name", "uid") if not each.get(name)]
        found += [invalid(f"{at}.{name}", "", "must not be empty") for name in empty]
        if (version, each.get("kind")) == ("v1", "Event"):
            found.append(invalid(at, each, "/v1, Kind=Event is disallowed from being an owner"))
        if each.get("controller"):
            this = f"{each.get('kind')}/{each.get('name')}"
            if controller:
                found.append(
                    invalid(
                        at,
                        list(references),
                        "Only one reference can have Controller set to true. "
                        f'Found "true" in references for {controller} and {this}',
                    )
                )
            else:
                controller = this
    return found


def _finalizers(finalizers: Any) -> list[Cause]:
    at = "metadata.finalizers"
    found = [cause for each in finalizers for cause in each_invalid(at, each, qualified_name(each))]
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        found.append(invalid(at, list(finalizers), f"finalizer {ORPHAN} and {FOREGROUND} cannot be both set"))
    return found


def _managed(entries: Any) -> list[Cause]:
    found: list[Cause] = []
    for index, each in enumerate(entries):
        at = f"metadata.managedFields[{index}]"
        if each.get("operation") not in ("Apply", "Update"):
            found.append(invalid(f"{at}.operation", each.get("operation", ""), "must be `Apply` or `Update`"))
        if each.get("fieldsType") and each["fieldsType"] != "FieldsV1":
            found.append(invalid(f"{at}.fieldsType", each["fieldsType"], "must be `FieldsV1`"))
        found += field_manager(each.get("manager", ""), f"{at}.manager")
        if len(each.get("subresource", "")) > 256:
            found.append(too_long(f"{at}.subresource", 256))
    return found


def field_manager(name: str, path: str = "fieldManager") -> list[Cause]:
    """The name of who writes, of a request or an entry of managedFields."""
    if len(name.encode()) > FIELD_MANAGER_LENGTH:
        return [too_long(path, FIELD_MANAGER_LENGTH)]
    return [
        invalid(path, name, f"invalid character U+{ord(char):04X} (at position {index})")
        for index, char in enumerate(name)
        if not char.isprintable()
    ]


def keys(data: Mapping[str, Any], path: str) -> list[Cause]:
    """Keys of a ConfigMap or a Secret."""
    return [cause for key in data for cause in each_invalid(f"{path}[{key}]", key, data_key(key))]
