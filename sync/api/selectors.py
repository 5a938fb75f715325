"""Label and field selectors, as `labelSelector` and `fieldSelector` of a list or a watch say them.

Source: apimachinery v0.34, `labels` and `fields`; each kind's fields are those of its field label conversion. All texts
of refusals are Kubernetes'.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sync.api.registry import ResourceType
from sync.api.status import bad_request
from sync.api.validation import names
from sync.api.validation.fields import invalid

Labels = Mapping[str, str]
_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>\0]+)\0?")
_SPECIAL = frozenset({"=", "==", "!=", "!", "(", ")", ",", "<", ">"})
_BINARY = "in, notin, =, ==, !=, gt, lt"
_INTEGER = re.compile(r"[+-]?[0-9]+")


class _Unparsable(ValueError):
    """The message is the client's to read."""


class Requirement(NamedTuple):
    """One term of a label selector. `operator` is in, notin, =, ==, !=, <, >, exists or !."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        if self.operator in ("exists", "!"):
            return (value is not None) is (self.operator == "exists")
        if self.operator in ("notin", "!="):
            return value is None or value not in self.values
        if self.operator in ("<", ">"):
            number, than = _integer(value or ""), _integer(self.values[0])
            if number is None or than is None:
                return False
            return number < than if self.operator == "<" else number > than
        return value in self.values


def label_selector(text: str) -> Callable[[Labels], bool]:
    """Whether labels match; an empty text matches all. Raises ApiError 400."""
    try:
        requirements = _Parser(text).requirements()
    except _Unparsable as error:
        raise bad_request(str(error)) from None
    return lambda labels: all(each.matches(labels) for each in requirements)


def _integer(text: str) -> int | None:
    """A 64-bit integer, as Go's ParseInt reads it."""
    number = int(text) if len(text) <= 64 and _INTEGER.fullmatch(text) else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


class _Parser:
    """Recursive descent over the tokens; the end is an empty one."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        place = 0
        while found := _TOKEN.match(text, place):
            self._tokens.append(found[1])
            place = found.end()
        self._tokens.append("")
        self._next = 0

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while self._peek():
            if not (_is_name(self._peek()) or self._peek() == "!"):
                raise _Unparsable(f"found '{self._peek()}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except _Unparsable as error:
                raise _Unparsable(f"unable to parse requirement: {error}") from None
            token = self._take()
            if not token:
                break
            if token != ",":
                raise _Unparsable(f"found '{token}', expected: ',' or 'end of string'")
            if not (_is_name(self._peek()) or self._peek() == "!"):
                raise _Unparsable(f"found '{self._peek()}', expected: identifier after ','")
        return found

    def _peek(self) -> str:
        return self._tokens[self._next]

    def _take(self) -> str:
        token = self._peek()
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!" and bool(self._take())
        key = self._take()
        if not _is_name(key):
            raise _Unparsable(f"found '{key}', expected: identifier")
        if wrong := names.qualified_name(key):
            raise _Unparsable(str(invalid("<nil>", key, "; ".join(wrong))))
        if absent:
            return Requirement(key, "!")
        if self._peek() in ("", ","):
            return Requirement(key, "exists")
        operator = self._take()
        if operator not in ("in", "notin", "=", "==", "!=", "<", ">"):
            raise _Unparsable(f"found '{operator}', expected: {_BINARY}")
        values = self._values() if operator in ("in", "notin") else {self._value()}
        return _checked(Requirement(key, operator, tuple(sorted(values))))

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        token = self._take()
        if not _is_name(token):
            raise _Unparsable(f"found '{token}', expected: identifier")
        return token

    def _values(self) -> set[str]:
        """`(a,b)`; what is empty between commas is the empty value."""
        if (token := self._take()) != "(":
            raise _Unparsable(f"found '{token}' expected: '('")
        if not (_is_name(self._peek()) or self._peek() in (",", ")")):
            raise _Unparsable(f"found '{self._peek()}', expected: ',', ')' or identifier")
        found: set[str] = set()
        previous = ","
        while (token := self._take()) != ")":
            if token == ",":
                if previous == ",":
                    found.add("")
            elif not _is_name(token):
                expected = "',', or identifier" if previous == "," else "',' or ')'"
                raise _Unparsable(f"found '{token}', expected: {expected}")
            elif previous != ",":
                raise _Unparsable(f"found '{token}', expected: ',' or ')'")
            else:
                found.add(token)
            previous = token
        return found | {""} if previous == "," else found


def _is_name(token: str) -> bool:
    return bool(token) and token not in _SPECIAL


def _checked(found: Requirement) -> Requirement:
    faults = []
    for index, value in enumerate(found.values):
        if found.operator in ("<", ">") and _integer(value) is None:
            detail = "for 'Gt', 'Lt' operators, the value must be an integer"
            faults.append(invalid(f"values[{index}]", value, detail))
    for index, value in enumerate(found.values):
        if wrong := names.label_value(value):
            faults.append(invalid(f"values[{index}][{found.key}]", value, "; ".join(wrong)))
    if faults:
        texts = list(dict.fromkeys(map(str, faults)))
        raise _Unparsable(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    return found


_NAME = ("metadata.name",)
_NAMES = ("metadata.name", "metadata.namespace")
_REGARDING = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_POD = (
    *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork"),
    *("status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName"),
)
_FIELDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("", "Pod"): {**{each: each for each in (*_NAMES, *_POD)}, "spec.host": "spec.nodeName"},
    ("", "Node"): {each: each for each in (*_NAME, "spec.unschedulable")},
    ("", "Namespace"): {each: each for each in (*_NAME, "status.phase")},
    ("", "Secret"): {each: each for each in (*_NAMES, "type")},
    ("", "Service"): {each: each for each in (*_NAMES, "spec.clusterIP", "spec.type")},
    ("", "Event"): {
        **{each: each for each in (*_NAMES, "reason", "reportingComponent", "source", "type")},
        **{f"involvedObject.{each}": f"involvedObject.{each}" for each in _REGARDING},
    },
    ("events.k8s.io", "Event"): {
        **{each: each for each in (*_NAMES, "reason", "type")},
        "reportingController": "reportingComponent",
        **{f"regarding.{each}": f"involvedObject.{each}" for each in _REGARDING},
    },
    ("certificates.k8s.io", "CertificateSigningRequest"): {each: each for each in (*_NAME, "spec.signerName")},
}
"""What a kind's selectors may name, and the field that is meant. Other built-in kinds: name and namespace."""
_SWITCHES = frozenset({"spec.hostNetwork", "spec.unschedulable"})
"""Booleans that are false when they are not there."""


