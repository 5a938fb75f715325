"""Texts as kube-apiserver 1.34 gave them."""

from sync.api import status
from sync.api.status import Cause, GroupResource


def test_an_object_that_is_not_there() -> None:
    assert status.not_found(GroupResource("coordination.k8s.io", "leases"), "x").status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'leases.coordination.k8s.io "x" not found',
        "reason": "NotFound",
        "details": {"name": "x", "group": "coordination.k8s.io", "kind": "leases"},
        "code": 404,
    }


def test_one_fault_stands_alone_and_several_in_brackets() -> None:
    one = Cause("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")
    two = Cause("spec.ports", "FieldValueRequired", "Required value")
    assert status.invalid("", "Service", "", [one]).message == f'Service "" is invalid: {one}'
    error = status.invalid("", "Service", "s", [one, two])
    assert error.message == f'Service "s" is invalid: [{one}, {two}]'
    assert [cause["field"] for cause in error.status()["details"]["causes"]] == ["metadata.name", "spec.ports"]


def test_a_refusal_without_a_name_names_the_resource() -> None:
    assert status.forbidden(GroupResource("", "pods"), "", "no").message == "pods is forbidden: no"
