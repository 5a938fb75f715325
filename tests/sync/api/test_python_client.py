"""The `kubernetes` client for Python, unmodified, on both APIs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import yaml
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock import leaselock

from tests.sync.api.apis import Api
from tests.sync.api.test_client_go import define_boats

LEASE = 2
# what the client has no types for
load_kube_config: Any = config.load_kube_config
Watch: Any = watch.Watch
DynamicClient: Any = dynamic.DynamicClient
Config: Any = electionconfig.Config
LeaderElection: Any = leaderelection.LeaderElection
LeaseLock: Any = leaselock.LeaseLock


@pytest.fixture
def python(api: Api) -> Iterator[client.ApiClient]:
    """A client; election's lock makes one of its own, from the same configuration."""
    configuration = client.Configuration()
    load_kube_config(str(api.kubeconfig), client_configuration=configuration)
    before = client.Configuration.get_default_copy()
    client.Configuration.set_default(configuration)
    with client.ApiClient(configuration) as found:
        yield found
    client.Configuration.set_default(before)


def slice_of(name: str, *addresses: str) -> client.V1EndpointSlice:
    return client.V1EndpointSlice(
        api_version="discovery.k8s.io/v1",
        kind="EndpointSlice",
        metadata=client.V1ObjectMeta(name=name, labels={"kubernetes.io/service-name": "orders"}),
        address_type="IPv4",
        endpoints=[client.V1Endpoint(addresses=[each]) for each in addresses],
        ports=[client.DiscoveryV1EndpointPort(port=8080)],
    )


def test_typed_objects(api: Api, python: Any) -> None:
    core: Any = client.CoreV1Api(python)
    slices: Any = client.DiscoveryV1Api(python)
    namespace = api.namespace()
    spec = client.V1ServiceSpec(selector={"app": "orders"}, ports=[client.V1ServicePort(name="http", port=80)])
    made = core.create_namespaced_service(
        namespace, client.V1Service(metadata=client.V1ObjectMeta(name="orders"), spec=spec)
    )
    assert made.spec.cluster_ip.startswith("10.")
    assert made.spec.session_affinity == "None"
    assert isinstance(made.metadata.creation_timestamp, datetime)
    slices.create_namespaced_endpoint_slice(namespace, slice_of("orders-1", "10.244.1.5"))
    patched = core.patch_namespaced_service("orders", namespace, {"spec": {"ports": [{"name": "more", "port": 81}]}})
    assert [port.port for port in patched.spec.ports] == [81, 80]
    patched.metadata.labels = {"app": "orders"}
    with pytest.raises(ApiException) as refused:
        core.replace_namespaced_service("orders", namespace, made)
    assert (refused.value.status, "the object has been modified" in str(refused.value.body)) == (409, True)
    patched.spec.ports[0].name = "other"
    assert core.replace_namespaced_service("orders", namespace, patched).metadata.labels == {"app": "orders"}
    found = slices.list_namespaced_endpoint_slice(namespace, label_selector="kubernetes.io/service-name=orders")
    assert [each.endpoints[0].addresses for each in found.items] == [["10.244.1.5"]]
    assert core.delete_namespaced_service("orders", namespace).metadata.name == "orders"
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_service("orders", namespace)
    assert missing.value.status == 404


def test_a_watch(api: Api, python: Any) -> None:
    slices: Any = client.DiscoveryV1Api(python)
    namespace = api.namespace()
    since = slices.list_namespaced_endpoint_slice(namespace).metadata.resource_version
    slices.create_namespaced_endpoint_slice(namespace, slice_of("a", "10.244.1.1"))
    slices.patch_namespaced_endpoint_slice("a", namespace, {"endpoints": [{"addresses": ["10.244.1.2"]}]})
    slices.delete_namespaced_endpoint_slice("a", namespace)
    told = []
    watching = Watch()
    for event in watching.stream(
        slices.list_namespaced_endpoint_slice, namespace, resource_version=since, timeout_seconds=10
    ):
        told.append((event["type"], event["object"].endpoints[0].addresses))
        if event["type"] == "DELETED":
            watching.stop()
    assert told == [("ADDED", ["10.244.1.1"]), ("MODIFIED", ["10.244.1.2"]), ("DELETED", ["10.244.1.2"])]


def test_pages(api: Api, python: Any) -> None:
    core: Any = client.CoreV1Api(python)
    namespace = api.namespace()
    for number in range(5):
        core.create_namespaced_config_map(
            namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"c{number}", labels={"mine": "yes"}))
        )
    names, token = [], None
    while token != "":
        page = core.list_namespaced_config_map(namespace, limit=2, _continue=token, label_selector="mine")
        names += [each.metadata.name for each in page.items]
        token = page.metadata._continue or ""
    assert names == [f"c{number}" for number in range(5)]


def test_the_dynamic_client(api: Api, python: Any) -> None:
    define_boats(api)
    namespace = api.namespace()
    kinds = DynamicClient(python)
    boats = kinds.resources.get(api_version="harbour.example.com/v1", kind="Boat")
    body = yaml.safe_load("{apiVersion: harbour.example.com/v1, kind: Boat, metadata: {name: anna}, spec: {crew: 7}}")
    assert boats.create(body=body, namespace=namespace).spec.flag == "dk"
    wanted = {**body, "spec": {"crew": 7, "flag": "no"}}
    applied = boats.server_side_apply(body=wanted, namespace=namespace, field_manager="tests", force_conflicts=True)
    assert applied.spec.flag == "no"
    patch = {"status": {"port": "oslo"}}
    boats.status.patch(body=patch, name="anna", namespace=namespace, content_type="application/merge-patch+json")
    assert boats.get(name="anna", namespace=namespace).status.port == "oslo"
    with pytest.raises(ApiException) as refused:
        boats.create(body={**body, "metadata": {"name": "b"}, "spec": {"crew": "many"}}, namespace=namespace)
    assert refused.value.status == 422
    boats.delete(name="anna", namespace=namespace)
    assert boats.get(namespace=namespace).items == []


def test_one_leader_at_a_time(api: Api, python: Any) -> None:
    """By a Lease: a second candidate gets it when the first no longer renews."""
    namespace = api.namespace()
    first, second = (
        LeaderElection(Config(LeaseLock("leader", namespace, name), LEASE, 1.5, 1, lambda: None, lambda: None))
        for name in ("first", "second")
    )
    assert first.try_acquire_or_renew()
    assert not second.try_acquire_or_renew()
    assert first.try_acquire_or_renew()
    deadline = time.monotonic() + 15
    while not second.try_acquire_or_renew():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    leases: Any = client.CoordinationV1Api(python)
    assert leases.read_namespaced_lease("leader", namespace).spec.holder_identity == "second"
    assert not first.try_acquire_or_renew()
