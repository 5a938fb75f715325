"""Who may what: certificates, tokens, nodes, and what each refusal says."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sync.api.access import Authenticator, TokenFileError
from tests.sync.api.apis import Api, Reply, running_embedded

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Node:
    """Requests of a node, by its certificate."""

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.connection = api.connect(api.as_user(f"edgemesh:node:{name}", "edgemesh:nodes"))

    def __call__(self, method: str, path: str, body: Any = None, kind: str = "") -> Reply:
        headers = {"Content-Type": f"application/{kind}"} if kind else {}
        return self.api.request(method, path, body, headers, self.connection)


@pytest.fixture
def node(embedded: Api) -> Iterator[Node]:
    """The node a1, which is registered."""
    found = Node(embedded, "a1")
    with contextlib.closing(found.connection):
        embedded.request("POST", "/api/v1/nodes", {"metadata": {"name": "a1"}})
        yield found


@pytest.mark.parametrize("path", ["/api/v1/nodes", "/api", "/apis", "/openapi/v3", "/", "/api/v1/nodes?watch=1"])
def test_the_anonymous_get_nothing(embedded: Api, path: str) -> None:
    with contextlib.closing(embedded.connect(ssl.create_default_context(cafile=str(embedded.ca)))) as connection:
        reply = embedded.get(path, connection=connection)
        assert (reply.code, reply.reason) == (401, "Unauthorized")
        for health in ("/livez", "/readyz", "/version"):
            assert embedded.get(health, connection=connection).code == 200


def test_a_certificate_of_another_authority_is_no_one(embedded: Api) -> None:
    import trustme

    from tests.sync.api.apis import client_context

    context = client_context(trustme.CA(), embedded.ca, "admin", "system:masters")
    with contextlib.closing(embedded.connect(context)) as connection, pytest.raises(OSError):  # noqa: PT011
        embedded.get("/api/v1/nodes", connection=connection)


def test_a_user_without_a_rule_may_nothing_and_is_told_who_may(embedded: Api) -> None:
    with contextlib.closing(embedded.connect(embedded.as_user("jane", "dev"))) as connection:
        reply = embedded.get("/api/v1/namespaces/default/pods", connection=connection)
        assert (reply.code, reply.reason) == (403, "Forbidden")
        assert reply.message == (
            'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default": '
            "only system:masters and the node that they are bound to (a list by fieldSelector spec.nodeName) may"
        )
        assert embedded.get("/apis", connection=connection).code == 200  # discovery is everybody's
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = embedded.request("POST", path, review, connection=connection).object
        assert answer["status"]["allowed"] is False
        assert answer["status"]["reason"].startswith('User "jane" cannot get resource "pods"')
        who = embedded.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, connection=connection)
        assert who.object["status"]["userInfo"]["groups"] == ["dev", "system:authenticated"]
        others = embedded.request(
            "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review, connection=connection
        )
        assert others.code == 403


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/services", 200),
        ("/apis/discovery.k8s.io/v1/endpointslices", 200),
        ("/api/v1/nodes", 200),
        ("/api/v1/namespaces", 200),
        ("/api/v1/namespaces/edgemesh-system/configmaps?fieldSelector=metadata.name%3Dedgemesh-revoked", 200),
        ("/api/v1/namespaces/edgemesh-system/configmaps/edgemesh", 404),
        ("/api/v1/namespaces/edgemesh-system/configmaps/edgemesh-node-a2", 403),
        ("/api/v1/namespaces/edgemesh-system/configmaps?fieldSelector=metadata.name!%3Dedgemesh", 403),
        ("/api/v1/namespaces/edgemesh-system/configmaps", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Da1", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Da1,status.phase%3DRunning", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Da2", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName!%3Da1", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Da11", 403),
        ("/api/v1/pods", 403),
        ("/api/v1/secrets", 403),
        ("/api/v1/namespaces/default/configmaps", 403),
        ("/apis/coordination.k8s.io/v1/leases", 403),
        ("/metrics", 403),
    ],
)
def test_what_a_node_reads(node: Node, path: str, code: int) -> None:
    assert node("GET", path).code == code


def test_a_node_writes_its_own(node: Node) -> None:
    assert node("POST", LEASES, {"metadata": {"name": "a1"}, "spec": {"holderIdentity": "a1"}}).code in (201, 409)
    assert node("PATCH", f"{LEASES}/a1", {"spec": {"holderIdentity": "b"}}, "merge-patch+json").code == 200
    other = node("POST", LEASES, {"metadata": {"name": "a2"}})
    assert (other.code, "only system:masters and the node itself may" in other.message) == (403, True)
    assert node("PUT", f"{LEASES}/a2", {"metadata": {"name": "a2"}}).code == 403
    here = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    assert node("POST", here, {"metadata": {"name": "a1"}}).code == 403
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert node("PATCH", "/api/v1/nodes/a1/status", ready, "strategic-merge-patch+json").code == 200
    assert node("PATCH", "/api/v1/nodes/a2/status", ready, "strategic-merge-patch+json").code == 403
    assert node("PATCH", "/api/v1/nodes/a1", {"spec": {"podCIDR": "10.244.9.0/24"}}, "merge-patch+json").code == 403
    assert node("DELETE", "/api/v1/nodes/a1").code == 403


def test_a_node_can_not_say_its_ranges_or_labels(node: Node) -> None:
    labels = {"metadata": {"labels": {"topology.kubernetes.io/zone": "other"}}}
    reply = node("PATCH", "/api/v1/nodes/a1/status", labels, "merge-patch+json")
    told = node("GET", "/api/v1/nodes/a1").object
    assert "topology.kubernetes.io/zone" not in told["metadata"].get("labels", {})
    assert reply.code in (200, 403)
    spec = {"spec": {"podCIDR": "10.244.9.0/24"}}
    node("PATCH", "/api/v1/nodes/a1/status", spec, "merge-patch+json")
    assert "podCIDR" not in node("GET", "/api/v1/nodes/a1").object.get("spec", {})
    new = Node(node.api, "fresh")
    with contextlib.closing(new.connection):
        assert new("POST", "/api/v1/nodes", {"metadata": {"name": "fresh"}, **spec}).code == 403
        stays = {"name": "fresh", "finalizers": ["example.com/stays"]}
        assert new("POST", "/api/v1/nodes", {"metadata": stays}).code == 403
        assert new("POST", "/api/v1/nodes", {"metadata": {"name": "fresh"}}).code == 201


def test_a_node_and_its_pods(embedded: Api, node: Node) -> None:
    path = f"/api/v1/namespaces/{embedded.namespace()}/pods"
    for name, where in (("mine", "a1"), ("other", "a2"), ("nowhere", "")):
        spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
        embedded.create(path, {"metadata": {"name": name}, "spec": {**spec, "nodeName": where} if where else spec})
    running = {"status": {"phase": "Running", "podIP": "10.244.1.5"}}
    codes = {"mine": 200, "other": 403, "nowhere": 403}
    for name, code in codes.items():
        assert node("GET", f"{path}/{name}").code == code
        assert node("PATCH", f"{path}/{name}/status", running, "strategic-merge-patch+json").code == code
    changed = {"metadata": {"labels": {"app": "shop"}}}
    node("PATCH", f"{path}/mine/status", changed, "merge-patch+json")
    assert "labels" not in embedded.get(f"{path}/mine").object["metadata"]  # it would be another service's endpoint
    assert node("PATCH", f"{path}/mine", changed, "merge-patch+json").code == 403
    for name, code in codes.items():
        assert node("DELETE", f"{path}/{name}?gracePeriodSeconds=0").code == code
    assert node("POST", f"{path}/nowhere/binding", {"target": {"name": "a1"}}).code == 403


def test_a_node_reports_on_itself_and_its_pods(embedded: Api, node: Node) -> None:
    namespace = embedded.namespace()
    pods, events = f"/api/v1/namespaces/{namespace}/pods", f"/api/v1/namespaces/{namespace}/events"
    spec = {"containers": [{"name": "c", "image": "i"}]}
    embedded.create(pods, {"metadata": {"name": "mine"}, "spec": {**spec, "nodeName": "a1"}})
    embedded.create(pods, {"metadata": {"name": "other"}, "spec": {**spec, "nodeName": "a2"}})

    def event(kind: str, name: str) -> int:
        about = {"kind": kind, "name": name, "namespace": namespace}
        body = {"metadata": {"generateName": "e-"}, "involvedObject": about, "reason": "R", "type": "Normal"}
        return node("POST", events, body).code

    assert [event("Pod", "mine"), event("Pod", "other"), event("Service", "mine")] == [201, 403, 403]
    about = {"kind": "Pod", "name": "mine", "namespace": namespace}
    assert node("POST", events, {"metadata": {"name": "e"}, "involvedObject": about, "reason": "R"}).code == 201
    assert node("PATCH", f"{events}/e", {"message": "m"}, "merge-patch+json").code == 200
    turned = {"involvedObject": {"name": "other"}}
    assert node("PATCH", f"{events}/e", turned, "merge-patch+json").code == 403
    made = node(
        "POST",
        "/api/v1/namespaces/default/events",
        {"metadata": {"generateName": "e-"}, "involvedObject": {"kind": "Node", "name": "a2"}, "reason": "R"},
    )
    assert made.code == 403


def test_an_event_of_the_newer_group_is_about_what_that_group_says(embedded: Api, node: Node) -> None:
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    body = {
        "metadata": {"generateName": "e-"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
        "action": "A",
        "reason": "R",
        "type": "Normal",
    }
    own, other = {"kind": "Node", "name": "a1"}, {"kind": "Node", "name": "a2"}
    made = node("POST", path, {**body, "regarding": own})
    assert made.code == 201
    turned = node(
        "PATCH", f"{path}/{made.object['metadata']['name']}", {"regarding": {"name": "a2"}}, "merge-patch+json"
    )
    assert turned.code in (403, 422)  # and of that group nothing said once may change
    older = f"/api/v1/namespaces/default/events/{made.object['metadata']['name']}"
    assert node("PATCH", older, {"involvedObject": {"name": "a2"}}, "merge-patch+json").code == 403
    assert node("PATCH", older, {"message": "m"}, "merge-patch+json").code == 200
    assert node("POST", path, {**body, "regarding": other}).code == 403
    assert node("POST", path, {**body, "regarding": other, "involvedObject": own}).code == 403


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"topology.kubernetes.io/zone": "other"}},
        {"finalizers": ["example.com/stays"]},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]},
    ],
)
def test_what_a_node_can_not_say_with_its_status(embedded: Api, node: Node, metadata: dict[str, Any]) -> None:
    """Whose endpoints are near, and when objects go."""
    before = embedded.get("/api/v1/nodes/a1").object
    (field,) = metadata
    reply = node("PATCH", "/api/v1/nodes/a1/status", {"metadata": metadata}, "merge-patch+json")
    assert (reply.code, f"cannot change metadata.{field} through status" in reply.message) == (403, True)
    assert embedded.get("/api/v1/nodes/a1").object == before


@pytest.mark.parametrize("spec", [{"podCIDRs": ["10.244.9.0/24"]}, {"taints": [{"key": "a", "effect": "NoSchedule"}]}])
def test_what_a_node_can_not_register_with(embedded: Api, spec: dict[str, Any]) -> None:
    new = Node(embedded, "registers")
    with contextlib.closing(new.connection):
        assert new("POST", "/api/v1/nodes", {"metadata": {"name": "registers"}, "spec": spec}).code == 403


def test_bearer_tokens(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text("# who,what\nsecret-1,ann,system:masters\nsecret-2,bob\n")
    with running_embedded(tmp_path / "api", "--tokens", str(tokens)) as api:
        with contextlib.closing(api.connect(ssl.create_default_context(cafile=str(api.ca)))) as connection:

            def code(token: str) -> int:
                headers = {"Authorization": f"Bearer {token}"}
                return api.get("/api/v1/nodes", headers=headers, connection=connection).code

            assert [code("secret-1"), code("secret-2"), code("other"), code("")] == [200, 403, 401, 401]
            tokens.write_text("secret-3,ann,system:masters\n")
            assert [code("secret-1"), code("secret-3")] == [401, 200]
        assert "secret-" not in (tmp_path / "api" / "api.log").read_text()


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [(0o644, "t,u", "chmod 600"), (0o600, "t", "line 1: has to be token,user,group"), (0o600, ",u", "line 1")],
)
def test_a_token_file_that_can_not_be_used(tmp_path: Path, mode: int, text: str, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(TokenFileError, match=said):
        Authenticator(path)


def test_a_revoked_certificate_is_no_one() -> None:
    subject = ((("organizationName", "edgemesh:nodes"),), (("commonName", "edgemesh:node:a1"),))
    certificate = {"subject": subject, "serialNumber": "0A"}
    authenticator = Authenticator()
    user = authenticator.certified(certificate)
    assert user is not None
    assert (user.node, user.groups) == ("a1", ("edgemesh:nodes", "system:authenticated"))
    authenticator.revoke(frozenset({10}))
    assert authenticator.certified(certificate) is None
    assert authenticator.certified({**certificate, "serialNumber": "0B"}) is not None
