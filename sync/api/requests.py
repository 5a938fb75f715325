"""A request for a resource, from its parts to its answer: authorization, verb, form."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec

from sync.api import deletion, forms, lists, options, patch, protobuf, reviews, rules, status
from sync.api.access import User
from sync.api.codec import decode
from sync.api.forms import Form
from sync.api.lines import Lines
from sync.api.naming import same_name
from sync.api.objects import BINDING, Objects, Written
from sync.api.options import Write
from sync.api.paths import Target
from sync.api.registry import ResourceType
from sync.api.status import Cause
from sync.api.strategy import strategy
from sync.api.watch import Stream
from sync.store import Key

PATCH_NAMES = {patch.JSON: "json", patch.MERGE: "merge", patch.STRATEGIC: "strategic", patch.APPLY: "apply"}
REVIEWED = ("authorization.k8s.io", "authentication.k8s.io")
TOGETHER = 32
"""Deletions of one deletecollection at a time."""


class Asked(NamedTuple):
    """A request's parts. `body` reads it, once the request is known to be allowed."""

    user: User
    verb: str
    target: Target
    query: dict[str, str]
    accept: str
    agent: str
    content_type: str
    body: Callable[[], Awaitable[bytes]]


class Answer(NamedTuple):
    """An answer but for a watch."""

    code: int
    body: bytes
    media: str
    warnings: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class Requests:
    """Answers over `objects`."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._lines = Lines()

    async def answer(self, asked: Asked) -> Answer | Stream:
        """Raises ApiError."""
        target = asked.target
        request = rules.Request(
            asked.verb,
            target.group,
            target.plural,
            target.subresource,
            target.namespace,
            target.name,
            asked.query.get("fieldSelector", ""),
        )
        self._allow(asked, request)
        type = self._type(asked)
        if asked.verb == "watch":
            return self._watch(type, asked)
        include = asked.query.get("includeObject", "")
        form = forms.negotiate(asked.accept, include)
        match asked.verb:
            case "get":
                data = self.objects.get(type, target.namespace, target.name, asked.query.get("resourceVersion", ""))
                return Answer(200, forms.one(type, data, form), form.media)
            case "list":
                found = lists.objects(self.objects.store, type, target.namespace, options.list_options(asked.query))
                return Answer(200, forms.many(type, found.items, found.metadata, form), form.media)
            case "delete":
                return await self._delete(type, asked, form)
            case "deletecollection":
                return await self._delete_collection(type, asked, form)
            case "patch":
                return await self._patch(type, asked, form)
            case _:
                return await self._write(type, asked, form, request)

    def _allow(self, asked: Asked, request: rules.Request) -> None:
        decision = rules.authorize(asked.user, request, self.objects.store)
        if not decision.allowed:
            raise status.forbidden(asked.target.group_resource, asked.target.name, decision.reason)

    def _type(self, asked: Asked) -> ResourceType:
        """The kind, if what is asked for is served."""
        target = asked.target
        type = self.objects.registry.find(target.group, target.version, target.plural)
        if type is None:
            raise status.no_such_path()
        if type.namespaced and not target.namespace and (target.name or asked.verb in ("create", "deletecollection")):
            raise status.no_such_path() if target.name else status.method_not_allowed()
        if target.namespace and not type.namespaced:
            raise status.no_such_path()
        if target.subresource:
            part = type.subresource(target.subresource)
            if part is None:
                raise status.no_such_path()
            served = asked.verb in part.verbs
        else:
            served = asked.verb in type.verbs and not (asked.verb == "create" and target.name)
        if not served:
            raise status.method_not_allowed()
        return type

    def _watch(self, type: ResourceType, asked: Asked) -> Stream:
        wanted = options.list_options(asked.query)
        if asked.target.name:
            raise status.bad_request("watch a list with the field selector metadata.name")
        form = forms.negotiate(asked.accept, asked.query.get("includeObject", ""), only_json=True)
        return Stream(self.objects.store, self._lines, type, asked.target.namespace, wanted, form)

    async def _write(self, type: ResourceType, asked: Asked, form: Form, request: rules.Request) -> Answer:
        write = self._options(asked)
        target = asked.target
        obj, duplicate = _read(await asked.body(), asked.content_type)
        if asked.verb == "create" and target.subresource:
            return await self._bind(type, asked, obj, write, form)
        _same_kind(obj, type)
        if asked.verb == "create":
            self._allow(asked, request._replace(obj=obj))
        if type.group in REVIEWED:
            self.objects.checked(type, obj, duplicate, write)
            answered = reviews.review(type.kind, obj, asked.user, self.objects.store)
            return self._answer(type, Written(answered, created=True), write, form)
        self.objects.checked(type, obj, duplicate, write)
        if asked.verb == "create":
            done = await self.objects.create(type, target.namespace, obj, write)
            return self._answer(type, done, write, form)
        same_name(obj, target.namespace, target.name)
        creates = strategy(type).create_on_update and self._may_create(asked, request, obj)
        done = await self.objects.update(
            type,
            target.namespace,
            target.name,
            partial(_same_uid, type, obj),
            write,
            subresource=target.subresource,
            create=creates,
            guard=self._guard(asked),
        )
        return self._answer(type, done, write, form)

    async def _patch(self, type: ResourceType, asked: Asked, form: Form) -> Answer:
        target = asked.target
        media = forms.parameters(asked.content_type)[0]
        if media not in patch.accepted(type):
            raise status.unsupported_media_type(patch.accepted(type))
        kind = PATCH_NAMES[media]
        write = self._options(asked, kind)
        body = await asked.body()
        applied: dict[str, Any] = {}
        if kind == "apply":
            applied, duplicate = decode(body, forms.YAML)
            _same_kind(applied, type)
            if duplicate and write.validation != "Ignore":
                self.objects.checked(type, msgspec.json.decode(msgspec.json.encode(applied)), duplicate, write)
        now = self.objects.now()

        def compute(live: dict[str, Any] | None) -> dict[str, Any]:
            if kind == "apply":
                new = patch.server_side_apply(
                    live, applied, write.manager, write.force, type, now, subresource=target.subresource
                )
            else:
                assert live is not None
                if kind == "json":
                    new = patch.json_patch(live, body)
                elif kind == "merge":
                    new = patch.merge_patch(live, body)
                else:
                    new = patch.strategic_merge(live, body, type.schema)
            _same_kind(new, type)
            same_name(new, target.namespace, target.name)
            try:
                self.objects.checked(type, new, (), write)
            except status.ApiError as error:  # as Kubernetes has it: it is the patch that is invalid
                cause = Cause("patch", "FieldValueInvalid", f"Invalid value: {error.message}")
                raise status.invalid("", "", "", [cause]) from None
            return new

        create = kind == "apply" and not target.subresource
        if create and self.objects.store.get(_key(type, target)) is None:
            self._allow(asked, _create_request(asked, applied))
        done = await self.objects.update(
            type,
            target.namespace,
            target.name,
            compute,
            write,
            subresource=target.subresource,
            create=create,
            applied=kind == "apply",
            guard=self._guard(asked),
        )
        return self._answer(type, done, write, form)

    async def _delete(self, type: ResourceType, asked: Asked, form: Form) -> Answer:
        wanted = await self._deletion(asked)
        done = await self.objects.delete(type, asked.target.namespace, asked.target.name, wanted)
        told = deletion.answer(type, done.obj, done.gone)
        code = 202 if wanted.accepted and not done.gone else 200
        if told is not done.obj:
            return Answer(code, forms.document(told, form), form.media)
        return Answer(code, forms.one(type, msgspec.json.encode(told), form), form.media)

    async def _delete_collection(self, type: ResourceType, asked: Asked, form: Form) -> Answer:
        wanted = await self._deletion(asked)
        store = self.objects.store
        found = lists.objects(store, type, asked.target.namespace, options.list_options(asked.query))
        keys = [(each["namespace"], each["name"]) for each in map(_names, found.items)]

        async def delete(namespace: str, name: str) -> None:
            try:
                await self.objects.delete(type, namespace, name, wanted)
            except status.ApiError as error:
                if error.code != 404:
                    raise

        for start in range(0, len(keys), TOGETHER):
            await asyncio.gather(*(delete(*key) for key in keys[start : start + TOGETHER]))
        return Answer(200, forms.many(type, found.items, found.metadata, form), form.media)

    async def _deletion(self, asked: Asked) -> options.Deletion:
        body = await asked.body()
        obj: dict[str, Any] | None = None
        if body:
            obj, _ = _read(body, asked.content_type)
        return options.deletion(asked.query, obj)

    async def _bind(self, type: ResourceType, asked: Asked, obj: dict[str, Any], write: Write, form: Form) -> Answer:
        """pods/binding: give a pod its node."""
        from sync.api.binding import bound

        target = asked.target
        assign = bound(obj, target.name)
        await self.objects.update(type, target.namespace, target.name, assign, write, subresource=BINDING)
        return Answer(201, forms.document({**status.success(), "code": 201}, form), form.media, tuple(write.warnings))

    def _options(self, asked: Asked, kind: str = "") -> Write:
        return options.write_options(asked.query, asked.agent, kind, asked.user.name, asked.user.groups)

    def _may_create(self, asked: Asked, request: rules.Request, obj: dict[str, Any]) -> bool:
        request = request._replace(verb="create", obj=obj)
        return rules.authorize(asked.user, request, self.objects.store).allowed

    def _guard(self, asked: Asked) -> Callable[[dict[str, Any], dict[str, Any] | None], None]:
        resource = asked.target.group_resource

        def guard(obj: dict[str, Any], old: dict[str, Any] | None) -> None:
            if asked.target.subresource == "status":
                rules.guard_metadata(asked.user, obj, old, resource)
            if asked.target.plural == "events":
                rules.guard_event(asked.user, _create_request(asked, obj), self.objects.store)

        return guard

    def _answer(self, type: ResourceType, done: Written, write: Write, form: Form) -> Answer:
        obj = {"kind": type.kind, "apiVersion": type.api_version, **done.obj}
        body = forms.one(type, msgspec.json.encode(obj), form)
        warnings = (*write.warnings, type.deprecated) if type.deprecated else tuple(write.warnings)
        return Answer(201 if done.created else 200, body, form.media, warnings)


def _read(body: bytes, content_type: str) -> tuple[dict[str, Any], list[str]]:
    """An object, and the fields that stand twice. Raises ApiError."""
    media = forms.parameters(content_type or forms.JSON)[0]
    if media == protobuf.MEDIA:
        return protobuf.decode(body), []
    return decode(body, media)


class _Meta(msgspec.Struct):
    name: str
    namespace: str = ""


class _Named(msgspec.Struct):
    metadata: _Meta


def _names(data: bytes) -> dict[str, str]:
    metadata = msgspec.json.decode(data, type=_Named).metadata
    return {"namespace": metadata.namespace, "name": metadata.name}


def _key(type: ResourceType, target: Target) -> Key:
    return Key(type.storage, target.namespace, target.name)


def _create_request(asked: Asked, obj: dict[str, Any]) -> rules.Request:
    target = asked.target
    return rules.Request("create", target.group, target.plural, "", target.namespace, target.name, obj=obj)


def _same_uid(type: ResourceType, obj: dict[str, Any], live: dict[str, Any] | None) -> dict[str, Any]:
    """`obj`, if it does not mean another object of that name. Raises ApiError 409."""
    metadata, there = obj["metadata"], live["metadata"] if live else {}
    uid = metadata.get("uid")
    if live and uid and uid != there["uid"]:
        text = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {there['uid']}"
        raise status.conflict(type.group_resource, there["name"], text)
    return obj


def _same_kind(obj: dict[str, Any], type: ResourceType) -> None:
    """A body is of the kind that the path says; one that says nothing is taken to be. Raises ApiError 400."""
    version, kind = obj.setdefault("apiVersion", type.api_version), obj.setdefault("kind", type.kind)
    if version != type.api_version:
        text = f"the API version in the data ({version}) does not match the expected API version ({type.api_version})"
        raise status.bad_request(text)
    if kind != type.kind:
        text = f'{kind} in version "{type.version}" cannot be handled as a {type.kind}'
        raise status.bad_request(text)
