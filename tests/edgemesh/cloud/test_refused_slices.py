"""What the cloud says of a service whose slices its API refuses."""

from __future__ import annotations

from pathlib import Path

from tests.edgemesh.cloud.clouds import embedded


def test_a_slice_that_is_refused_is_told_once_and_when_it_is_over(tmp_path: Path) -> None:
    """In a namespace that is being deleted none is made any more, while a finalizer keeps the service."""
    namespace = "/api/v1/namespaces/going"
    service = f"{namespace}/services/held"
    spec = {"selector": {"app": "held"}, "ports": [{"port": 80}]}
    metadata = {"name": "held", "finalizers": ["example.org/held"]}
    with embedded(tmp_path) as cloud:

        def told() -> list[str]:
            return [line for line in cloud.log.read_text().splitlines() if "endpoints of Service going/held" in line]

        cloud.ask("create", "/api/v1/namespaces", {"metadata": {"name": "going"}})
        cloud.ask("create", f"{namespace}/services", {"metadata": metadata, "spec": spec})
        slices = "/apis/discovery.k8s.io/v1/namespaces/going/endpointslices"
        cloud.wait(lambda: cloud.ask("list", slices)["items"], "a slice")
        assert not told()
        cloud.ask("delete", namespace)
        cloud.wait(told, "a refusal")
        for number in range(10):  # each has the cloud look again, and the API make up another name
            cloud.ask("patch", service, {"metadata": {"labels": {"number": str(number)}}})
        cloud.ask("patch", service, {"metadata": {"finalizers": None}})
        cloud.wait(lambda: len(told()) > 1, "the end")
        refusal, over = told()
        assert refusal.startswith("WARNING edgemesh.cloud: endpoints of Service going/held: endpointslices")
        assert refusal.endswith("because it is being terminated: tried again")
        assert over == "INFO edgemesh.cloud: endpoints of Service going/held: done, after it had failed"
