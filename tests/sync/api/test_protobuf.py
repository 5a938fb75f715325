"""Bodies in protobuf: what kubectl's typed commands send, and whatever else comes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.api import protobuf
from sync.api.status import ApiError
from tests.sync.api.apis import Api

NAMES = ("Pod", "Service", "ConfigMap", "Secret", "Node", "Event", "Namespace", "DeleteOptions")


def field(number: int, value: bytes | str | int) -> bytes:
    """A field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value % (1 << 64))
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def body(kind: str, message: bytes, version: str = "v1") -> bytes:
    return protobuf.MAGIC + field(1, field(1, version) + field(2, kind)) + field(2, message)


def test_values_are_as_in_json() -> None:
    owner = field(1, "Service") + field(3, "s") + field(4, "u") + field(5, "v1")
    metadata = field(1, "p") + field(8, field(1, 1_700_000_000)) + field(11, field(1, "app") + field(2, "shop"))
    probe = field(1, field(3, field(1, field(1, 1) + field(3, "web")))) + field(2, -5)
    container = (
        field(1, "c")
        + field(6, field(3, 80))
        + field(10, probe)
        + field(8, field(1, field(1, "cpu") + field(2, field(1, "1"))))
    )
    volume = field(1, "v") + field(2, field(6, field(1, "s")))
    made = protobuf.decode(
        body("Pod", field(1, metadata + field(13, owner)) + field(2, field(1, volume) + field(2, container)))
    )
    assert (made["kind"], made["apiVersion"]) == ("Pod", "v1")
    assert made["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
    assert made["metadata"]["labels"] == {"app": "shop"}
    assert made["metadata"]["ownerReferences"] == [{"kind": "Service", "name": "s", "uid": "u", "apiVersion": "v1"}]
    assert made["spec"]["volumes"] == [{"name": "v", "secret": {"secretName": "s"}}]
    container_made = made["spec"]["containers"][0]
    assert container_made["ports"] == [{"containerPort": 80}]
    assert container_made["resources"]["limits"] == {"cpu": "1"}
    assert container_made["livenessProbe"] == {"tcpSocket": {"port": "web"}, "initialDelaySeconds": -5}


@pytest.mark.parametrize(
    "sent", [b"", b"{}", b"k8s\x00", body("Nothing", b""), body("Pod", b"\x0a\xff"), body("Pod", b"\xff" * 11)]
)
def test_what_can_not_be_read_is_a_bad_request(sent: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        protobuf.decode(sent)
    assert raised.value.code == 400


MESSAGES = st.recursive(
    st.binary(max_size=12),
    lambda inner: st.lists(
        st.builds(field, st.integers(1, 20), inner | st.integers(-5, 1 << 63) | st.text(max_size=5)), max_size=6
    ).map(b"".join),
)


@given(st.sampled_from(NAMES), MESSAGES)
def test_anything_is_read_or_refused(kind: str, message: bytes) -> None:
    with contextlib.suppress(ApiError):
        made: dict[str, Any] = protobuf.decode(body(kind, message))
        assert made["kind"] == kind


def test_kubectl_creates(embedded: Api) -> None:
    where = f"--namespace={embedded.namespace()}"
    assert embedded.kubectl("create", where, "configmap", "a", "--from-literal=k=v") == "configmap/a created\n"
    assert embedded.kubectl("create", where, "secret", "generic", "b", "--from-literal=k=v") == "secret/b created\n"
    assert embedded.kubectl("create", where, "service", "nodeport", "c", "--tcp=80:8080") == "service/c created\n"
    assert embedded.kubectl("run", where, "d", "--image=e", "--port=8080") == "pod/d created\n"
    assert embedded.kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert embedded.kubectl("get", where, "secret", "b", "-o=jsonpath={.data.k}") == "dg=="
    assert embedded.kubectl("get", where, "svc", "c", "-o=jsonpath={.spec.ports[0].targetPort}") == "8080"
    assert embedded.kubectl("get", where, "pod", "d", "-o=jsonpath={.spec.containers[0].image}") == "e"
