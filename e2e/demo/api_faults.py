"""The scenes in which the API is away: what it knew goes on being served, and what happened meanwhile is right after.

As with all faults, bytes move meanwhile. Without an API there is nothing to show.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from e2e.demo.moving import Moving, judged, kib
from e2e.demo.record import Failure, Fault
from e2e.demo.scenes import CATALOG, ORDERS, STOCK
from e2e.demo.stage import NAMESPACE, Stage
from e2e.lab.topology import CLOUD, RESOLVER, Node
from e2e.lab.workloads import Object

LATER = "later"
"""The service that is made once the API is back."""
CALLS = 24
"""So many at once."""
BATCHES = 4
"""Of these at most, until each of the other endpoints has been chosen: the choice is random."""
BACK_WITHIN = 15.0
"""Seconds; a node that has found the API away waits longer each time before it asks again."""


def api_killed(stage: Stage, moving: Moving) -> None:
    """`kill -9` of the API: bytes flow, names resolve; it is back with all it had, and a change arrives everywhere."""
    if stage.manifests:
        return
    cloud = stage.node(CLOUD.name)
    with stage.step("the API killed", "cloud-cloud") as step:
        arrived = 0.0

        def breaking(fault: Fault) -> None:
            nonlocal arrived
            began = time.monotonic()
            starts = cloud.processes()["cloud"]["starts"]
            cloud.kill("cloud")
            answer = stage.shopper.call("lookup", name=STOCK[0])
            if not answer["ok"]:
                raise Failure(f"{STOCK[0]} has no answer without the API: {answer['error']}", "b1-resolver")
            stage.wait("the API started again", lambda: cloud.processes()["cloud"]["starts"] > starts, 3)
            fault.bytes_during = moving.bytes()
            stage.api.wait_ready(10)
            fault.recovery_ms = (time.monotonic() - began) * 1000
            made = time.monotonic()
            stage.cluster.publish(_service(LATER, "orders", ORDERS[1]))
            for node in stage.topology:
                stage.wait(f"{LATER}.{NAMESPACE} on {node.name}", partial(_named, node), 6, f"{node.name}-agent")
            answer = stage.shopper.until_ok("http", 5, name=f"{LATER}.{NAMESPACE}", port=ORDERS[1])
            if not answer["ok"]:
                raise Failure(f"{LATER}.{NAMESPACE} does not answer: {answer['error']}", "b1-agent")
            arrived = (time.monotonic() - made) * 1000

        judged(stage, step, "direct" if stage.direct else "relayed", "cloud", moving, breaking)
        step.detail += f"; a service made then was known on all nodes, and called, {arrived:.0f} ms after"


def _service(name: str, app: str, port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": port}]},
    }


def _named(node: Node) -> bool:
    question = f"{LATER}.{NAMESPACE}.svc.cluster.local"
    asked = ["dig", "+short", "+tries=1", "+time=1", f"@{RESOLVER}", question]
    return node.space.run(asked, check=False).stdout[:1].isdigit()


def endpoint_dies(stage: Stage, moving: Moving) -> None:
    """An endpoint of three dies while the API is away: nobody can tell the other nodes; calls to the others go on."""
    if stage.manifests:
        return
    cloud = stage.node(CLOUD.name)
    with stage.step("the API away while an endpoint dies", "cloud-cloud") as step:
        victim = next(
            pod for pod in stage.workloads.pods.values() if pod.name.startswith("catalog") and pod.node.name != "b1"
        )
        others = {pod.name for pod in stage.workloads.pods.values() if pod.name.startswith("catalog")} - {victim.name}
        answered: Counter[str] = Counter()
        lost = 0

        def breaking(fault: Fault) -> None:
            nonlocal lost
            cloud.stop("cloud")
            victim.space.kill()
            while not others <= set(answered) and answered.total() + lost < BATCHES * CALLS:
                found = _calls(stage)
                answered.update(found)
                lost += CALLS - found.total()
            moving.expect_moving("the API is away")
            fault.bytes_during = moving.bytes()
            if not others <= set(answered):
                raise Failure(f"without the API only {set(answered) or 'nobody'} answers for {CATALOG[0]}", "b1-agent")
            began = time.monotonic()
            cloud.start_service("cloud")
            stage.api.wait_ready(10)
            stage.wait("the slice is right", lambda: _ready(stage, victim.address) is False, 6, "cloud-cloud")
            all_answered = f"all calls of {CATALOG[0]} answered"
            stage.wait(all_answered, lambda: _calls(stage).total() == CALLS, BACK_WITHIN, "b1-agent")
            fault.recovery_ms = (time.monotonic() - began) * 1000

        judged(stage, step, "direct" if stage.direct else "relayed", "cloud", moving, breaking)
        fault = stage.record.faults[-1]
        step.detail = (
            f"{victim.name} on {victim.node.name}: {answered.total()} of {answered.total() + lost} calls went on, to "
            f"{' and '.join(sorted(others))}; all of them {fault.recovery_ms:.0f} ms after the API's start; "
            f"{kib(fault.bytes_during)} during, longest gap {fault.longest_gap_ms:.0f} ms"
        )


def _calls(stage: Stage) -> Counter[str]:
    """Who answers so many calls at once, a second each."""

    def call(_: int) -> str:
        answer = stage.shopper.call("http", name=CATALOG[0], port=CATALOG[1], timeout=1)
        return str(answer["body"]).strip() if answer["ok"] else ""

    with ThreadPoolExecutor(CALLS) as pool:
        return Counter(filter(None, pool.map(call, range(CALLS))))


def _ready(stage: Stage, address: str) -> bool | None:
    """What the service's EndpointSlices say of an endpoint; None while the API does not answer."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    slices = stage.api.list(f"{path}?labelSelector=kubernetes.io/service-name%3D{CATALOG[0].partition('.')[0]}")
    found = [endpoint for each in slices for endpoint in each["endpoints"] or ()]
    ready = {text: endpoint["conditions"].get("ready", True) for endpoint in found for text in endpoint["addresses"]}
    return bool(ready.get(address)) if slices else None
