"""Reviews: questions about access, answered and not kept (pkg/apis/authorization/validation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync.api.status import Cause
from sync.api.validation.fields import invalid

Json = Mapping[str, Any]

_BOTH = "cannot be specified in combination with resourceAttributes"
_NONE = "exactly one of nonResourceAttributes or resourceAttributes must be specified"


def access_review(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    """SelfSubjectAccessReview and SubjectAccessReview."""
    spec = obj["spec"]
    found: list[Cause] = []
    if "resourceAttributes" in spec and "nonResourceAttributes" in spec:
        found.append(invalid("spec.nonResourceAttributes", spec["nonResourceAttributes"], _BOTH))
    elif "resourceAttributes" not in spec and "nonResourceAttributes" not in spec:
        found.append(invalid("spec.resourceAttributes", None, _NONE))
    if obj["kind"] == "SubjectAccessReview" and not spec.get("user") and not spec.get("groups"):
        found.append(invalid("spec.user", "", "at least one of user or group must be specified"))
    return found


def any_review(obj: Json, old: Json | None, subresource: str) -> list[Cause]:
    """Reviews that have nothing to be wrong."""
    return []
