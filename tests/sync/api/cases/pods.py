"""Pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.sync.api.cases.case import Case, having
from tests.sync.api.kinds import (
    pod,
)

Json = dict[str, Any]


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
    yield Case("status is not for clients", having(pod(), status={"phase": "Running"}))
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
