"""The scenes before anything breaks: the sites come up, a call goes over the relay, then directly, then all kinds.

Names, ports and pages are those of `examples/`.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

from e2e.demo.record import Failure
from e2e.demo.stage import EXAMPLES, NAMESPACE, Stage, settled, told
from e2e.lab.caller import Caller
from e2e.lab.routers import Reach
from e2e.lab.topology import CLOUD, RESOLVER, Node
from e2e.lab.workloads import Pod

ORDERS = ("orders.shop", 8080)
CATALOG = ("catalog.shop", 80)
ECHO = ("echo.shop", 7)
ECHO_UDP = ("echo-udp.shop", 7)
STOCK = ("stock.shop", 9000)
STOCK_SRV = "_inventory._tcp.stock.shop.svc.cluster.local"

CATALOG_ENDPOINTS = 3
CATALOG_CALLS = 30
SERIES = 200
FOUR_MEBIBYTES = 4 << 20

DRAWING = """
             internet 198.18.0.0/15, with a DNS server for all other names
                  |                       |                       |
        192.0.2.10|           203.0.113.30|          198.51.100.20|
         [ router A ]             [ cloud: relay ]         [ router B ]
       {a:<15}                                    {b:<15}
                  |                                               |
       site A, 192.168.1.0/24                          site B, 192.168.2.0/24
         |                |                                       |
       [ a1 ]           [ a2 ]                                  [ b1 ]
       10.244.2.0/24    10.244.3.0/24                           10.244.4.0/24
"""
"""How the topology looks; the pods of each node follow below it."""


def drawing(stage: Stage, pods: list[Pod]) -> str:
    """The topology with this run's routers and pods."""
    columns = {name: [pod.name for pod in pods if pod.node.name == name] for name in ("a1", "a2", "b1")}
    rows = max(len(names) for names in columns.values())
    filled = {name: names + [""] * (rows - len(names)) for name, names in columns.items()}
    text = DRAWING.format(a=str(stage.nat_a), b=str(stage.nat_b))
    for row in range(rows):
        text += f"       {filled['a1'][row]:<16} {filled['a2'][row]:<39} {filled['b1'][row]}\n"
    return text


def come_up(stage: Stage) -> bool:
    """The bed, the nodes, the workloads of site A and the cloud; false when there is nothing to go on with."""
    with stage.step("an internet, a cloud host and two sites behind NAT") as step:
        stage.build()
        step.detail = f"routers: {stage.nat_a} at site A, {stage.nat_b} at site B"
    if not step.ok:
        return False
    with stage.step("every node makes its key", "cloud-agent") as step:
        stage.introduce()
        step.detail = f"{len(stage.keys)} MeshNodes, copied to all nodes' manifests"
    if not step.ok:
        return False
    with stage.step("examples/ applied, site A and the cloud up") as step:
        pods = stage.workloads.schedule(sorted(EXAMPLES.glob("*.yaml")))
        stage.screen.drawing(drawing(stage, pods))
        here = [stage.node(name) for name in ("cloud", "a1", "a2")]
        for node in here:
            node.start_services()
        for node in here:
            stage.wait(f"the resolver on {node.name}", partial(_resolves, node), 5, f"{node.name}-resolver")
        stage.workloads.run(pod for pod in pods if pod.node in here)
        stage.workloads.run([stage.workloads.pod("shopper", NAMESPACE)])
        stage.shopper = Caller(stage.workloads.pod("shopper", NAMESPACE))
        for node in here:
            stage.wait(f"{node.name} healthy", partial(_healthy, node), 8, f"{node.name}-agent")
        step.detail = f"{len(pods)} pods, each a namespace behind its node's bridge"
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
    with stage.step("the pods of site B", "b1-resolver") as step:
        rest = [pod for pod in stage.workloads.of("b1") if pod.space is None]
        stage.workloads.run(rest)
        step.detail = ", ".join(pod.name for pod in rest)
    return True


def _wanted(stage: Stage) -> str:
    return "direct or relayed" if stage.reach is Reach.EITHER else str(stage.reach)


