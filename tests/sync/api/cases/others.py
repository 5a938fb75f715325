"""Nodes, namespaces, configuration, endpoint slices, leases, events and requests for certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.sync.api.cases.case import LONG, Case
from tests.sync.api.kinds import (
    config_map,
    endpoint_slice,
    event,
    lease,
    namespace,
    new_event,
    node,
    secret,
    service_account,
    signing_request,
)

Json = dict[str, Any]


def nodes() -> Iterator[Case]:
    yield Case("plain", node())
    yield Case("ranges", node(podCIDR="10.244.1.0/24"))
    yield Case("bad range", node(podCIDR="10.244.1.0"))
    yield Case("two ranges of one family", node(podCIDRs=["10.244.1.0/24", "10.244.2.0/24"], podCIDR="10.244.1.0/24"))
    yield Case("taints", node(taints=[{"key": "a", "effect": "NoSchedule"}]))
    yield Case("bad taints", node(taints=[{"key": "a b"}, {"key": "c", "effect": "Never"}]))
    yield Case("taint twice", node(taints=[{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]))
    yield Case("capacity", node(status={"capacity": {"cpu": "4", "memory": "1024Ki"}}))
    yield Case("range set", node(), {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}})
    yield Case(
        "range changed",
        node(podCIDR="10.244.1.0/24"),
        {"spec": {"podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"]}},
    )
    yield Case("range taken away", node(podCIDR="10.244.1.0/24"), {"spec": {"podCIDR": None, "podCIDRs": None}})
    yield Case("provider changed", node(providerID="a://b"), {"spec": {"providerID": "a://c"}})
    yield Case("unschedulable", node(), {"spec": {"unschedulable": True}})
    address = {"type": "InternalIP", "address": "10.0.0.1"}
    yield Case("addresses", node(), {"status": {"addresses": [address]}}, "status")
    yield Case("address twice", node(), {"status": {"addresses": [address, address]}}, "status")
    yield Case("negative capacity", node(), {"status": {"capacity": {"cpu": "-1"}}}, "status")


def namespaces() -> Iterator[Case]:
    yield Case("plain", namespace("shop"))
    yield Case("dots", namespace("a.b"))
    yield Case("long", namespace(LONG))
    yield Case("finalizers", namespace("shop", spec={"finalizers": ["example.com/x"]}))
    yield Case("bad finalizers", namespace("shop", spec={"finalizers": ["mine"]}))
    yield Case("phase", namespace("shop1"), {"status": {"phase": "Terminating"}}, "status")
    yield Case("label", namespace("shop2"), {"metadata": {"labels": {"a": "b"}}})
    yield Case("finalizers by update", namespace("shop3"), {"spec": {"finalizers": []}})


def config() -> Iterator[Case]:
    yield Case("data", config_map(data={"a": "1", "b.c": "2"}))
    yield Case("bad keys", config_map(data={"a b": "1"}, binaryData={"..": "AA=="}))
    yield Case("key twice", config_map(data={"a": "1"}, binaryData={"a": "AA=="}))
    yield Case("no base64", config_map(binaryData={"a": "*"}))
    yield Case("number", config_map(data={"a": 1}))
    yield Case("large", config_map(data={"a": "x" * (1024 * 1024 + 1)}))
    yield Case("immutable", config_map(data={"a": "1"}, immutable=True), {"data": {"a": "2"}})
    yield Case("immutable no more", config_map(immutable=True), {"immutable": False})
    yield Case("secret", secret(data={"a": "AA=="}))
    yield Case("secret's text", secret(stringData={"a": "b"}))
    yield Case("secret's bad data", secret(data={"a": "b c"}))
    yield Case("secret's bad key", secret(data={"a b": "AA=="}))
    yield Case("secret's type changed", secret(), {"type": "other"})
    yield Case("immutable secret", secret(data={"a": "AA=="}, immutable=True), {"data": {"a": "AAA="}})
    for kind in ("dockercfg", "dockerconfigjson", "basic-auth", "ssh-auth", "tls", "service-account-token"):
        yield Case(f"empty {kind}", secret(type=f"kubernetes.io/{kind}"))
    yield Case(
        "docker configuration", secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "e30="})
    )
    yield Case(
        "bad docker configuration", secret(type="kubernetes.io/dockerconfigjson", data={".dockerconfigjson": "AA=="})
    )
    yield Case("account", service_account())
    yield Case("account's name", service_account("A"))


def slices() -> Iterator[Case]:
    yield Case("plain", endpoint_slice())
    yield Case("no type", endpoint_slice(addressType=""))
    yield Case("type unknown", endpoint_slice(addressType="IPv5"))
    yield Case("no address", endpoint_slice(endpoints=[{"addresses": []}]))
    yield Case(
        "addresses",
        endpoint_slice(endpoints=[{"addresses": ["x"]}, {"addresses": ["fd00::1"]}, {"addresses": ["127.0.0.1"]}]),
    )
    yield Case(
        "IPv6", endpoint_slice(addressType="IPv6", endpoints=[{"addresses": ["fd00::1"]}, {"addresses": ["FD00::1"]}])
    )
    yield Case(
        "FQDN",
        endpoint_slice(
            addressType="FQDN", endpoints=[{"addresses": ["a.b"]}, {"addresses": ["a"]}, {"addresses": ["A.b"]}]
        ),
    )
    yield Case("101 addresses", endpoint_slice(endpoints=[{"addresses": [f"10.0.0.{n}" for n in range(101)]}]))
    yield Case(
        "1001 endpoints", endpoint_slice(endpoints=[{"addresses": [f"10.0.{n // 200}.{n % 200}"]} for n in range(1001)])
    )
    yield Case("port names", endpoint_slice(ports=[{"name": "A"}, {"name": "b"}, {"name": "b"}]))
    yield Case("protocol", endpoint_slice(ports=[{"protocol": "X"}]))
    yield Case("no names", endpoint_slice(ports=[{"port": 80}]))
    yield Case(
        "node and host names",
        endpoint_slice(endpoints=[{"addresses": ["10.0.0.1"], "nodeName": "N", "hostname": "a.b"}]),
    )
    hints = {"forZones": [{"name": "a"}, {"name": "a"}], "forNodes": [{"name": "N"}]}
    yield Case("hints", endpoint_slice(endpoints=[{"addresses": ["10.0.0.1"], "hints": hints}]))
    yield Case("topology", endpoint_slice(endpoints=[{"addresses": ["10.0.0.1"], "deprecatedTopology": {"a b": "c"}}]))
    yield Case("type changed", endpoint_slice(endpoints=[]), {"addressType": "IPv6"})
    yield Case("endpoints changed", endpoint_slice(), {"endpoints": [{"addresses": ["10.0.0.2"]}]})
    yield Case("labels changed", endpoint_slice(), {"metadata": {"labels": {"a": "b"}}})
    yield Case("annotations changed", endpoint_slice(), {"metadata": {"annotations": {"a": "b"}}})


def others() -> Iterator[Case]:
    yield Case("lease", lease(holderIdentity="n1", leaseDurationSeconds=40, renewTime="2026-01-01T00:00:00.123456Z"))
    yield Case("lease with a bad time", lease(renewTime="yesterday"))
    yield Case("lease of 0 s", lease(leaseDurationSeconds=0, leaseTransitions=-1))
    yield Case("event", event())
    yield Case("event elsewhere", event(involvedObject={"namespace": "shop"}))
    yield Case("event with a time", event(firstTimestamp="2026-01-01T01:00:00+01:00", count=3))
    yield Case("event with an event time", event(eventTime="2026-01-01T00:00:00.000001Z"))
    yield Case("new event", new_event())
    yield Case("new event with holes", new_event(action="", reportingController="", reportingInstance="", reason=""))
    yield Case("new event with old fields", new_event(deprecatedCount=2, type="Odd"))
    yield Case("new event without a time", new_event(eventTime=None))
    yield Case("series", new_event(series={"count": 1, "lastObservedTime": None}))
    yield Case("request", signing_request())
    yield Case("request of nothing", signing_request(request="AA=="))
    yield Case("usages", signing_request(usages=["client auth", "client auth", "flying"]))
    yield Case("no usages", signing_request(usages=[]))
    yield Case("signer", signing_request(signerName="nodes"))
    yield Case("no signer", signing_request(signerName=""))
    yield Case("short", signing_request(expirationSeconds=60))
    approved = {
        "type": "Approved",
        "status": "True",
        "reason": "x",
        "message": "",
        "lastUpdateTime": "2026-01-01T00:00:00Z",
    }
    approved["lastTransitionTime"] = approved["lastUpdateTime"]
    denied = {**approved, "type": "Denied"}
    yield Case("approval", signing_request(), {"status": {"conditions": [approved]}}, "approval")
    yield Case("approval by status", signing_request(), {"status": {"conditions": [approved]}}, "status")
    yield Case("both", signing_request(), {"status": {"conditions": [approved, denied]}}, "approval")
    yield Case("not true", signing_request(), {"status": {"conditions": [{**approved, "status": "False"}]}}, "approval")
    yield Case("a certificate of rubbish", signing_request(), {"status": {"certificate": "AA=="}}, "status")
    yield Case("spec changed", signing_request(), {"spec": {"usages": ["server auth"]}})
