"""The mesh's own kinds and namespace in an API, as far as tests of nodes need them."""

from __future__ import annotations

from typing import Any

import trio

from sync.client.connection import Api, ApiStatus

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def _crd(group: str, version: str, kind: str, plural: str, scope: str) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


KINDS = (
    _crd("edgemesh.kubeedge.io", "v1alpha1", "MeshNode", "meshnodes", "Cluster"),
    _crd("networking.istio.io", "v1alpha3", "DestinationRule", "destinationrules", "Namespaced"),
)


async def make_crds(api: Api) -> None:
    """Make what is missing, and wait until it is served."""
    wanted = [(CRDS, crd) for crd in KINDS]
    for path, obj in [*wanted, ("/api/v1/namespaces", {"metadata": {"name": "edgemesh-system"}})]:
        try:
            await api.create(path, obj)
        except ApiStatus as error:
            if error.code != 409:
                raise
    for crd in KINDS:
        spec = crd["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        with trio.fail_after(20):
            while True:
                try:
                    await api.get(path)
                    break
                except ApiStatus:
                    await trio.sleep(0.05)
