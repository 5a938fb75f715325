"""Each line of the table of rules, by HTTPS: the node gets by, another node and a stranger are told who may."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from sync.api.rules import ANY_NODE, CONFIGS, RULES, Rule
from tests.sync.api.apis import JSON, Api
from tests.sync.api.test_access import Node

MESH = {"meshnodes": ("edgemesh.kubeedge.io", "v1alpha1", "MeshNode", "Cluster")}
RULES_OF_TRAFFIC = {"destinationrules": ("networking.istio.io", "v1beta1", "DestinationRule", "Namespaced")}
CUSTOM = {**MESH, **RULES_OF_TRAFFIC}
CLUSTER = ("nodes", "namespaces", "meshnodes")
METHODS = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "patch": "PATCH"}
METHODS["delete"] = "DELETE"
CASES = [(rule, verb) for rule in RULES for verb in rule.verbs]


@pytest.fixture(scope="module")
def mesh(embedded: Api) -> Api:
    """The API with the mesh's own kinds."""
    for plural, (group, version, kind, scope) in CUSTOM.items():
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        served = {"name": version, "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}}
        names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": scope, "names": names, "versions": [served]},
        }
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        assert embedded.request("POST", path, body).code in (201, 409)
    embedded.request("POST", "/api/v1/namespaces", {"metadata": {"name": "edgemesh-system"}})
    return embedded


@contextlib.contextmanager
def named(api: Api, name: str) -> Iterator[Node]:
    node = Node(api, name)
    with contextlib.closing(node.connection):
        yield node


def request(rule: Rule, verb: str, node: str) -> tuple[str, str, dict[str, Any] | None, str]:
    """What the rule is about, asked for by its verb, for the objects of `node`: method, path, body and its type."""
    plural, _, sub = rule.resource.partition("/")
    version = CUSTOM[plural][1] if plural in CUSTOM else "v1"
    root = f"/apis/{rule.group}/{version}" if rule.group else f"/api/{version}"
    namespace = "" if plural in CLUSTER else f"/namespaces/{rule.namespaces[0] if rule.namespaces else 'default'}"
    path = f"{root}{namespace}/{plural}"
    name = CONFIGS[0] if plural == "configmaps" else node
    chosen = {"pods": f"spec.nodeName%3D{node}", "configmaps": f"metadata.name%3D{name}"}
    query = [f"fieldSelector={chosen[plural]}"] if plural in chosen and verb in ("list", "watch") else []
    if verb == "watch":
        query += ["watch=1", "resourceVersion=1", "timeoutSeconds=1"]
    if verb not in ("list", "watch", "create"):
        path += f"/{name}" + (f"/{sub}" if sub else "")
    body = None
    if verb in ("create", "update", "patch"):
        query.append("dryRun=All")
        body = {"metadata": {"name": node}}
        if plural == "events":
            about = {"kind": "Node", "name": node}
            body |= {"regarding": about} if rule.group else {"involvedObject": about}
    kind = "application/merge-patch+json" if verb == "patch" else JSON
    return METHODS[verb], path + (f"?{'&'.join(query)}" if query else ""), body, kind


@pytest.mark.parametrize(("rule", "verb"), CASES, ids=[f"{verb} {rule.resource}.{rule.group}" for rule, verb in CASES])
def test_each_rule(mesh: Api, rule: Rule, verb: str) -> None:
    method, path, body, kind = request(rule, verb, "r1")
    mesh.request("POST", "/api/v1/nodes", {"metadata": {"name": "r1"}})
    pod = {"metadata": {"name": "r1"}, "spec": {"nodeName": "r1", "containers": [{"name": "c", "image": "i"}]}}
    mesh.request("POST", "/api/v1/namespaces/default/pods", pod)
    about = {"involvedObject": {"kind": "Node", "name": "r1"}, "reason": "R", "type": "Normal"}
    mesh.request("POST", "/api/v1/namespaces/default/events", {"metadata": {"name": "r1"}, **about})
    with named(mesh, "r1") as own:
        reply = mesh.request(method, path, body, {"Content-Type": kind}, own.connection)
        assert reply.code not in (401, 403), reply
        assert reply.code < 500, reply
    refusal = f"only system:masters and {rule.who}"
    with contextlib.closing(mesh.connect(mesh.as_user("jane", "dev"))) as stranger:
        reply = mesh.request(method, path, body, {"Content-Type": kind}, stranger)
        assert (reply.code, reply.reason) == (403, "Forbidden")
        assert refusal in reply.message
    if not rule.who.startswith(ANY_NODE):
        with named(mesh, "r2") as other:
            reply = mesh.request(method, path, body, {"Content-Type": kind}, other.connection)
            assert (reply.code, reply.reason) == (403, "Forbidden")
            assert refusal in reply.message


def test_what_no_rule_names_is_the_administrators(mesh: Api) -> None:
    """Of every kind that is served, a node may do no more than the table says."""
    allowed = {(rule.group, rule.resource, verb) for rule in RULES for verb in rule.verbs}
    own_reviews = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")
    wanted = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    asked = 0
    with named(mesh, "r1") as node:
        for root in ("/api", "/apis"):
            for group in mesh.get(root, headers={"Accept": wanted}).object["items"]:
                name = group["metadata"].get("name", "")
                for version in group["versions"]:
                    base = f"{root}/{name}/{version['version']}" if name else f"{root}/{version['version']}"
                    for resource in version["resources"]:
                        plural = resource["resource"]
                        space = "/namespaces/default" if resource["scope"] == "Namespaced" else ""
                        for verb in ("list", "get", "create", "delete", "update"):
                            if (name, plural, verb) in allowed or plural in own_reviews:
                                continue
                            path = f"{base}{space}/{plural}" + ("" if verb in ("list", "create") else "/x")
                            body = {"metadata": {"name": "x"}} if verb in ("create", "update") else None
                            reply = node(METHODS[verb], path, body)
                            assert reply.code in (403, 405), (verb, path, reply)
                            assert reply.code == 405 or "only system:masters" in reply.message
                            asked += 1
    assert asked > 50


def test_nobody_is_impersonated(mesh: Api) -> None:
    reply = mesh.get("/api/v1/nodes", headers={"Impersonate-User": "somebody"})
    assert (reply.code, reply.reason) == (403, "Forbidden")
    assert "nobody is impersonated" in reply.message