class Term(NamedTuple):
    """One term of a field selector."""

    field: str
    value: str
    equal: bool

    def matches(self, obj: Mapping[str, Any]) -> bool:
        return (_shown(obj, self.field) == self.value) is self.equal


def field_selector(text: str, type: ResourceType) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an object matches; an empty text matches all. Events are read in the form they are stored in, core v1.
    Raises ApiError 400, also for a field that this kind's selectors can't name."""
    try:
        terms = [_term(part, text) for part in sorted(_parts(text)) if part]
        terms = [term._replace(field=_meant(term.field, type)) for term in terms]
    except _Unparsable as error:
        raise bad_request(str(error)) from None
    return lambda obj: all(term.matches(obj) for term in terms)


def _parts(text: str) -> list[str]:
    """Split at commas that no backslash stands before."""
    return re.findall(r"(?:\\.|[^,\\]|\\$)+", text, re.DOTALL)


def _term(part: str, text: str) -> Term:
    found = re.search("!=|==|=", part)
    if found is None:
        raise _Unparsable(f"invalid selector: '{text}'; can't understand '{part}'")
    return Term(part[: found.start()], _unescaped(part[found.end() :]), found[0] != "!=")


def _unescaped(text: str) -> str:
    if found := re.search(r"(?:^|[^\\])(?:\\\\)*(\\(?:[^\\,=]|$))", text):
        raise _Unparsable(f"invalid field selector: invalid escape sequence: {found[1]}")
    bare = re.sub(r"\\.", "", text)
    if found := re.search("[,=]", bare):
        raise _Unparsable(f"invalid field selector: unescaped character in value: {ord(found[0])}")
    return re.sub(r"\\(.)", r"\1", text)


def _meant(field: str, type: ResourceType) -> str:
    if type.custom:
        known: Mapping[str, str] = {each: each for each in (*_NAMES, *type.selectable)}
    else:
        known = _FIELDS.get((type.group, type.kind), {})
    if field in known:
        return known[field]
    if known:
        raise _Unparsable(f"field label not supported: {field}")
    if field not in _NAMES:
        quoted = '"' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'
        raise _Unparsable(f'{quoted} is not a known field selector: only "metadata.name", "metadata.namespace"')
    return field


def _shown(obj: Mapping[str, Any], field: str) -> str:
    if field == "source":
        return _shown(obj, "source.component") or _shown(obj, "reportingComponent")
    value: Any = obj
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return "false" if field in _SWITCHES else ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""
