"""Objects, good and bad: what this API and Kubernetes' own must say the same of."""

from tests.sync.api.cases.case import Case
from tests.sync.api.cases.custom import definitions, shirts
from tests.sync.api.cases.others import config, namespaces, nodes, others, slices
from tests.sync.api.cases.pods import pods
from tests.sync.api.cases.services import metadata, services

__all__ = ["GROUPS", "Case"]

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
