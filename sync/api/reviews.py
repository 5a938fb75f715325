"""Objects that ask a question and are answered at once: who am I, may I, may they."""

from __future__ import annotations

from typing import Any

import msgspec

from sync.api import rules, status
from sync.api.access import User
from sync.api.status import Cause
from sync.store import Store


class _Resource(msgspec.Struct):
    verb: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: Any = msgspec.field(default=None, name="fieldSelector")


class _Path(msgspec.Struct):
    path: str = ""
    verb: str = ""


class _Spec(msgspec.Struct):
    resource: _Resource | None = msgspec.field(default=None, name="resourceAttributes")
    path: _Path | None = msgspec.field(default=None, name="nonResourceAttributes")
    user: str = ""
    groups: list[str] | None = None
    namespace: str = ""


def review(kind: str, obj: dict[str, Any], user: User, store: Store) -> dict[str, Any]:
    """The object with its status. Raises ApiError."""
    if kind == "SelfSubjectReview":
        extra = {"authentication.kubernetes.io/credential-id": [user.credential]} if user.credential else {}
        info: dict[str, Any] = {"username": user.name, "groups": [*user.groups]}
        return {**obj, "status": {"userInfo": {**info, "extra": extra} if extra else info}}
    try:
        spec = msgspec.convert(obj.get("spec") or {}, _Spec)
    except msgspec.ValidationError as error:
        raise status.bad_request(f"{kind}.spec: {error}") from None
    if kind == "SelfSubjectRulesReview":
        if not spec.namespace:
            raise status.bad_request("no namespace on request")
        answer = {
            "resourceRules": rules.resource_rules(user, spec.namespace),
            "nonResourceRules": rules.path_rules(user),
            "incomplete": False,
        }
        return {**obj, "status": answer}
    if kind == "SubjectAccessReview":
        if not spec.user and not spec.groups:
            text = "at least one of user or group must be specified"
            _refuse(kind, "spec.user", f'Invalid value: "": {text}')
        user = User(spec.user, tuple(spec.groups or ()))
    if (spec.resource is None) == (spec.path is None):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        _refuse(kind, "spec.resourceAttributes", f"Invalid value: null: {text}")
    decision = rules.authorize(user, _request(spec), store)
    answer = {"allowed": decision.allowed}
    if decision.reason:
        answer["reason"] = decision.reason
    return {**obj, "status": answer}


def _request(spec: _Spec) -> rules.Request:
    if spec.path is not None:
        return rules.Request(verb=spec.path.verb, path=spec.path.path or "/")
    asked = spec.resource
    assert asked is not None
    return rules.Request(
        verb=asked.verb,
        group=asked.group,
        resource=asked.resource,
        subresource=asked.subresource,
        namespace=asked.namespace,
        name=asked.name,
        fields=_fields(asked.field_selector),
    )


def _fields(selector: Any) -> str:
    if not isinstance(selector, dict):
        return ""
    if isinstance(selector.get("rawSelector"), str):
        return str(selector["rawSelector"])
    found = [
        f"{each.get('key')}={each['values'][0]}"
        for each in selector.get("requirements") or ()
        if isinstance(each, dict) and each.get("operator") == "In" and len(each.get("values") or ()) == 1
    ]
    return ",".join(found)


def _refuse(kind: str, field: str, message: str) -> None:
    cause = Cause(field, "FieldValueInvalid", message)
    raise status.invalid("authorization.k8s.io", kind, "", [cause])
