"""OpenAPI v3: the index with hashes and a document a group version; and which Kubernetes this says it is."""

from __future__ import annotations

from typing import Any

from sync.api.registry import Registry


def index(registry: Registry) -> dict[str, Any]:
    """/openapi/v3: {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=…"}}}."""
    raise NotImplementedError


def document(registry: Registry, group: str, version: str) -> tuple[bytes, str] | None:
    """(the document gzipped, its hash), or None if it is not served."""
    raise NotImplementedError


def version() -> dict[str, str]:
    """/version."""
    raise NotImplementedError
