"""What a refusal looks like: Kubernetes' Status, in its own words, so that clients which read the texts find them.

Reasons, codes and texts are those of apimachinery's `api/errors` and `field` packages, v0.34.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
"""Why a write that names an older resourceVersion is refused."""
MEDIA_TYPES = ("application/json", "application/yaml")


class GroupResource(NamedTuple):
    """A resource of an API group; the core group is ""."""

    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


class Cause(NamedTuple):
    """One fault of an object. `reason` is FieldValueInvalid, FieldValueRequired and so on, `message` names no field."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ApiError(Exception):
    """A request that is refused, as its Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.metadata = dict(metadata or {})

    def status(self) -> dict[str, Any]:
        """The body of the answer: an object of kind Status."""
        document: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            document["reason"] = self.reason
        if self.details:
            document["details"] = self.details
        return {**document, "code": self.code}


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: no credentials, or none that count here."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: GroupResource, name: str, why: str) -> ApiError:
    """403; `resource` may be empty for a path that is no resource's."""
    if not resource.resource:
        message = f"forbidden: {why}"
    elif name:
        message = f'{resource} "{name}" is forbidden: {why}'
    else:
        message = f"{resource} is forbidden: {why}"
    return ApiError(403, "Forbidden", message, _details(name, resource.group, resource.resource))


def not_found(resource: GroupResource, name: str) -> ApiError:
    """404: no such object."""
    return ApiError(
        404, "NotFound", f'{resource} "{name}" not found', _details(name, resource.group, resource.resource)
    )


def no_such_path() -> ApiError:
    """404: nothing is served there."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    """405: the path is served, but not with that method."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def not_acceptable(accepted: Sequence[str] = MEDIA_TYPES) -> ApiError:
    """406: the client takes no form that there is."""
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")


def already_exists(resource: GroupResource, name: str) -> ApiError:
    """409: create of what is there."""
    return ApiError(
        409, "AlreadyExists", f'{resource} "{name}" already exists', _details(name, resource.group, resource.resource)
    )


def conflict(resource: GroupResource, name: str, why: str = MODIFIED, causes: Sequence[Cause] = ()) -> ApiError:
    """409: the object is not as the writer thinks, or others own what it writes (`causes`)."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(name, resource.group, resource.resource, causes))


def apply_conflict(message: str, causes: Sequence[Cause]) -> ApiError:
    """409: a server-side apply of fields that other managers own."""
    return ApiError(409, "Conflict", message, _details("", "", "", causes))


def expired(message: str = "The resourceVersion for the provided list is too old.") -> ApiError:
    """410: what is asked for is compacted; list again."""
    return ApiError(410, "Expired", message)


def continue_expired(token: str) -> ApiError:
    """410 for a list that went on too late; `token` goes on with what there is now."""
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    return ApiError(410, "Expired", message, metadata={"continue": token})


def too_large_revision(asked: int, newest: int) -> ApiError:
    """504: a resourceVersion that is not there yet."""
    error = timeout(f"Too large resource version: {asked}, current: {newest}", 1)
    error.details["causes"] = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return error


def too_old(asked: int, oldest: int) -> ApiError:
    """410 for a watch."""
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large(limit: int) -> ApiError:
    """413; `limit` in bytes."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unsupported_media_type(accepted: Sequence[str] = MEDIA_TYPES) -> ApiError:
    """415: a body in a form that is not read."""
    text = "the body of the request was in an unknown format - accepted media types include: "
    return ApiError(415, "UnsupportedMediaType", text + ", ".join(accepted))


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422: an object that can't be. `causes` has at least one."""
    texts = list(dict.fromkeys(map(str, causes)))
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    message = f"{kind}{'.' + group if group else ''} {_quoted(name)} is invalid: {said}"
    return ApiError(422, "Invalid", message, _details(name, group, kind, causes))


def too_many(message: str, seconds: int = 1) -> ApiError:
    """429; the client should come again after `seconds`."""
    return ApiError(429, "TooManyRequests", message, {"retryAfterSeconds": seconds})


def internal(why: str) -> ApiError:
    """500."""
    return ApiError(500, "InternalError", f"Internal error occurred: {why}", {"causes": [{"message": why}]})


def unavailable(message: str, seconds: int = 1) -> ApiError:
    """503: not now."""
    return ApiError(503, "ServiceUnavailable", message, {"retryAfterSeconds": seconds})


def timeout(message: str, seconds: int = 0) -> ApiError:
    """504: it took too long."""
    return ApiError(504, "Timeout", f"Timeout: {message}", {"retryAfterSeconds": seconds} if seconds else {})


def success(**details: Any) -> dict[str, Any]:
    """The Status that answers a deletion that is done."""
    document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return {**document, "details": details} if details else document


def _details(name: str, group: str, kind: str, causes: Sequence[Cause] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "group": group, "kind": kind}
    if causes:
        found["causes"] = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    return {key: value for key, value in found.items() if value}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
