"""Whether an object can be: names, types, required fields, enums, what may not change; in Kubernetes' words.

Takes an object after `prune_and_default` and the strategy, gives causes. Files in reading order: fields (how a fault is
said), names (syntax), metadata; then a file a kind or a few: service, pod, cluster (nodes, namespaces, leases), config
(config maps, secrets), endpoint_slice, event, signing_request, review, definition (CRDs), custom (their objects).

Rules and texts are those of Kubernetes 1.34; what is left out is said where it would stand. A custom resource's rules
in CEL (`x-kubernetes-validations`) are kept and not evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from sync.api.registry import ResourceType
from sync.api.status import Cause

_RULES = {
    ("", "Binding"): "pod.binding",
    ("", "ConfigMap"): "config.config_map",
    ("", "Event"): "event.core_event",
    ("", "Namespace"): "cluster.namespace",
    ("", "Node"): "cluster.node",
    ("", "Pod"): "pod.pod",
    ("", "Secret"): "config.secret",
    ("", "Service"): "service.service",
    ("", "ServiceAccount"): "config.service_account",
    ("apiextensions.k8s.io", "CustomResourceDefinition"): "definition.definition",
    ("authentication.k8s.io", "SelfSubjectReview"): "review.any_review",
    ("authorization.k8s.io", "SelfSubjectAccessReview"): "review.access_review",
    ("authorization.k8s.io", "SelfSubjectRulesReview"): "review.any_review",
    ("authorization.k8s.io", "SubjectAccessReview"): "review.access_review",
    ("certificates.k8s.io", "CertificateSigningRequest"): "signing_request.signing_request",
    ("coordination.k8s.io", "Lease"): "cluster.lease",
    ("discovery.k8s.io", "EndpointSlice"): "endpoint_slice.endpoint_slice",
    ("events.k8s.io", "Event"): "event.new_event",
}
"""Where each kind's rule is; imported when the first object of the kind comes."""

Rule = Callable[[Mapping[str, Any], Mapping[str, Any] | None, str], list[Cause]]


def validate(obj: dict[str, Any], old: dict[str, Any] | None, type: ResourceType, subresource: str = "") -> list[Cause]:
    """All faults of an object after prune_and_default and the strategy's preparation; of an update with `old` given,
    through `subresource` or the main endpoint."""
    if type.custom:
        from sync.api.validation.custom import custom_object

        return custom_object(obj, old, type, subresource)
    module, _, name = _RULES[type.group, type.kind].partition(".")
    rule: Rule = getattr(import_module(f"{__name__}.{module}"), name)
    return rule(obj, old, subresource)
