"""The scenes of coming up: nodes join the cloud, the sites come up, a first call goes over the relay, then directly."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from e2e.demo.scenes import ORDERS
from e2e.demo.stage import NAMESPACE, Stage, settled, told
from e2e.lab.caller import Caller
from e2e.lab.cluster import Cluster
from e2e.lab.routers import Reach
from e2e.lab.topology import CLOUD, RESOLVER, Node
from e2e.lab.workloads import Directory, Pod

DRAWING = """
             internet 198.18.0.0/15, with a DNS server for all other names
                  |                       |                       |
        192.0.2.10|           203.0.113.30|          198.51.100.20|
         [ router A ]{cloud:^38}[ router B ]
       {a:<15}                                    {b:<15}
                  |                                               |
       site A, 192.168.1.0/24                          site B, 192.168.2.0/24
         |                |                                       |
       [ a1 ]           [ a2 ]                                  [ b1 ]
"""
"""How the topology looks; the pods of each node follow below it."""


def drawing(stage: Stage, pods: list[Pod]) -> str:
    """The topology with this run's routers and pods."""
    columns = {name: [pod.name for pod in pods if pod.node.name == name] for name in ("a1", "a2", "b1")}
    rows = max(len(names) for names in columns.values())
    filled = {name: names + [""] * (rows - len(names)) for name, names in columns.items()}
    for name, column in filled.items():
        column.insert(0, stage.node(name).pod_range)
    cloud = "relay" if stage.manifests else "API, relay"
    text = DRAWING.format(a=str(stage.nat_a), b=str(stage.nat_b), cloud=f"[ cloud: {cloud} ]")
    for row in range(rows + 1):
        text += f"       {filled['a1'][row]:<16} {filled['a2'][row]:<39} {filled['b1'][row]}\n"
    return text


def come_up(stage: Stage) -> bool:
    """The bed, the cloud and the nodes, the workloads, site A; false when there is nothing to go on with."""
    with stage.step("an internet, a cloud host and two sites behind NAT") as step:
        stage.build()
        step.detail = f"routers: {stage.nat_a} at site A, {stage.nat_b} at site B"
    if not step.ok or not (described(stage) if stage.manifests else joined(stage)):
        return False
    with stage.step("examples/ applied") as step:
        pods, how = stage.apply_examples()
        stage.screen.drawing(drawing(stage, pods))
        stage.shopper = Caller(stage.workloads.pod("shopper", NAMESPACE))
        step.detail = f"{how}; {len(pods)} pods run, each a namespace behind its node's bridge"
    if not step.ok:
        return False
    with stage.step("the processes of site A and the cloud") as step:
        here = [stage.node(name) for name in ("cloud", "a1", "a2")]
        for node in here:
            node.start_services()
        for node in here:
            stage.wait(f"the resolver on {node.name}", partial(_resolves, node), 5, f"{node.name}-resolver")
        for node in here:
            stage.wait(f"{node.name} healthy", partial(_healthy, node), 8, f"{node.name}-agent")
        if isinstance(stage.cluster, Cluster):
            stage.cluster.learn()
        step.detail = f"{', '.join(node.name for node in here)} healthy"
    return step.ok


def described(stage: Stage) -> bool:
    """Without an API: every node has its own key and knows the others by their files."""
    with stage.step("every node makes its key", "cloud-agent") as step:
        assert isinstance(stage.cluster, Directory)
        stage.cluster.publish_nodes()
        step.detail = f"{len(stage.cluster.keys)} MeshNodes, copied to all nodes' manifests"
    return step.ok


def joined(stage: Stage) -> bool:
    """The cloud's API, a token, and all nodes by it."""
    nodes = list(stage.topology)
    names = ", ".join(node.name for node in nodes)
    with stage.step("edgemesh cloud: the API, joining, the controllers", "cloud-cloud") as step:
        step.detail = f"a new cluster; its API is ready {stage.api.start():.0f} ms after the start"
    if not step.ok:
        return False
    with stage.step("a token for new nodes", "cloud-cloud") as step:
        command = stage.api.token()
        step.detail = re.sub(r"(--token \w+\.)\w+\.(\w{6})\w+", r"\1….\2…", command)
    if not step.ok:
        return False
    with stage.step(f"{names} join by it", "cloud-cloud") as step:
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(lambda node: stage.api.join(node, command), nodes))
        step.detail = "each made its key, and has a certificate for it"
    if not step.ok:
        return False
    with stage.step("all nodes Ready", "cloud-cloud") as step:
        stage.api.wait_nodes([node.name for node in nodes])
        step.detail = ", ".join(f"{node.name} {node.pod_range}" for node in nodes)
    return step.ok


def _healthy(node: Node) -> bool:
    return bool(node.status().get("healthy"))


def _resolves(node: Node) -> bool:
    return (
        node.space.run(["dig", "+tries=1", "+time=1", f"@{RESOLVER}", "www.example.com"], check=False).returncode == 0
    )


def first_call(stage: Stage) -> bool:
    """Site B starts from nothing: a first call by name, over the relay, then the direct path; false without a call."""
    b1 = stage.node("b1")
    name, port = ORDERS
    with stage.step("site B starts, and its first call by name is answered", "b1-agent") as step:
        start = time.monotonic()
        b1.start_services()
        answer = stage.shopper.until_ok("http", 10, name=name, port=port)
        since = (time.monotonic() - start) * 1000
        sent_to = stage.endpoints("b1")  # at once: a direct path may be proven any moment
        call = stage.add_call("first call", stage.shopper, f"http://{name}:{port}", answer)
        if sent_to.get(call.node, "").startswith(f"{CLOUD.address}:"):
            call.path, call.round_trip_ms = "relayed", None
        step.ms = stage.record.measured["first_call_ms"] = since
        step.detail = f"{since:.0f} ms after the start of b1's processes; {told(call)}"
    if not step.ok:
        return False
    with stage.step(f"the path between the sites: {_wanted(stage)}", "b1-agent") as step:
        patience, more = (4, 0) if stage.reach is Reach.EITHER else (8, 2)
        path = settled(stage, "b1", "a1", patience)
        # the other paths were looked for at the same time, so most of the patience is used up
        others = [settled(stage, source, target, more) for source, target in (("b1", "a2"), ("a1", "b1"), ("a2", "b1"))]
        stage.direct = {path, *others} == {"direct"}
        if stage.direct:
            stage.record.measured["direct_path_ms"] = (time.monotonic() - start) * 1000
        step.detail = f"{path}, {(time.monotonic() - start) * 1000:.0f} ms after the start; both ends agree"
    if isinstance(stage.cluster, Cluster):
        stage.cluster.learn()
    return True


def _wanted(stage: Stage) -> str:
    return "direct or relayed" if stage.reach is Reach.EITHER else str(stage.reach)
