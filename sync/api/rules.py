"""Who may do what, as a table; each refusal says who may.

A node may what its agent and its kubelet need, and nothing that is another's: of objects named in the path by that
name, of pods by the node that they are bound to, of what is created by what is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from sync.api import status
from sync.api.access import MASTERS, User
from sync.api.status import GroupResource
from sync.store import Key, Store

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch")
SYSTEM = "edgemesh-system"
CONFIGS = ("edgemesh", "edgemesh-revoked")
"""Config maps of `SYSTEM` that all nodes read."""
LEASE_NAMESPACES = ("kube-node-lease", SYSTEM)
HEALTH = ("/livez", "/readyz", "/healthz", "/version")
"""Paths that anybody may ask for."""
DISCOVERY = ("/api", "/apis", "/openapi", *HEALTH)


class Request(NamedTuple):
    """What is asked for. `path` alone is set where it is no resource's; `obj` is the body of a create, once read."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    """The field selector."""
    path: str = ""
    obj: Mapping[str, Any] | None = None


class Decision(NamedTuple):
    """`reason` completes "forbidden: "."""

    allowed: bool
    reason: str = ""


Condition = Callable[[str, Request, Store], bool]
"""Whether a node's request is about its own: (name of the node, request, store)."""


class Rule(NamedTuple):
    """A line of the table: who else may is for refusals, `own` for what depends on the object."""

    verbs: tuple[str, ...]
    group: str
    resource: str
    """With its subresource: "nodes/status"."""
    who: str
    own: Condition | None = None
    namespaces: tuple[str, ...] = ()
    """Empty: all."""


def _named(node: str, asked: Request, _store: Store) -> bool:
    """The object has the node's name; of a create that is told by the body."""
    if asked.verb == "create":
        return asked.obj is None or _metadata(asked.obj).get("name") == node
    return asked.name == node


def _registers(node: str, asked: Request, store: Store) -> bool:
    """A node makes its own Node, but its ranges are not its to say, nor when it may go."""
    spec = asked.obj.get("spec") if asked.obj is not None else None
    ranges = isinstance(spec, Mapping) and any(spec.get(field) for field in ("podCIDR", "podCIDRs", "taints"))
    metadata = _metadata(asked.obj or {})
    return _named(node, asked, store) and not (ranges or metadata.get("finalizers") or metadata.get("ownerReferences"))


def _follows(_node: str, asked: Request, _store: Store) -> bool:
    """What the cluster tells its nodes; the cloud's records of them are none of that."""
    if asked.verb == "get":
        return asked.name in CONFIGS
    return any(f"metadata.name={name}" in asked.fields.replace("==", "=").split(",") for name in CONFIGS)


def _reads_pods(node: str, asked: Request, store: Store) -> bool:
    if asked.verb == "get":
        return _bound(node, asked, store)
    return f"spec.nodeName={node}" in asked.fields.replace("==", "=").split(",")


def _bound(node: str, asked: Request, store: Store) -> bool:
    """The pod is there and bound to the node; one that is not there is nobody's secret."""
    return _bound_pod(node, asked.namespace, asked.name, store)


def _bound_pod(node: str, namespace: str, name: str, store: Store) -> bool:
    entry = store.get(Key("pods", namespace, name))
    return entry is None or msgspec.json.decode(entry.data).get("spec", {}).get("nodeName") == node


def _reports(node: str, asked: Request, store: Store) -> bool:
    """An event about the node itself, or a pod that is bound to it."""
    obj: Any = asked.obj
    field = "regarding" if asked.group == "events.k8s.io" else "involvedObject"
    if asked.verb != "create":
        entry = store.get(Key("events", asked.namespace, asked.name))
        if entry is None:
            return asked.verb != "update"
        obj, field = msgspec.json.decode(entry.data), "involvedObject"  # as core v1 has it
    if obj is None:
        return True
    about = obj.get(field)
    if not isinstance(about, Mapping):
        return False
    kind, name = about.get("kind"), about.get("name")
    if kind == "Pod":
        namespace = about.get("namespace", asked.namespace)
        return isinstance(name, str) and isinstance(namespace, str) and _bound_pod(node, namespace, name, store)
    return kind in ("Node", "MeshNode") and name == node


