"""Selectors: what matches, and refusals in Kubernetes' words (`selector_table`, checked against the real one)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.api.registry import ResourceType
from sync.api.selectors import field_selector, label_selector
from sync.api.status import ApiError
from tests.sync.api.patch.kinds import kind, registry
from tests.sync.api.selector_table import FIELDS, LABELS


def refusal(select: object, *arguments: object) -> str:
    try:
        select(*arguments)  # type: ignore[operator]
    except ApiError as error:
        return error.message if error.code == 400 else str(error.status())
    return ""


@pytest.mark.parametrize("text", LABELS)
def test_a_label_selector_is_taken_or_refused_in_kubernetes_words(text: str) -> None:
    assert refusal(label_selector, text) == LABELS[text]


@pytest.mark.parametrize(("name", "text"), FIELDS)
def test_a_field_selector_is_taken_or_refused_in_kubernetes_words(name: str, text: str) -> None:
    assert refusal(field_selector, text, kind(name)) == FIELDS[name, text]


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("", [{}, {"a": "b"}], []),
        ("a", [{"a": ""}], [{}, {"b": "a"}]),
        ("!a", [{}, {"b": "a"}], [{"a": ""}]),
        ("a=b", [{"a": "b"}], [{}, {"a": "c"}]),
        ("a==b,c!=d", [{"a": "b"}, {"a": "b", "c": "e"}], [{"a": "b", "c": "d"}]),
        ("a=", [{"a": ""}], [{}, {"a": "b"}]),
        ("a in (b, c)", [{"a": "b"}, {"a": "c"}], [{}, {"a": "d"}]),
        ("a notin (b,c)", [{}, {"a": "d"}], [{"a": "b"}]),
        ("a in (b,)", [{"a": "b"}, {"a": ""}], [{"a": "c"}]),
        ("a in ()", [{"a": ""}], [{}, {"a": "c"}]),
        ("a>5", [{"a": "6"}], [{}, {"a": "5"}, {"a": "x"}]),
        ("a<5", [{"a": "-6"}], [{}, {"a": "5"}, {"a": "9" * 30}]),
        ("example.org/a=b", [{"example.org/a": "b"}], [{"a": "b"}]),
    ],
)
def test_labels_match(text: str, yes: list[dict[str, str]], no: list[dict[str, str]]) -> None:
    matches = label_selector(text)
    assert [matches(labels) for labels in yes + no] == [True] * len(yes) + [False] * len(no)


POD = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {"nodeName": "a,b", "restartPolicy": "Always"},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("metadata.name=p,metadata.namespace=n", True),
        ("metadata.name!=p", False),
        ("spec.nodeName=a\\,b", True),
        ("spec.host=a\\,b", True),
        ("spec.nodeName=", False),
        ("status.podIP=", True),
        ("spec.hostNetwork=false", True),
        ("spec.hostNetwork=true", False),
        ("status.phase==Running,spec.restartPolicy!=Never", True),
    ],
)
def test_fields_of_a_pod_match(text: str, matches: bool) -> None:
    assert field_selector(text, kind("Pod"))(POD) is matches


def test_events_of_both_groups_are_read_as_they_are_stored() -> None:
    event = {"involvedObject": {"kind": "Pod"}, "source": {"component": "kubelet"}, "reportingComponent": "other"}
    old = kind("Event")
    assert field_selector("involvedObject.kind=Pod,source=kubelet", old)(event)
    new = next(each for each in _kinds("Event") if each.group == "events.k8s.io")
    assert field_selector("regarding.kind=Pod,reportingController=other", new)(event)
    assert refusal(field_selector, "involvedObject.kind=Pod", new) == ("field label not supported: involvedObject.kind")


def _kinds(name: str) -> list[ResourceType]:

    return [each for each in registry().all() if each.kind == name]


@given(st.text(alphabet="ab-/.,=!()<> \\\0in1é", max_size=30))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    refusal(label_selector, text)
    refusal(field_selector, text, kind("Pod"))