def calls(stage: Stage) -> None:
    """Every kind of call from site B."""
    shopper = stage.shopper
    plain: tuple[tuple[str, str, tuple[str, int], dict[str, Any]], ...] = (
        ("HTTP by name", "http", ORDERS, {}),
        ("TCP", "tcp", ECHO, {"text": "over the mesh"}),
        ("UDP", "udp", ECHO_UDP, {"text": "over the mesh"}),
    )
    for title, kind, (name, port), more in plain:
        with stage.step(title, "b1-agent") as step:
            answer = shopper.call(kind, name=name, port=port, **more)
            protocol = "udp" if kind == "udp" else "tcp"
            call = stage.add_call(title, shopper, f"{kind}://{name}:{port}", answer, protocol)
            step.detail = told(call)
            if not call.endpoint:
                raise Failure(f"conntrack on b1 knows no endpoint for {name}", "b1-agent")
    with stage.step("headless name", "b1-resolver") as step:
        pods = {stage.workloads.pod(f"stock-{index}", NAMESPACE).address for index in range(2)}
        # the second pod has only just become ready
        answer = shopper.until_ok("lookup", 2, name=STOCK[0])
        with suppress(Failure):
            stage.wait("both", lambda: set(shopper.call("lookup", name=STOCK[0]).get("answers", [])) == pods, 2)
            answer = shopper.call("lookup", name=STOCK[0])
        call = stage.add_call("headless name", shopper, STOCK[0], answer)
        if set(call.answers) != pods:
            raise Failure(f"{STOCK[0]} is {call.answers}, its pods have {sorted(pods)}")
        one = shopper.call("tcp", name=f"stock-0.{STOCK[0]}", port=STOCK[1], text="")
        call = stage.add_call("one pod of a headless service", shopper, f"stock-0.{STOCK[0]}", one)
        step.detail = f"{STOCK[0]} is {', '.join(sorted(pods))}; stock-0 says {one['body'].strip()}"
    with stage.step("SRV", "b1-resolver") as step:
        answer = shopper.call("srv", name=STOCK_SRV, server=RESOLVER)
        call = stage.add_call("SRV", shopper, STOCK_SRV, answer)
        targets = answer["targets"]
        call.answers = [f"{target['target']}:{target['port']}" for target in targets]
        if len(targets) != 2 or {target["port"] for target in targets} != {STOCK[1]}:
            raise Failure(f"{STOCK_SRV} is {call.answers}, not two targets with port {STOCK[1]}")
        step.detail = f"{STOCK_SRV} is {', '.join(call.answers)} ({answer['ms']:.1f} ms)"
    with stage.step("three endpoints in both sites", "b1-agent") as step:
        step.detail = _spread(stage)
    with stage.step("from the node itself (host network)", "b1-agent") as step:
        on_node = Caller(stage.node("b1"))
        answer = on_node.call("http", name=ORDERS[0], port=ORDERS[1])
        step.detail = told(stage.add_call("from the node itself", on_node, f"http://{ORDERS[0]}:{ORDERS[1]}", answer))
    with stage.step("between two pods of one node", "a1-agent") as step:
        orders = stage.workloads.pod("orders", NAMESPACE)
        neighbour = next(pod for pod in stage.workloads.of(orders.node.name) if pod is not orders)
        caller = Caller(neighbour)
        answer = caller.call("http", name=ORDERS[0], port=ORDERS[1])
        step.detail = f"{neighbour.name} calls orders: " + told(
            stage.add_call("between two pods of one node", caller, f"http://{ORDERS[0]}:{ORDERS[1]}", answer)
        )
    with stage.step("how fast") as step:
        series = shopper.call("series", name=ORDERS[0], port=ORDERS[1], count=SERIES, timeout=5)
        large = shopper.call("http", name=ORDERS[0], port=ORDERS[1], path=f"/bytes/{FOUR_MEBIBYTES}", timeout=10)
        if not series["ok"] or not large["ok"] or large["size"] != FOUR_MEBIBYTES:
            raise Failure(f"HTTP: {series.get('error') or large.get('error') or 'a body is short'}", "b1-engine")
        stage.record.measured["keep_alive_us"] = series["median_ms"] * 1000
        stage.record.measured["four_mebibytes_ms"] = large["answer_ms"] + large["connect_ms"]
        step.detail = f"keep-alive request {series['median_ms'] * 1000:.0f} µs, 4 MiB {large['answer_ms']:.1f} ms"


def _spread(stage: Stage) -> str:
    name, port = CATALOG
    pods = {pod.name for pod in stage.workloads.pods.values() if pod.name.startswith("catalog")}
    counts: Counter[str] = Counter()
    first = None
    deadline = time.monotonic() + 5
    while (sum(counts.values()) < CATALOG_CALLS or set(counts) < pods) and time.monotonic() < deadline:
        answer = stage.shopper.call("http", name=name, port=port)
        if not answer["ok"] or first is None:
            first = stage.add_call("three endpoints", stage.shopper, f"http://{name}:{port}", answer)
        counts[answer["body"].strip()] += 1
    spread = ", ".join(f"{pod} {count}" for pod, count in sorted(counts.items()))
    if set(counts) != pods or len(pods) != CATALOG_ENDPOINTS:
        raise Failure(f"{sum(counts.values())} calls of {name} reached {spread}; its pods are {sorted(pods)}")
    return f"{sum(counts.values())} calls of {name}: {spread}"