MESH = "edgemesh.kubeedge.io"
ANY_NODE = "nodes"
RULES = (
    Rule(READ, "", "services", ANY_NODE),
    Rule(READ, "discovery.k8s.io", "endpointslices", ANY_NODE),
    Rule(READ, "", "nodes", ANY_NODE),
    Rule(READ, "", "namespaces", ANY_NODE),
    Rule(READ, MESH, "meshnodes", ANY_NODE),
    Rule(READ, "networking.istio.io", "destinationrules", ANY_NODE),
    Rule(READ, "", "configmaps", f"{ANY_NODE}, those named {' and '.join(CONFIGS)},", _follows, (SYSTEM,)),
    Rule(READ, "", "pods", "the node that they are bound to (a list by fieldSelector spec.nodeName)", _reads_pods),
    Rule(("patch", "update"), "", "pods/status", "the node that it is bound to", _bound),
    Rule(("delete",), "", "pods", "the node that it is bound to", _bound),
    Rule(("create",), "", "nodes", "the node itself, without ranges, taints, finalizers and owners", _registers),
    Rule(("patch", "update"), "", "nodes/status", "the node itself", _named),
    Rule(("get", *WRITE), "coordination.k8s.io", "leases", "the node itself", _named, LEASE_NAMESPACES),
    Rule(WRITE, MESH, "meshnodes", "the node itself", _named),
    Rule(WRITE, "", "events", "the node that it is about, or that its pod is bound to", _reports),
    Rule(WRITE, "events.k8s.io", "events", "the node that it is about, or that its pod is bound to", _reports),
)
SELF_REVIEWS = (
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
)


def authorize(user: User, asked: Request, store: Store) -> Decision:
    """Whether `user` may. A create is asked twice: before its body is read and, with `obj`, after."""
    if MASTERS in user.groups:
        return Decision(True)
    if asked.path:
        known = any(asked.path == each or asked.path.startswith(f"{each}/") for each in DISCOVERY)
        if asked.verb == "get" and known:
            return Decision(True)
        return Decision(False, f'User "{user.name}" cannot {asked.verb} path "{asked.path}": only {MASTERS} may')
    if asked.verb == "create" and (asked.group, asked.resource) in SELF_REVIEWS:
        return Decision(True)
    who = []
    for rule in _matching(asked):
        if user.node and (rule.own is None or rule.own(user.node, asked, store)):
            return Decision(True)
        who.append(rule.who)
    others = "".join(f" and {each}" for each in dict.fromkeys(who))
    return Decision(False, f"{_attempt(user, asked)}: only {MASTERS}{others} may")


def guard_event(user: User, created: Request, store: Store) -> None:
    """An event that a node changes may be made as it is then: it is about the node still. Raises ApiError."""
    decision = authorize(user, created, store)
    if user.node and not decision.allowed:
        raise status.forbidden(GroupResource(created.group, created.resource), created.name, decision.reason)


def guard_metadata(user: User, obj: Mapping[str, Any], old: Mapping[str, Any] | None, resource: GroupResource) -> None:
    """A node that reports status changes nothing else on the way: labels say what site a node is of, and so whose
    endpoints are near; owners and finalizers, when objects go. Raises ApiError."""
    if not user.node or old is None:
        return
    new, before = _metadata(obj), _metadata(old)
    for field in ("labels", "ownerReferences", "finalizers"):
        if (new.get(field) or None) != (before.get(field) or None):
            why = f'User "{user.name}" cannot change metadata.{field} through status: only {MASTERS} may'
            raise status.forbidden(resource, str(new.get("name", "")), why)


def resource_rules(user: User, namespace: str) -> list[dict[str, Any]]:
    """What SelfSubjectRulesReview lists for a namespace."""
    if MASTERS in user.groups:
        return [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    found: list[dict[str, Any]] = [
        {"verbs": ["create"], "apiGroups": [group], "resources": [resource]} for group, resource in SELF_REVIEWS
    ]
    for rule in RULES if user.node else ():
        if not rule.namespaces or namespace in rule.namespaces:
            entry: dict[str, Any] = {"verbs": [*rule.verbs], "apiGroups": [rule.group], "resources": [rule.resource]}
            if rule.own is _named:
                entry["resourceNames"] = [user.node]
            found.append(entry)
    return found


def path_rules(user: User) -> list[dict[str, Any]]:
    """The same for paths."""
    if MASTERS in user.groups:
        return [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    return [{"verbs": ["get"], "nonResourceURLs": [path for each in DISCOVERY for path in (each, f"{each}/*")]}]


def _matching(asked: Request) -> list[Rule]:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    return [
        rule
        for rule in RULES
        if asked.verb in rule.verbs
        and rule.group == asked.group
        and rule.resource == resource
        and (not rule.namespaces or asked.namespace in rule.namespaces)
    ]


def _attempt(user: User, asked: Request) -> str:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    text = f'User "{user.name}" cannot {asked.verb} resource "{resource}" in API group "{asked.group}"'
    if asked.namespace:
        return f'{text} in the namespace "{asked.namespace}"'
    return f"{text} at the cluster scope"


def _metadata(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = obj.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}
