"""The scenes of calls: every kind of call from site B.

Names, ports and pages are those of `examples/`.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import Any

from e2e.demo.record import Failure
from e2e.demo.stage import NAMESPACE, Stage, told
from e2e.lab.caller import Caller
from e2e.lab.topology import RESOLVER

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
