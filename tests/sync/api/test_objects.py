"""The verbs, as a client sees them; on both APIs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.sync.api.apis import Api
from tests.sync.api.test_deletion import until

CORE = "/api/v1/namespaces"
CONFIGMAP = {"apiVersion": "v1", "kind": "ConfigMap"}


def configmap(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def maps(api: Api) -> str:
    """The path of config maps in a namespace of one's own."""
    return f"{CORE}/{api.namespace()}/configmaps"


def test_an_object_is_created_once(api: Api) -> None:
    path = maps(api)
    made = api.create(path, configmap("a", k="v"))
    assert (made["kind"], made["apiVersion"], made["data"]) == ("ConfigMap", "v1", {"k": "v"})
    metadata = made["metadata"]
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) > 1
    assert metadata["managedFields"][0]["manager"] == "tests"
    again = api.request("POST", path, configmap("a"))
    assert (again.code, again.reason, again.message) == (409, "AlreadyExists", 'configmaps "a" already exists')
    assert api.get(f"{path}/a").object == made


def test_a_generated_name_has_five_letters_more(api: Api) -> None:
    path = maps(api)
    names = {api.create(path, {"metadata": {"generateName": "g-"}})["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("g-") and len(name) == 7 for name in names)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "message"),
    [
        (
            "POST",
            "{maps}",
            {"metadata": {"name": "a", "namespace": "elsewhere"}},
            400,
            "the namespace of the provided ",
        ),
        (
            "POST",
            "{maps}",
            {"metadata": {"name": "a", "resourceVersion": "3"}},
            (400, 500),
            "resourceVersion should not be set",
        ),
        ("POST", "{maps}", {"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "a"}}, 400, ""),
        ("POST", "{maps}", {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}, 400, ""),
        ("POST", "/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "a"}}, 404, 'namespaces "nowhere" not'),
        ("POST", "/api/v1/configmaps", {"metadata": {"name": "a"}}, 405, "the server does not allow this method on"),
        ("POST", "{maps}/a", {"metadata": {"name": "a"}}, 405, ""),
        ("PUT", "{maps}", {"metadata": {"name": "a"}}, 405, ""),
        ("PUT", "{maps}/b", {"metadata": {"name": "a"}}, 400, "the name of the object (a) does not match"),
        ("PUT", "{maps}/b", {"metadata": {"name": "b"}}, 404, 'configmaps "b" not found'),
        ("GET", "{maps}/b", None, 404, 'configmaps "b" not found'),
        ("DELETE", "{maps}/b", None, 404, 'configmaps "b" not found'),
        ("GET", "/api/v1/nothings", None, 404, "the server could not find the requested resource"),
        ("GET", "{maps}?limit=x", None, 400, ""),
        ("GET", "{maps}?resourceVersion=x", None, 400, ""),
        ("GET", "{maps}?resourceVersionMatch=Exact", None, 422, "ListOptions.meta.k8s.io"),
        ("GET", "{maps}?resourceVersionMatch=Near&resourceVersion=1", None, 422, "ListOptions.meta.k8s.io"),
        ("GET", "{maps}?sendInitialEvents=true", None, 422, "ListOptions.meta.k8s.io"),
        ("GET", "{maps}?continue=%21", None, 400, "continue key is not valid"),
        ("GET", "{maps}?labelSelector=a%3D%3D%3Db", None, 400, ""),
        ("GET", "{maps}?fieldSelector=data%3Dx", None, 400, ""),
        ("POST", "{maps}?dryRun=Some", {"metadata": {"name": "a"}}, 422, ""),
        ("POST", "{maps}?fieldValidation=Some", {"metadata": {"name": "a"}}, 422, ""),
        ("DELETE", "{maps}/b?propagationPolicy=Some", None, 422, "DeleteOptions.meta.k8s.io"),
        (
            "DELETE",
            "/api/v1/namespaces/default",
            None,
            403,
            'namespaces "default" is forbidden: this namespace may',
        ),
        ("DELETE", "/api/v1/namespaces", None, 405, ""),
        ("PATCH", "{maps}/b", {}, 415, ""),
    ],
)
def test_a_request_that_is_refused(api: Api, method: str, path: str, body: Any, code: Any, message: str) -> None:
    """Two codes: ours, and Kubernetes' own where that blames itself for bad input."""
    reply = api.request(method, path.format(maps=maps(api)), body)
    if isinstance(code, tuple):
        code = code[not api.embedded]
    assert (reply.code, reply.object["kind"], reply.object["status"]) == (code, "Status", "Failure")
    assert reply.message.startswith(message) or message in reply.message, reply.message


@pytest.mark.parametrize("accept", ["text/plain", "application/json;as=Table;v=v9;g=meta.k8s.io"])
def test_a_form_that_there_is_not(api: Api, accept: str) -> None:
    reply = api.get("/api/v1/nodes", headers={"Accept": accept})
    assert (reply.code, reply.reason) == (406, "NotAcceptable")


def test_protobuf_with_json_as_a_second_choice_gets_json(embedded: Api) -> None:
    reply = embedded.get("/api/v1/nodes", headers={"Accept": "application/vnd.kubernetes.protobuf,application/json"})
    assert (reply.code, reply.headers["Content-Type"]) == (200, "application/json")


def test_a_body_that_is_not_json(api: Api) -> None:
    path = maps(api)
    assert api.request("POST", path, b"{", {}).code == 400
    assert api.request("POST", path, b"x", {"Content-Type": "text/plain"}).code == 415
    yaml = b"metadata:\n  name: yes-1\ndata:\n  k: v\nkind: ConfigMap\napiVersion: v1\n"
    assert api.request("POST", path, yaml, {"Content-Type": "application/yaml"}).code == 201


def test_an_update_of_an_older_state_is_a_conflict(api: Api) -> None:
    path = maps(api)
    old = api.create(path, configmap("a", k="1"))
    new = api.request("PUT", f"{path}/a", {**old, "data": {"k": "2"}})
    assert new.code == 200
    reply = api.request("PUT", f"{path}/a", {**old, "data": {"k": "3"}})
    assert (reply.code, reply.reason) == (409, "Conflict")
    assert reply.message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert api.request("PUT", f"{path}/a", configmap("a", k="4")).code == 200  # without one: whatever there is


def test_a_write_that_changes_nothing_makes_no_revision(api: Api) -> None:
    path = maps(api)
    made = api.create(path, configmap("a", k="1"))
    again = api.request("PUT", f"{path}/a", made).object
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    patched = api.patch(f"{path}/a", {"data": {"k": "1"}}).object
    assert patched == made


def test_a_custom_update_needs_a_revision(api: Api) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace()}/leases"
    assert api.request("PUT", f"{path}/l", {"metadata": {"name": "l"}, "spec": {}}).code == 201  # leases are made so
    reply = api.request("PUT", f"{path}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "x"}})
    assert (reply.code, reply.reason) == (422, "Invalid")
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in reply.message.replace(
        "0x0", "0"
    )


def test_a_dry_run_leaves_nothing(api: Api) -> None:
    path = maps(api)
    assert api.request("POST", f"{path}?dryRun=All", configmap("a")).code == 201
    assert api.get(f"{path}/a").code == 404
    made = api.create(path, configmap("a", k="1"))
    changed = api.patch(f"{path}/a?dryRun=All", {"data": {"k": "2"}})
    assert changed.object["data"] == {"k": "2"}
    assert api.request("DELETE", f"{path}/a?dryRun=All").code == 200
    assert api.get(f"{path}/a").object == made


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("merge-patch+json", {"data": {"b": None, "c": "3"}}, {"a": "1", "c": "3"}),
        ("strategic-merge-patch+json", {"data": {"$retainKeys": ["c"], "c": "3"}}, {"c": "3"}),
        ("json-patch+json", [{"op": "replace", "path": "/data/a", "value": "9"}], {"a": "9", "b": "2"}),
        (
            "apply-patch+yaml",
            {"apiVersion": "v1", "kind": "ConfigMap", "data": {"d": "4"}},
            {"a": "1", "b": "2", "d": "4"},
        ),
    ],
)
def test_patches(api: Api, kind: str, body: Any, data: dict[str, str]) -> None:
    path = maps(api)
    api.create(path, configmap("m", a="1", b="2"))
    reply = api.patch(f"{path}/m?fieldManager=f", body, kind)
    assert (reply.code, reply.object["data"]) == (200, data)


def test_apply_makes_what_is_not_there(api: Api) -> None:
    path = maps(api)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}
    assert api.patch(f"{path}/m?fieldManager=f", body, "apply-patch+yaml").code == 201
    assert api.patch(f"{path}/m?fieldManager=f", body, "apply-patch+yaml").code == 200
    other = api.patch(f"{path}/m?fieldManager=g", {**body, "data": {"a": "2"}}, "apply-patch+yaml")
    assert (other.code, other.reason, other.object["details"]["causes"][0]["field"]) == (409, "Conflict", ".data.a")
    forced = api.patch(f"{path}/m?fieldManager=g&force=true", {**body, "data": {"a": "2"}}, "apply-patch+yaml")
    assert forced.object["data"] == {"a": "2"}
    assert api.patch(f"{path}/m", body, "apply-patch+yaml").code == 422  # no field manager


def test_unknown_fields_are_refused_or_warned_of(api: Api) -> None:
    path = maps(api)
    body = {"metadata": {"name": "a"}, "spec": {"foo": 1}}
    strict = api.request("POST", f"{path}?fieldValidation=Strict", body)
    assert (strict.code, strict.reason) == (400, "BadRequest")
    assert 'strict decoding error: unknown field "spec"' in strict.message
    warned = api.request("POST", f"{path}?fieldValidation=Warn", body)
    assert (warned.code, warned.headers["Warning"]) == (201, '299 - "unknown field \\"spec\\""')
    assert "spec" not in warned.object


def test_a_list_in_pages_is_one_snapshot(api: Api) -> None:
    path = maps(api)
    for index in range(5):
        api.create(path, configmap(f"m{index}"))
    first = api.get(f"{path}?limit=2").object
    assert first["metadata"]["remainingItemCount"] == 3
    api.create(path, configmap("m2b"))
    api.request("DELETE", f"{path}/m3")
    names = [item["metadata"]["name"] for item in first["items"]]
    token = first["metadata"]["continue"]
    while token:
        page = api.get(f"{path}?limit=2&continue={token}").object
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
    assert [name for name in names if name.startswith("m")] == ["m0", "m1", "m2", "m3", "m4"]


def test_what_a_page_says_of_the_rest(api: Api) -> None:
    """How many there are is not known where selectors choose; a list from any revision is given whole."""
    path = maps(api)
    for index in range(5):
        api.create(path, {"metadata": {"name": f"m{index}", "labels": {"half": str(index % 2)}}})
    chosen = api.get(f"{path}?limit=2&labelSelector=half%3D0").object
    assert [item["metadata"]["name"] for item in chosen["items"]] == ["m0", "m2"]
    assert "remainingItemCount" not in chosen["metadata"]
    last = api.get(f"{path}?limit=2&labelSelector=half%3D0&continue={chosen['metadata']['continue']}").object
    assert [item["metadata"]["name"] for item in last["items"]] == ["m4"]
    assert not last["metadata"].get("continue")
    until(lambda: len(api.get(f"{path}?resourceVersion=0").object["items"]) >= 5)
    whole = api.get(f"{path}?limit=2&resourceVersion=0").object
    assert (len(whole["items"]), "continue" in whole["metadata"]) == (len(api.get(path).object["items"]), False)


def test_a_list_as_of_a_revision(api: Api) -> None:
    path = maps(api)
    first = api.create(path, configmap("a"))["metadata"]["resourceVersion"]
    api.create(path, configmap("b"))
    exact = api.get(f"{path}?resourceVersion={first}&resourceVersionMatch=Exact").object
    assert [item["metadata"]["name"] for item in exact["items"]] == ["a"]
    assert exact["metadata"]["resourceVersion"] == first
    newer = api.get(f"{path}?resourceVersion={first}&resourceVersionMatch=NotOlderThan").object
    assert [item["metadata"]["name"] for item in newer["items"]] == ["a", "b"]


def test_a_revision_to_come_is_a_timeout(embedded: Api) -> None:
    reply = embedded.get("/api/v1/nodes?resourceVersion=999999999")
    assert (reply.code, reply.reason, reply.headers["Retry-After"]) == (504, "Timeout", "1")
    assert reply.object["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_items_of_a_list_do_not_say_what_they_are(api: Api) -> None:
    path = maps(api)
    api.create(path, configmap("a"))
    found = api.get(path).object
    assert (found["kind"], found["apiVersion"]) == ("ConfigMapList", "v1")
    assert all("kind" not in item and item["metadata"]["name"] for item in found["items"])


def test_selectors(api: Api) -> None:
    path = maps(api)
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2"}), ("c", {})):
        api.create(path, {"metadata": {"name": name, "labels": labels}})
    for query, names in (
        ("labelSelector=x", ["a", "b"]),
        ("labelSelector=x%3D1", ["a"]),
        ("labelSelector=x+in+(1,2),x!%3D1", ["b"]),
        ("labelSelector=!x", ["c"]),
        ("fieldSelector=metadata.name%3Dc", ["c"]),
        ("fieldSelector=metadata.name!%3Dc&labelSelector=x%3D2", ["b"]),
        ("labelSelector=x&limit=1", ["a"]),
    ):
        found = api.get(f"{path}?{query}").object
        assert [item["metadata"]["name"] for item in found["items"] if item["metadata"]["name"] in "abc"] == names, (
            query
        )


def test_metadata_alone(api: Api) -> None:
    path = maps(api)
    made = api.create(path, configmap("a", k="v"))
    accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    reply = api.get(f"{path}/a", headers={"Accept": accept}).object
    assert (reply["kind"], reply["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
    assert reply["metadata"] == made["metadata"]
    assert "data" not in reply
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    assert api.get(path, headers={"Accept": accept}).object["kind"] == "PartialObjectMetadataList"


def test_a_large_object_is_refused(embedded: Api) -> None:
    path = maps(embedded)
    reply = embedded.request(
        "POST", path, {"metadata": {"name": "big", "annotations": {}}, "data": {"k": "x" * 1_600_000}}
    )
    assert reply.code in (413, 422)
    reply = embedded.request("POST", path, configmap("big", k="x" * 3_200_000))
    assert (reply.code, reply.message) == (413, "Request entity too large: limit is 3145728")


def test_a_large_list_is_packed_if_the_client_takes_it(embedded: Api) -> None:
    import gzip

    path = maps(embedded)
    for index in range(4):
        embedded.create(path, configmap(f"m{index}", k="x" * 60_000))
    reply = embedded.get(path, headers={"Accept-Encoding": "gzip"})
    assert reply.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(reply.body))["items"]) == 4


def test_a_token_of_a_compacted_snapshot_goes_on_with_what_there_is(embedded: Api) -> None:
    path = maps(embedded)
    for index in range(3):
        embedded.create(path, configmap(f"m{index}"))
    made_up = {"v": "meta.k8s.io/v1", "rv": -1, "start": f"{path.split('/')[4]}/m0\0"}
    token = base64.urlsafe_b64encode(json.dumps(made_up).encode()).decode().rstrip("=")
    found = embedded.get(f"{path}?limit=5&continue={token}").object
    assert [item["metadata"]["name"] for item in found["items"]] == ["m1", "m2"]


def test_what_a_writer_may_not_change(api: Api) -> None:
    path = maps(api)
    made = api.create(path, configmap("m", a="1"))
    patched = api.patch(f"{path}/m", {"metadata": {"uid": "other"}})
    assert (patched.code, patched.reason) == (422, "Invalid")
    assert 'metadata.uid: Invalid value: "other": field is immutable' in patched.message
    other = {**made, "metadata": {**made["metadata"], "uid": "other"}}
    assert (api.request("PUT", f"{path}/m", other).code, api.get(f"{path}/m").object) == (409, made)
    marked = {**made, "metadata": {**made["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    reply = api.request("PUT", f"{path}/m", marked)
    assert (reply.code, "metadata.deletionTimestamp: Invalid value" in reply.message) == (422, True)
    linked = {**made, "metadata": {**made["metadata"], "selfLink": "/x", "creationTimestamp": "2020-01-01T00:00:00Z"}}
    assert api.request("PUT", f"{path}/m", linked).object == made


@pytest.mark.parametrize("kind", ["merge-patch+json", "strategic-merge-patch+json", "json-patch+json"])
def test_a_patch_that_leaves_what_can_not_be_read(api: Api, kind: str) -> None:
    path = maps(api)
    api.create(path, configmap("m"))

    def put(field: str, value: Any) -> Any:
        return [{"op": "add", "path": f"/{field}", "value": value}] if kind[0] == "j" else {field: value}

    unknown = api.patch(f"{path}/m?fieldValidation=Strict", put("spec", {"a": 1}), kind)
    assert (unknown.code, unknown.reason) == (422, "Invalid")
    assert 'strict decoding error: unknown field "spec"' in unknown.message
    wrong = api.patch(f"{path}/m", put("data", ["a"]), kind)
    assert (wrong.code, wrong.reason) == (422, "Invalid")


BLANK: dict[str, list[Any]] = {
    "merge-patch+json": [{"metadata": {"name": None}}, {"metadata": {"name": ""}}, {"metadata": None}],
    "strategic-merge-patch+json": [{"metadata": {"name": None}}],
    "json-patch+json": [[{"op": "remove", "path": "/metadata/name"}]],
    "apply-patch+yaml": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": None}}],
}


def test_an_object_without_its_name_is_refused(api: Api) -> None:
    """Whether a patch takes it away, or an update or the first apply leaves it out."""
    path = f"{CORE}/{api.namespace()}/configmaps"
    made = api.create(path, {"metadata": {"name": "a"}, "data": {"k": "1"}})
    replies = [
        api.patch(f"{path}/a?fieldManager=t" if "apply" in kind else f"{path}/a", body, kind)
        for kind, bodies in BLANK.items()
        for body in bodies
    ]
    replies += [api.request("PUT", f"{path}/a", {"metadata": {}, "data": {}}), api.request("PUT", f"{path}/a", {})]
    text = "the name of the object (a based on URL) was undeterminable: name must be provided"
    assert [(reply.code, reply.message) for reply in replies] == [(400, text)] * 8
    nameless = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert api.patch(f"{path}/b?fieldManager=t", nameless, "apply-patch+yaml").code == 400
    assert api.patch(f"{path}/a?fieldManager=t", nameless, "apply-patch+yaml").code == 200  # it changes nothing
    assert api.get(f"{path}/a").object == made


@pytest.mark.parametrize("nobody", [[], [{}]], ids=str)
def test_who_owns_which_fields_is_taken_away(api: Api, nobody: list[object]) -> None:
    """And is not written again, before somebody applies."""
    path = f"{CORE}/{api.namespace()}/configmaps"
    for name in ("a", "b"):
        assert "managedFields" in api.create(path, {"metadata": {"name": name}, "data": {"k": "1"}})["metadata"]
    body = {"metadata": {"name": "b", "managedFields": nobody}, "data": {"k": "2"}}
    for reply in (
        api.patch(f"{path}/a", {"metadata": {"managedFields": nobody}}),
        api.patch(f"{path}/a", {"data": {"k": "2"}}),
        api.request("PUT", f"{path}/b", body),
    ):
        assert (reply.code, "managedFields" in reply.object["metadata"]) == (200, False)
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"l": "3"}}
    reply = api.patch(f"{path}/a?fieldManager=t", applied, "apply-patch+yaml")
    assert {each["manager"] for each in reply.object["metadata"]["managedFields"]} == {"t", "before-first-apply"}


def test_a_namespaces_finalizer_is_nobodys(api: Api) -> None:
    """Unless who makes it says it."""

    def owned(name: str, **more: Any) -> Any:
        made = api.create(CORE, {"metadata": {"name": name}, **more})
        assert made["spec"]["finalizers"] == ["kubernetes"]
        (entry,) = made["metadata"]["managedFields"]
        return entry["fieldsV1"].get("f:spec", {})

    base = api.namespace()
    assert owned(f"{base}-a") == {}
    assert owned(f"{base}-b", spec={"finalizers": ["kubernetes"]}) == {"f:finalizers": {}}
