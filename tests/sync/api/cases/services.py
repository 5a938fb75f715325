"""metadata, by config maps, and services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.sync.api.cases.case import LONG, LONGER, Case, having, meta
from tests.sync.api.kinds import (
    config_map,
    service,
)

Json = dict[str, Any]


def metadata() -> Iterator[Case]:
    plain = config_map()
    yield Case("plain", plain)
    yield Case("upper case name", meta(plain, name="Settings"))
    yield Case("name with a slash", meta(plain, name="a/b"))
    yield Case("dots", meta(plain, name=".."))
    yield Case("long name", meta(plain, name=LONGER))
    yield Case("no name", having(plain, metadata={}))
    yield Case("name of a number", meta(plain, name=5))
    yield Case("labels", meta(plain, labels={"a": "b", "x.io/c": ""}))
    yield Case("label value with a space", meta(plain, labels={"a": "b c"}))
    yield Case("long label value", meta(plain, labels={"a": LONG}))
    yield Case("label key with a bad prefix", meta(plain, labels={"A_B/c": "d"}))
    yield Case("label key without a name", meta(plain, labels={"a.b/": "d"}))
    yield Case("label key with two slashes", meta(plain, labels={"a/b/c": "d"}))
    yield Case("label value of a number", meta(plain, labels={"a": 1}))
    yield Case("labels as a list", meta(plain, labels=["a"]))
    yield Case("annotations", meta(plain, annotations={"A.io/Key": "any thing\n"}))
    yield Case("annotation key with a space", meta(plain, annotations={"a b": ""}))
    yield Case("large annotations", meta(plain, annotations={"a": "x" * 262_144}))
    yield Case("finalizer", meta(plain, finalizers=["example.com/done"]))
    yield Case("bad finalizer", meta(plain, finalizers=["done it"]))
    yield Case("both finalizers", meta(plain, finalizers=["orphan", "foregroundDeletion"]))
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}
    yield Case("owner", meta(plain, ownerReferences=[owner]))
    yield Case("owner without uid", meta(plain, ownerReferences=[{**owner, "uid": ""}]))
    yield Case("owner without kind and version", meta(plain, ownerReferences=[{"name": "p", "uid": "1"}]))
    yield Case("owner is an event", meta(plain, ownerReferences=[{**owner, "kind": "Event"}]))
    two = [{**owner, "controller": True}, {**owner, "name": "q", "uid": "2", "controller": True}]
    yield Case("two controllers", meta(plain, ownerReferences=two))
    yield Case("unknown field of metadata", meta(plain, colour="red"))
    yield Case("unknown field", having(plain, spec={}))
    yield Case("nulls", having(meta(plain, labels=None), data=None))
    yield Case("uid changed", plain, {"metadata": {"uid": "other"}})
    yield Case("label added", plain, {"metadata": {"labels": {"a": "b"}}})
    yield Case("bad label added", plain, {"metadata": {"labels": {"a": "-"}}})


def services() -> Iterator[Case]:
    yield Case("plain", service())
    yield Case("name of a number", service("1web"))
    yield Case("name with a dot", service("web.shop"))
    yield Case("no ports", service(ports=[]))
    yield Case("port 0", service(ports=[{"port": 0}]))
    yield Case("port 65536", service(ports=[{"port": 65536}]))
    yield Case("port as text", service(ports=[{"port": "http"}]))
    yield Case("port beyond int32", service(ports=[{"port": 2**31}]))
    yield Case("port with a fraction", service(ports=[{"port": 1.5}]))
    yield Case("ports as an object", service(ports={}))
    yield Case("spec as text", having(service(), spec="x"))
    yield Case("protocol", service(ports=[{"port": 80, "protocol": "UDP"}]))
    yield Case("bad protocol", service(ports=[{"port": 80, "protocol": "HTTP"}]))
    yield Case("named target", service(ports=[{"port": 80, "targetPort": "http"}]))
    yield Case("bad named target", service(ports=[{"port": 80, "targetPort": "an-awfully-long-name--"}]))
    yield Case("target 70000", service(ports=[{"port": 80, "targetPort": 70000}]))
    yield Case("target as a list", service(ports=[{"port": 80, "targetPort": []}]))
    yield Case("two without names", service(ports=[{"port": 80}, {"port": 81}]))
    two = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
    yield Case("two", service(ports=two))
    yield Case("two of one name", service(ports=[{"name": "a", "port": 80}, {"name": "a", "port": 81}]))
    yield Case("two of one port", service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]))
    yield Case("port name in upper case", service(ports=[{"name": "HTTP", "port": 80}]))
    yield Case("appProtocol", service(ports=[{"port": 80, "appProtocol": "kubernetes.io/h2c"}]))
    yield Case("bad appProtocol", service(ports=[{"port": 80, "appProtocol": "a b"}]))
    yield Case("no selector", service(selector=None))
    yield Case("bad selector", service(selector={"a b": "c"}))
    yield Case("selector of a number", service(selector={"a": 1}))
    yield Case("headless", service(clusterIP="None"))
    yield Case("headless without ports", service(clusterIP="None", ports=[]))
    yield Case("headless without selector", service(clusterIP="None", selector={}))
    yield Case("headless node port", service(clusterIP="None", type="NodePort"))
    yield Case("a cluster IP", service(clusterIP="10.96.3.4"))
    yield Case("no address", service(clusterIP="ten"))
    yield Case("two addresses of one family", service(clusterIPs=["10.96.3.4", "10.96.3.5"], clusterIP="10.96.3.4"))
    yield Case("clusterIPs is another", service(clusterIPs=["10.96.3.5"], clusterIP="10.96.3.4"))
    yield Case("clusterIPs alone", service(clusterIPs=["10.96.3.5"]))
    yield Case("family unknown", service(ipFamilies=["IPv5"]))
    yield Case("family twice", service(ipFamilies=["IPv4", "IPv4"]))
    yield Case("family policy unknown", service(ipFamilyPolicy="Dual"))
    yield Case("type unknown", service(type="Internal"))
    yield Case("node port", service(type="NodePort"))
    yield Case("node port of a cluster IP", service(ports=[{"port": 80, "nodePort": 30080}]))
    yield Case(
        "same node port twice",
        service(
            type="NodePort",
            ports=[{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30080}],
        ),
    )
    yield Case("load balancer", service(type="LoadBalancer"))
    yield Case("load balancer with ranges", service(type="LoadBalancer", loadBalancerSourceRanges=["10.0.0.0/8", "x"]))
    yield Case("ranges of a cluster IP", service(loadBalancerSourceRanges=["10.0.0.0/8"]))
    yield Case("class of a cluster IP", service(loadBalancerClass="example.com/lb"))
    yield Case("class", service(type="LoadBalancer", loadBalancerClass="example.com/lb"))
    yield Case("allocateLoadBalancerNodePorts of a cluster IP", service(allocateLoadBalancerNodePorts=True))
    yield Case("external name", service(type="ExternalName", externalName="a.example.com", selector=None, ports=[]))
    yield Case("external name missing", service(type="ExternalName"))
    yield Case("external name bad", service(type="ExternalName", externalName="a_b"))
    yield Case("external name with an address", service(type="ExternalName", externalName="a.b", clusterIP="10.96.3.4"))
    yield Case("external IPs", service(externalIPs=["203.0.113.1"]))
    yield Case("external IPs bad", service(externalIPs=["127.0.0.1", "x", "169.254.1.1"]))
    yield Case("affinity", service(sessionAffinity="ClientIP"))
    yield Case(
        "affinity seconds",
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}}),
    )
    yield Case(
        "affinity too long",
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 86401}}),
    )
    yield Case("affinity unknown", service(sessionAffinity="Cookie"))
    yield Case("internal policy", service(internalTrafficPolicy="Local"))
    yield Case("internal policy unknown", service(internalTrafficPolicy="Near"))
    yield Case("external policy of a cluster IP", service(externalTrafficPolicy="Local"))
    yield Case("external policy", service(type="NodePort", externalTrafficPolicy="Local"))
    yield Case("external policy unknown", service(type="NodePort", externalTrafficPolicy="Near"))
    yield Case("distribution", service(trafficDistribution="PreferClose"))
    yield Case("distribution unknown", service(trafficDistribution="Near"))
    yield Case("unknown field in a list", service(ports=[{"port": 80, "color": 1}]))
    yield Case(
        "status is not for clients", having(service(), status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}})
    )
    yield Case(
        "annotations of topology",
        meta(
            service(),
            annotations={
                "service.kubernetes.io/topology-aware-hints": "auto",
                "service.kubernetes.io/topology-mode": "disabled",
            },
        ),
    )
    yield Case("same", service(), {})
    yield Case("another port", service(), {"spec": {"ports": [{"port": 81}]}})
    yield Case(
        "another address",
        service(clusterIP="10.96.3.6"),
        {"spec": {"clusterIP": "10.96.3.7", "clusterIPs": ["10.96.3.7"]}},
    )
    yield Case("address taken away", service(), {"spec": {"clusterIP": None, "clusterIPs": None}})
    yield Case("to external name", service(), {"spec": {"type": "ExternalName", "externalName": "a.b"}})
    yield Case("to headless", service(), {"spec": {"clusterIP": "None", "clusterIPs": ["None"]}})
    yield Case("to node port", service(), {"spec": {"type": "NodePort"}})
    yield Case("from node port", service(type="NodePort"), {"spec": {"type": "ClusterIP"}})
    yield Case(
        "status of a cluster IP",
        service(),
        {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}},
        "status",
    )
    yield Case(
        "status",
        service(type="LoadBalancer"),
        {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}},
        "status",
    )
    yield Case(
        "bad status", service(type="LoadBalancer"), {"status": {"loadBalancer": {"ingress": [{"ip": "x"}]}}}, "status"
    )
    yield Case("spec by status", service(), {"spec": {"selector": {"a": "b"}}}, "status")
