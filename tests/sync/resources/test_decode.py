"""Objects from plain data: what real clusters write is taken, mistakes are named with what would be right."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.resources.decode import decode
from sync.resources.kinds import KINDS, EndpointSlice, Key, MeshNode, Pod, Resource, Service
from sync.resources.shape import spell
from sync.resources.validate import split_host_port

KEY = base64.b64encode(bytes(range(32))).decode()
RANGE = "10.96.0.0/12"


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders"}, "spec": spec}


def mesh_node(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "edgemesh.kubeedge.io/v1alpha1",
        "kind": "MeshNode",
        "metadata": {"name": "node-a"},
        "spec": {"publicKey": KEY, "listenPort": 20000} | spec,
        "status": status or {},
    }


def piece(**fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "orders-x", "labels": {"kubernetes.io/service-name": "orders"}},
        "addressType": "IPv4",
    } | fields


PORTS = [{"port": 80}]

MISTAKES = [
    (service(ports=PORTS, selectr={"a": "b"}), "spec.selectr", "unknown field", "did you mean 'selector'?"),
    (service(ports=PORTS, clusterip="10.96.0.5"), "spec.clusterip", "unknown field", "did you mean 'clusterIP'?"),
    (service(ports=[{"prot": 80, "port": 1}]), "spec.ports[0].prot", "unknown field", "did you mean 'port'?"),
    (service(ports=[{"port": "http"}]), "spec.ports[0].port", "'http' is text", "a whole number"),
    (service(ports=[{"port": 70000}]), "spec.ports[0].port", "70000", "65535"),
    (service(ports=[{}]), "spec.ports[0]", "'port' is missing", "add 'port'"),
    (service(ports={"port": 80}), "spec.ports", "is a mapping", "a list"),
    (service(ports=PORTS, selector={"a": 1}), "spec.selector.a", "1 is a number", "text"),
    (service(ports=PORTS, type="Cluster"), "spec.type", "'Cluster'", "ClusterIP, NodePort"),
    (service(ports=[{"port": 1, "protocol": "tcp"}]), "spec.ports[0].protocol", "'tcp'", "TCP, UDP, SCTP"),
    (service(ports=PORTS, clusterIP="192.0.2.1"), "spec.clusterIP", "outside the service range", RANGE),
    (service(ports=PORTS, clusterIP="10.96.0"), "spec.clusterIP", "not an IP address", "None"),
    (service(ports=[{"port": 1, "targetPort": "longer-than-fifteen"}]), "spec.ports[0].targetPort", "no port", "name"),
    (service(), "spec", "no 'ports'", "port: 80"),
    (service(ports=[{"port": 1, "name": "a"}, {"port": 2}]), "spec.ports[1]", "no 'name'", "each needs a name"),
    (
        service(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]),
        "spec.ports[1].name",
        "used twice",
        "another name",
    ),
    (
        service(ports=[{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]),
        "spec.ports[1].port",
        "used twice",
        "another port",
    ),
    (service(type="ExternalName", externalName="no_name"), "spec.externalName", "not a DNS name", "a-z"),
    (
        service(ports=PORTS, sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}),
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "0 is out of range",
        ">= 1",
    ),
    (service(ports=PORTS) | {"metadata": {"name": "Orders"}}, "metadata.name", "'Orders'", "a-z"),
    (service(ports=PORTS) | {"metadata": {}}, "metadata.name", "missing", ""),
    (service(ports=PORTS) | {"metadata": {"name": "a", "namspace": "b"}}, "metadata.namspace", "unknown", "namespace"),
    (service(ports=PORTS) | {"specs": {}}, "specs", "unknown field", "did you mean 'spec'?"),
    (service(ports=PORTS) | {"kind": "Servce"}, "kind", "unknown kind 'Servce'", "did you mean 'Service'?"),
    (service(ports=PORTS) | {"kind": "Deployment"}, "kind", "unknown kind 'Deployment'", "Namespace, Service, "),
    (service(ports=PORTS) | {"apiVersion": "v2"}, "apiVersion", "'v2'", "apiVersion: v1"),
    ({"apiVersion": "v1"}, "kind", "'kind' is missing", "Service"),
    ([1], "", "not a Kubernetes object", "apiVersion, kind and metadata"),
    (mesh_node(publicKey="AAAA"), "spec.publicKey", "not a WireGuard public key", "--print-meshnode"),
    (mesh_node(addresses=["10.0.0"]), "spec.addresses[0]", "not an IP address", "IPv4"),
    (mesh_node(address=["10.0.0.1"]), "spec.address", "unknown field", "did you mean 'addresses'?"),
    (mesh_node(relays=["a:b:c"]), "spec.relays[0]", "not an address", "host:port"),
    (mesh_node({"podRanges": ["10.244.1.1/24"]}), "status.podRanges[0]", "not a range", "10.244.1.0/24"),
    (mesh_node({"meshAddress": []}), "status.meshAddress", "unknown field", "did you mean 'meshAddresses'?"),
    (piece(endpoints=[{"addresses": ["::1"]}]), "endpoints[0].addresses[0]", "not an IPv4 address", "addressType"),
    (piece(endpoints=[{"addresses": []}]), "endpoints[0].addresses", "is empty", "one IP address"),
    (piece(metadata={"name": "x"}), "metadata", "no label", "Service"),
]


@pytest.mark.parametrize(("data", "field", "wrong", "right"), MISTAKES)
def test_mistake_is_named(data: Any, field: str, wrong: str, right: str) -> None:
    resource, faults = decode(data, RANGE)
    assert resource is None
    (fault,) = faults
    assert spell(fault.path) == field
    assert wrong in fault.wrong
    assert right in fault.right


def test_all_unknown_fields_are_named_at_once() -> None:
    _, faults = decode(service(ports=PORTS, selectr={}, typ="ClusterIP"))
    assert [spell(fault.path) for fault in faults] == ["spec.selectr", "spec.typ"]


def test_a_pod_as_kubectl_prints_it() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "orders"},
            "managedFields": [{"manager": "kubelet"}],
            "name": "orders-1",
            "namespace": "shop",
            "resourceVersion": "12",
            "uid": "3b0c",
        },
        "spec": {
            "containers": [
                {
                    "image": "python:3.11-slim",
                    "name": "orders",
                    "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
                    "readinessProbe": {"tcpSocket": {"port": 8080}},
                    "resources": {},
                    "volumeMounts": [{"mountPath": "/x", "name": "y"}],
                }
            ],
            "nodeName": "node-a",
            "nodeSelector": {"topology.kubernetes.io/zone": "site-a"},
            "tolerations": [{"effect": "NoExecute", "operator": "Exists"}],
            "volumes": [{"name": "y", "emptyDir": {}}],
        },
        "status": {
            "conditions": [{"lastProbeTime": None, "status": "True", "type": "Ready", "observedGeneration": 1}],
            "containerStatuses": [{"name": "orders"}],
            "phase": "Running",
            "podIP": "10.244.1.5",
            "somethingNewer": {"x": 1},
        },
    }
    before = msgspec.json.encode(pod)
    resource, faults = decode(pod)
    assert faults == []
    assert isinstance(resource, Pod)
    assert msgspec.json.encode(pod) == before
    assert resource.key == Key("Pod", "shop", "orders-1")
    assert resource.spec.containers[0].ports[0].container_port == 8080
    assert resource.status.conditions[0].type == "Ready"


def test_a_service_as_kubectl_prints_it() -> None:
    resource, faults = decode(
        service(
            clusterIP="10.96.7.7",
            clusterIPs=["10.96.7.7"],
            internalTrafficPolicy="Cluster",
            ipFamilies=["IPv4"],
            ipFamilyPolicy="SingleStack",
            ports=[{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http", "appProtocol": "h2c"}],
            selector={"app": "orders"},
            sessionAffinity="ClientIP",
            sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
            type="ClusterIP",
        )
        | {"status": {"loadBalancer": {}}},
        RANGE,
    )
    assert faults == []
    assert isinstance(resource, Service)
    assert resource.metadata.namespace == "default"
    assert resource.spec.session_affinity_config is not None


def test_null_is_absent() -> None:
    resource, faults = decode(service(ports=PORTS, selector=None, clusterIP=None))
    assert faults == []
    assert isinstance(resource, Service)
    assert (resource.spec.selector, resource.spec.cluster_ip) == ({}, "")


def test_cluster_scope_has_no_namespace() -> None:
    data = mesh_node({"meshAddresses": ["10.222.0.1"], "podRanges": ["10.244.1.0/24"]}, relays=["[2001:db8::1]:1"])
    data["metadata"]["namespace"] = "shop"
    resource, faults = decode(data)
    assert faults == []
    assert isinstance(resource, MeshNode)
    assert resource.key == Key("MeshNode", "", "node-a")


FIELDS = ["metadata", "spec", "status", "name", "namespace", "labels", "ports", "port", "endpoints", "addresses"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "a", "10.0.0.1", "A_b", "::1"]),
    lambda inner: (
        st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=3) | st.lists(inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
def test_garbage_is_an_object_or_faults(kind: str, data: dict[str, Any]) -> None:
    resource, faults = decode(data | {"apiVersion": KINDS[kind].api_version, "kind": kind}, RANGE)
    assert (resource is None) == bool(faults)
    assert all(fault.wrong for fault in faults)


def test_objects_survive_the_disk() -> None:
    data = [service(ports=PORTS), mesh_node(), piece(endpoints=[{"addresses": ["10.0.0.1"], "nodeName": "n"}])]
    objects = [resource for resource, _ in map(decode, data) if resource]
    assert len(objects) == 3
    assert isinstance(objects[2], EndpointSlice)
    packed = msgspec.msgpack.encode(objects)
    assert msgspec.msgpack.decode(packed, type=list[Resource]) == objects


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("198.51.100.1", ("198.51.100.1", 9)),
        ("198.51.100.1:20006", ("198.51.100.1", 20006)),
        ("relay.example:1", ("relay.example", 1)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", 9)),
        ("2001:db8::1", ("2001:db8::1", 9)),
        ("a:0", ("", 0)),
        ("a:65536", ("", 0)),
        ("[x]:1", ("", 0)),
        ("", ("", 0)),
    ],
)
def test_split_host_port(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text, 9) == expected
