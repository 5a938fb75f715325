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
from sync.api.registry import ResourceType
from sync.api.status import ApiError
from tests.sync.api.patch.kinds import NOW, kind

NOT_CLIENTS = {
    "Service": ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"),
    "Pod": ("tolerations", "priority", "preemptionPolicy"),
}
"""What the server adds to `spec` after it has noted whose the fields are."""


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
        assert live is not None
        answer = real.request("PUT", target, {**live, **step.body}, **query)
    else:
        answer = real.request("PATCH", target, step.body, MEDIA[step.how], **query)
    try:
        return _theirs(answer), _ours(live, answer, type, step)
    except ApiError as error:
        return _theirs(answer), _told(error.status())


def _theirs(answer: Answer) -> Any:
    return _told(answer.body) if answer.code >= 400 else _form(answer.body)


def _told(status: Mapping[str, Any]) -> Any:
    causes = status.get("details", {}).get("causes", [])
    return {
        "code": status["code"],
        "reason": status.get("reason", ""),
        "message": sorted(status["message"].splitlines()),
        "causes": sorted((each.get("field", ""), each.get("message", "")) for each in causes),
    }


def _form(obj: Mapping[str, Any]) -> Any:
    """Who owns what, times apart, and all that is written."""
    metadata = dict(obj["metadata"])
    managed = [{**each, "time": "time" in each} for each in metadata.pop("managedFields", [])]
    for key in ("resourceVersion", "generation", "uid", "creationTimestamp"):
        metadata.pop(key, None)
    managed.sort(key=lambda each: (each["manager"], each["operation"], each.get("subresource", "")))
    return {"managedFields": managed, "object": {**obj, "metadata": metadata}}


def _ours(live: dict[str, Any] | None, answer: Answer, type: ResourceType, step: Step) -> Any:
    """What is there after the step by this package; of an apply, which sets no defaults, they come from the answer."""
    body = step.body if isinstance(step.body, bytes) else json.dumps(step.body).encode()
    if step.how == "apply":
        made = patch.server_side_apply(
            live, step.body, step.manager, step.force, type, NOW, subresource=step.subresource
        )
        return _form(_defaulted(made, answer.body, live))
    new: dict[str, Any]
    if step.how == "create":
        new = {**answer.body, "metadata": {**answer.body["metadata"]}}
        new["metadata"].pop("managedFields")
        if isinstance(new.get("spec"), dict):
            new["spec"] = {key: said for key, said in new["spec"].items() if key not in NOT_CLIENTS.get(type.kind, ())}
    else:
        assert live is not None
        if step.how == "update":
            new = {**live, **step.body}
        elif step.how == "json":
            new = patch.json_patch(live, body)
        elif step.how == "merge":
            new = patch.merge_patch(live, body)
        else:
            new = patch.strategic_merge(live, body, type.schema)
    patch.track(live, new, step.manager, "Update", step.subresource, type, NOW)
    return _form(_defaulted(new, answer.body, None) if step.how == "create" else new)


def _defaulted(made: Any, answer: Any, live: Any) -> Any:
    """`made` with the defaults that the answer has: keys of maps that neither it nor the live object had."""
    if not isinstance(made, dict) or not isinstance(answer, dict):
        return made
    before = live if isinstance(live, dict) else {}
    filled = {key: said for key, said in answer.items() if key not in made and key not in before}
    filled.pop("managedFields", None)
    return {**{key: _defaulted(said, answer.get(key), before.get(key)) for key, said in made.items()}, **filled}
