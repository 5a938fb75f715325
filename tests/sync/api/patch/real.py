"""What kube-apiserver makes of a request, and what this package makes of it from the same object."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from bench.apiserver import ApiServer
from sync.api import patch
from sync.api.prune import prune_and_default
from sync.api.registry import ResourceType
from sync.api.status import ApiError, unsupported_media_type
from tests.sync.api.patch.kinds import NOW, kind

NOT_CLIENTS = {
    "Service": ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"),
    "Node": ("taints",),
    "Pod": ("tolerations", "priority", "preemptionPolicy"),
}
"""What the server adds to `spec` after it has noted whose the fields are."""


JSON = "application/json"


class Answer(NamedTuple):
    code: int
    body: dict[str, Any]


class Real:
    """A connection to the real API."""

    def __init__(self, server: ApiServer) -> None:
        context = ssl.create_default_context(cafile=str(server.ca))
        context.load_cert_chain(server.certificate, server.key)
        self._connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=context, timeout=10)

    def request(
        self, method: str, path: str, body: Any = None, media: str = "application/json", **query: str
    ) -> Answer:
        target = f"{path}?{urlencode(query)}" if query else path
        text = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        self._connection.request(method, target, text, {"Content-Type": media, "Accept": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        return Answer(answer.status, json.loads(text) if text.startswith(b"{") else {})

    def define(self, crd: Mapping[str, Any]) -> None:
        """Make a custom kind and wait until it is served."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        assert self.request("POST", path, crd).code == 201
        spec, deadline = crd["spec"], time.monotonic() + 20
        group = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        while self.request("GET", group).code != 200:
            assert time.monotonic() < deadline, "the custom kind is not served"
            time.sleep(0.05)

    def close(self) -> None:
        self._connection.close()


def collection(type: ResourceType) -> str:
    group = f"/apis/{type.group}" if type.group else "/api"
    return f"{group}/{type.version}/{'namespaces/default/' if type.namespaced else ''}{type.plural}"


class Step(NamedTuple):
    """One write: `how` is create, update, apply, json, merge or strategic."""

    how: str
    body: Any
    manager: str = "one"
    subresource: str = ""
    force: bool = False


MEDIA = {"apply": patch.APPLY, "json": patch.JSON, "merge": patch.MERGE, "strategic": patch.STRATEGIC}


def run(real: Real, name: str, what: str, step: Step) -> tuple[Any, Any]:
    """Do the step at the real API; what it gave and what we give from the same object, in one form."""
    type = kind(what)
    path = f"{collection(type)}/{name}"
    got = real.request("GET", path)
    live = got.body if got.code == 200 else None
    query = {"fieldManager": step.manager}
    if step.force:
        query["force"] = "true"
    target = f"{path}/{step.subresource}" if step.subresource else path
    if step.how == "create":
        answer = real.request("POST", collection(type), step.body, **query)
    elif step.how == "update":
        answer = real.request("PUT", target, {**(live or {}), **step.body}, **query)
    else:
        answer = real.request("PATCH", target, step.body, MEDIA[step.how], **query)
    theirs = _told(answer.body) if answer.code >= 400 else _form(answer.body, type, step)
    try:
        return theirs, _form(_ours(live, type, step, _time(answer)), type, step)
    except ApiError as error:
        return theirs, _told(error.status())


def _ours(live: dict[str, Any] | None, type: ResourceType, step: Step, now: str) -> dict[str, Any]:
    """The object after the step, without what the server's own strategy does but for status."""
    body = json.dumps(step.body).encode()
    if step.how in MEDIA and MEDIA[step.how] not in patch.accepted(type):
        raise unsupported_media_type(patch.accepted(type))
    new: dict[str, Any]
    if step.how == "apply":
        new = patch.server_side_apply(
            live, step.body, step.manager, step.force, type, now, subresource=step.subresource
        )
    elif live is None:
        new = json.loads(body)
    elif step.how == "update":
        new = {**live, **json.loads(body)}
    elif step.how == "json":
        new = patch.json_patch(live, body)
    elif step.how == "merge":
        new = patch.merge_patch(live, body)
    else:
        new = patch.strategic_merge(live, body, type.schema)
    prune_and_default(new, type, found=[])
    if step.how != "apply":
        patch.track(live, new, step.manager, "Update", step.subresource, type, now)
    if "status" in type.subresources:
        _apart(new, live, "spec" if step.subresource == "status" else "status")
    new["metadata"].setdefault("namespace", "default")
    return new


def _time(answer: Answer) -> str:
    """When the server did it; managers of one second are told apart by their names."""
    return max((each.get("time", "") for each in answer.body.get("metadata", {}).get("managedFields", [])), default=NOW)


def _apart(new: dict[str, Any], live: dict[str, Any] | None, part: str) -> None:
    """What this endpoint does not write is as it was."""
    if live is not None and part in live:
        new[part] = live[part]
    elif live is not None or part == "status":
        new.pop(part, None)


def _told(status: Mapping[str, Any]) -> dict[str, Any]:
    """A refusal. Differences that are meant: an object that does not fit its schema is the client's fault (400), not
    the server's (500, without a reason), and a JSON patch that can't be done says which operation."""
    code, reason = (400, "BadRequest") if status["code"] == 500 else (status["code"], status.get("reason", ""))
    causes = status.get("details", {}).get("causes", []) if reason != "Invalid" else []
    return {
        "code": code,
        "reason": reason,
        "message": sorted(status["message"].splitlines()),
        "causes": sorted((each.get("field", ""), each.get("message", "")) for each in causes),
    }


def _form(obj: Mapping[str, Any], type: ResourceType, step: Step) -> dict[str, Any]:
    """Who owns what, times apart, and all that clients write."""
    metadata = dict(obj["metadata"])
    managed = [{**each, "time": "time" in each} for each in metadata.pop("managedFields", [])]
    for key in ("resourceVersion", "generation", "uid", "creationTimestamp"):
        metadata.pop(key, None)
    if not type.namespaced:
        metadata.pop("namespace", None)
    managed.sort(key=lambda each: (each["manager"], each["operation"], each.get("subresource", "")))
    made = {**obj, "metadata": metadata}
    if type.kind in NOT_CLIENTS and (type.kind != "Node" or step.how == "create"):
        made["spec"] = {key: said for key, said in obj["spec"].items() if key not in NOT_CLIENTS[type.kind]}
    if "status" in type.subresources and not type.custom and not step.subresource:
        made.pop("status", None)
    return {"managedFields": managed, "object": made}
