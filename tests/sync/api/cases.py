"""Objects, good and bad: what this API and Kubernetes' own must say the same of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.sync.api.kinds import (
    config_map,
    definition,
    endpoint_slice,
    event,
    lease,
    merged,
    namespace,
    new_event,
    node,
    pod,
    secret,
    service,
    service_account,
    shirt,
    signing_request,
)

Json = dict[str, Any]


class Case(NamedTuple):
    """An object to make; with `change` (a merge patch) to be made as it is and then replaced by what it becomes."""

    name: str
    obj: Json
    change: Json | None = None
    subresource: str = ""


def _meta(obj: Json, **meta: Any) -> Json:
    found: Json = merged(obj, {"metadata": meta})
    return found


def _with(obj: Json, **fields: Any) -> Json:
    return {**obj, **fields}


LONG = "a" * 64
LONGER = "a" * 254


def metadata() -> Iterator[Case]:
    plain = config_map()
    yield Case("plain", plain)
    yield Case("upper case name", _meta(plain, name="Settings"))
    yield Case("name with a slash", _meta(plain, name="a/b"))
    yield Case("dots", _meta(plain, name=".."))
    yield Case("long name", _meta(plain, name=LONGER))
    yield Case("no name", _with(plain, metadata={}))
    yield Case("name of a number", _meta(plain, name=5))
    yield Case("labels", _meta(plain, labels={"a": "b", "x.io/c": ""}))
    yield Case("label value with a space", _meta(plain, labels={"a": "b c"}))
    yield Case("long label value", _meta(plain, labels={"a": LONG}))
    yield Case("label key with a bad prefix", _meta(plain, labels={"A_B/c": "d"}))
    yield Case("label key without a name", _meta(plain, labels={"a.b/": "d"}))
    yield Case("label key with two slashes", _meta(plain, labels={"a/b/c": "d"}))
    yield Case("label value of a number", _meta(plain, labels={"a": 1}))
    yield Case("labels as a list", _meta(plain, labels=["a"]))
    yield Case("annotations", _meta(plain, annotations={"A.io/Key": "any thing\n"}))
    yield Case("annotation key with a space", _meta(plain, annotations={"a b": ""}))
    yield Case("large annotations", _meta(plain, annotations={"a": "x" * 262_144}))
    yield Case("finalizer", _meta(plain, finalizers=["example.com/done"]))
    yield Case("bad finalizer", _meta(plain, finalizers=["done it"]))
    yield Case("both finalizers", _meta(plain, finalizers=["orphan", "foregroundDeletion"]))
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"}
    yield Case("owner", _meta(plain, ownerReferences=[owner]))
    yield Case("owner without uid", _meta(plain, ownerReferences=[{**owner, "uid": ""}]))
    yield Case("owner without kind and version", _meta(plain, ownerReferences=[{"name": "p", "uid": "1"}]))
    yield Case("owner is an event", _meta(plain, ownerReferences=[{**owner, "kind": "Event"}]))
    two = [{**owner, "controller": True}, {**owner, "name": "q", "uid": "2", "controller": True}]
    yield Case("two controllers", _meta(plain, ownerReferences=two))
    yield Case("unknown field of metadata", _meta(plain, colour="red"))
    yield Case("unknown field", _with(plain, spec={}))
    yield Case("nulls", _with(_meta(plain, labels=None), data=None))
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
    yield Case("spec as text", _with(service(), spec="x"))
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
    yield Case("status", _with(service(), status={"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}))
    yield Case(
        "annotations of topology",
        _meta(
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


def pods() -> Iterator[Case]:
    yield Case("plain", pod())
    yield Case("no containers", pod(containers=[]))
    yield Case("no name", pod(containers=[{"image": "a"}]))
    yield Case("no image", pod(containers=[{"name": "a"}]))
    yield Case("latest", pod(container={"image": "web"}))
    yield Case("registry with a port", pod(container={"image": "example.com:5000/web"}))
    yield Case("by digest", pod(container={"image": "web@sha256:" + "0" * 64}))
    yield Case("bad container name", pod(container={"name": "Main"}))
    yield Case("one name twice", pod(containers=[{"name": "a", "image": "a"}, {"name": "a", "image": "a"}]))
    yield Case("ports", pod(container={"ports": [{"containerPort": 80, "name": "http"}]}))
    yield Case("bad ports", pod(container={"ports": [{"containerPort": 0}, {"containerPort": 70000, "protocol": "X"}]}))
    yield Case("bad port name", pod(container={"ports": [{"containerPort": 80, "name": "HTTP"}]}))
    yield Case(
        "host port twice",
        pod(container={"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]}),
    )
    yield Case("host network", pod(hostNetwork=True, container={"ports": [{"containerPort": 80}]}))
    yield Case(
        "host network with another port",
        pod(hostNetwork=True, container={"ports": [{"containerPort": 80, "hostPort": 81}]}),
    )
    yield Case(
        "env",
        pod(
            container={
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ]
            }
        ),
    )
    yield Case("env without a name", pod(container={"env": [{"value": "1"}]}))
    yield Case("env with a bad name", pod(container={"env": [{"name": "a=b"}]}))
    yield Case("env value of a number", pod(container={"env": [{"name": "A", "value": 1}]}))
    yield Case("resources", pod(container={"resources": {"limits": {"cpu": "1500m", "memory": "0.5Gi"}}}))
    yield Case("guaranteed", pod(container={"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}))
    yield Case(
        "requests above limits", pod(container={"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}})
    )
    yield Case("negative resources", pod(container={"resources": {"limits": {"cpu": "-1"}}}))
    yield Case("bad quantity", pod(container={"resources": {"limits": {"cpu": "one"}}}))
    yield Case("probe", pod(container={"readinessProbe": {"httpGet": {"port": 80}}}))
    yield Case("probe without a way", pod(container={"livenessProbe": {"periodSeconds": 5}}))
    yield Case("probe with a bad port", pod(container={"livenessProbe": {"tcpSocket": {"port": 0}}}))
    yield Case(
        "liveness threshold", pod(container={"livenessProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}})
    )
    yield Case(
        "volumes",
        pod(
            volumes=[
                {"name": "a", "configMap": {"name": "x"}},
                {"name": "b"},
                {"name": "c", "hostPath": {"path": "/x"}},
            ],
            container={"volumeMounts": [{"name": "a", "mountPath": "/a"}]},
        ),
    )
    yield Case("mount of nothing", pod(container={"volumeMounts": [{"name": "a", "mountPath": "/a"}]}))
    yield Case("volume twice", pod(volumes=[{"name": "a"}, {"name": "a"}]))
    yield Case("volume of two kinds", pod(volumes=[{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}]))
    yield Case("restart policy", pod(restartPolicy="Never"))
    yield Case("restart policy unknown", pod(restartPolicy="Maybe"))
    yield Case("dns policy unknown", pod(dnsPolicy="Mine"))
    yield Case("dns none", pod(dnsPolicy="None"))
    yield Case("pull policy unknown", pod(container={"imagePullPolicy": "Often"}))
    yield Case("node", pod(nodeName="n1"))
    yield Case("bad node", pod(nodeName="N_1"))
    yield Case("bad host name", pod(hostname="a.b", subdomain="A"))
    yield Case(
        "tolerations",
        pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
    )
    yield Case(
        "bad tolerations",
        pod(
            tolerations=[
                {"operator": "Equal"},
                {"key": "a", "operator": "In"},
                {"key": "a", "effect": "Never", "tolerationSeconds": 1},
            ]
        ),
    )
    yield Case("bad node selector", pod(nodeSelector={"a": "b c"}))
    yield Case("deadline 0", pod(activeDeadlineSeconds=0))
    yield Case("init container", pod(initContainers=[{"name": "first", "image": "a:1"}]))
    yield Case("init container of the same name", pod(initContainers=[{"name": "main", "image": "a:1"}]))
    yield Case("ephemeral container", pod(ephemeralContainers=[{"name": "e", "image": "a:1"}]))
    yield Case("service account", pod(serviceAccountName="x"))
    yield Case("status is not for clients", _with(pod(), status={"phase": "Running"}))
    yield Case("image changed", pod(), {"spec": {"containers": [{"name": "main", "image": "web:2"}]}})
    yield Case("host name changed", pod(), {"spec": {"hostname": "x"}})
    yield Case("node changed", pod(), {"spec": {"nodeName": "n1"}})
    yield Case(
        "container added", pod(), {"spec": {"containers": [{"name": "a", "image": "a"}, {"name": "b", "image": "b"}]}}
    )
    yield Case("deadline set", pod(), {"spec": {"activeDeadlineSeconds": 5}})
    yield Case("deadline raised", pod(activeDeadlineSeconds=5), {"spec": {"activeDeadlineSeconds": 6}})
    yield Case("deadline taken away", pod(activeDeadlineSeconds=5), {"spec": {"activeDeadlineSeconds": None}})
    yield Case("toleration added", pod(), {"spec": {"tolerations": [{"operator": "Exists"}]}})
    yield Case("toleration removed", pod(tolerations=[{"operator": "Exists"}]), {"spec": {"tolerations": []}})
    yield Case(
        "status written",
        pod(),
        {"status": {"phase": "Running", "podIPs": [{"ip": "10.1.2.3"}], "podIP": "10.1.2.3"}},
        "status",
    )
    yield Case("bad address", pod(), {"status": {"podIPs": [{"ip": "ten"}]}}, "status")
    yield Case("two of one family", pod(), {"status": {"podIPs": [{"ip": "10.1.2.3"}, {"ip": "10.1.2.4"}]}}, "status")
    yield Case("spec by status", pod(), {"spec": {"hostname": "x"}}, "status")
    yield Case("condition", pod(), {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, "status")


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
    yield Case("phase", namespace("shop"), {"status": {"phase": "Terminating"}}, "status")
    yield Case("label", namespace("shop"), {"metadata": {"labels": {"a": "b"}}})
    yield Case("finalizers by update", namespace("shop"), {"spec": {"finalizers": []}})


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


def definitions() -> Iterator[Case]:
    schema: Json = {"type": "object"}

    def field(**node: Any) -> Json:
        return definition(schema={"type": "object", "properties": {"x": node}})

    yield Case("plain", definition())
    yield Case("name", definition("other.example.com"))
    yield Case("group without a dot", definition("shirts.example", group="example"))
    yield Case("no group", definition(group=""))
    yield Case("scope", definition(scope="Global"))
    yield Case("no versions", definition(versions=[]))
    yield Case("no schema", definition(version={"schema": None}))
    yield Case("not stored", definition(version={"storage": False}))
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    yield Case("two stored", definition(versions=[one, {**one, "name": "v2"}]))
    yield Case("two of one name", definition(versions=[one, {**one, "storage": False}]))
    yield Case("two", definition(versions=[one, {**one, "name": "v2", "storage": False}]))
    yield Case("version name", definition(version={"name": "V1"}))
    yield Case("names", definition(names={"plural": "Shirts", "kind": "shirt!", "shortNames": ["S"]}))
    yield Case("no kind", definition(names={"plural": "shirts"}))
    yield Case("kind and list", definition(names={"plural": "shirts", "kind": "Shirt", "listKind": "Shirt"}))
    yield Case("preserve", definition(preserveUnknownFields=True))
    column = {"name": "Color", "type": "string", "jsonPath": ".spec.color"}
    yield Case("column", definition(version={"additionalPrinterColumns": [column]}))
    yield Case("column type", definition(version={"additionalPrinterColumns": [{**column, "type": "text"}]}))
    yield Case("column path", definition(version={"additionalPrinterColumns": [{**column, "jsonPath": "spec"}]}))
    yield Case("root type", definition(schema={"type": "string"}))
    yield Case("no root type", definition(schema={"properties": {"x": {"type": "string"}}}))
    yield Case("no field type", field(description="x"))
    yield Case("type unknown", field(type="text"))
    yield Case("array without items", field(type="array"))
    yield Case(
        "both kinds of properties",
        field(type="object", properties={"a": {"type": "string"}}, additionalProperties={"type": "string"}),
    )
    yield Case("bad pattern", field(type="string", pattern="("))
    yield Case("unique items", field(type="array", uniqueItems=True, items={"type": "string"}))
    yield Case("list type unknown", field(type="array", items={"type": "string"}, **{"x-kubernetes-list-type": "bag"}))
    yield Case("map without keys", field(type="array", items={"type": "object"}, **{"x-kubernetes-list-type": "map"}))
    yield Case("default", field(type="integer", default=5))
    yield Case("wrong default", field(type="integer", default="five"))
    yield Case("int or string", field(**{"x-kubernetes-int-or-string": True}))
    yield Case("type inside anyOf", field(type="object", anyOf=[{"type": "object"}]))
    yield Case("metadata", definition(schema={"type": "object", "properties": {"metadata": {"type": "string"}}}))
    yield Case("unknown field", field(type="string", colour="red"))
    yield Case("webhook", definition(conversion={"strategy": "Webhook"}))
    yield Case("deprecation warning", definition(version={"deprecationWarning": "x"}))


def shirts() -> Iterator[Case]:
    yield Case("plain", shirt(color="red"))
    yield Case("no spec", {"apiVersion": "example.com/v1", "kind": "Shirt", "metadata": {"name": "s1"}})
    yield Case("no color", shirt())
    yield Case("color", shirt(color="green"))
    yield Case("type", shirt(color="red", size="large"))
    yield Case("small", shirt(color="red", size=0))
    yield Case("large", shirt(color="red", size=61))
    yield Case("long label", shirt(color="red", label="abcdefg"))
    yield Case("short label", shirt(color="red", label="a"))
    yield Case("pattern", shirt(color="red", label="A1"))
    yield Case("weight 0", shirt(color="red", weight=0))
    yield Case("weight 0.3", shirt(color="red", weight=0.3))
    yield Case("null", shirt(color="red", note=None))
    yield Case("null where it may not be", shirt(color=None))
    yield Case("null for a default", shirt(color="red", size=None))
    yield Case("time", shirt(color="red", since="yesterday"))
    yield Case("width", shirt(color="red", width="5%"))
    yield Case("width wrong", shirt(color="red", width=[]))
    yield Case("tags twice", shirt(color="red", tags=["a", "a"]))
    yield Case("tags many", shirt(color="red", tags=["a", "b", "c"]))
    yield Case("parts", shirt(color="red", parts=[{"name": "sleeve"}, {"name": "collar", "count": 2}]))
    yield Case("parts twice", shirt(color="red", parts=[{"name": "sleeve"}, {"name": "sleeve"}]))
    yield Case("part without a name", shirt(color="red", parts=[{"count": 1}]))
    yield Case("free", shirt(color="red", free={"any": {"thing": [1, None]}}))
    yield Case("sizes", shirt(color="red", sizes={"a": 1, "b": "2"}))
    yield Case("sizes many", shirt(color="red", sizes={"a": 1, "b": 2, "c": 3}))
    yield Case("no way", shirt(color="red", way={}))
    yield Case("two ways", shirt(color="red", way={"a": "x", "b": "y"}))
    yield Case("unknown", shirt(color="red", fabric="wool"))
    yield Case("unknown in a list", shirt(color="red", parts=[{"name": "a", "x": 1}]))
    yield Case("name", shirt("S1", color="red"))
    yield Case("status is dropped", _with(shirt(color="red"), status={"worn": True}))
    yield Case("status", shirt(color="red"), {"status": {"worn": True}, "spec": {"color": "blue"}}, "status")
    yield Case("bad status", shirt(color="red"), {"status": {"worn": "yes"}}, "status")
    yield Case("changed", shirt(color="red"), {"spec": {"color": "blue"}})
    yield Case("metadata changed", shirt(color="red"), {"metadata": {"labels": {"a": "b"}}})


GROUPS = {
    "metadata": metadata,
    "services": services,
    "pods": pods,
    "nodes": nodes,
    "namespaces": namespaces,
    "config": config,
    "slices": slices,
    "others": others,
    "definitions": definitions,
    "shirts": shirts,
}
