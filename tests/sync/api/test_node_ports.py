"""What becomes of a service's node ports when it changes: which stay, which go, which are refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.sync.api.apis import Api

CORE = "/api/v1/namespaces"


class Port(NamedTuple):
    """`number`: "a" or "b" is the one that the port of that name had, "free" one that nobody has, empty none."""

    name: str
    port: int
    number: str = ""


A, B = Port("a", 80), Port("b", 81)
UNALLOCATED = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}
CASES: dict[str, tuple[dict[str, Any], list[Port], list[str]]] = {
    "a number stays with the name": ({}, [Port("a", 90), Port("b", 91)], ["a", "b"]),
    "names that change places": ({}, [Port("b", 80), Port("a", 81)], ["b", "a"]),
    "other names": ({}, [Port("x", 80), Port("y", 81)], ["new", "new"]),
    "a number for another port": ({}, [Port("a", 80, "b"), B], ["b", "new"]),
    "no more of them": ({"type": "ClusterIP"}, [A, B], ["", ""]),
    "no more of them, said again": ({"type": "ClusterIP"}, [Port("a", 80, "a"), Port("b", 81, "b")], ["", ""]),
    "no more of them, exchanged": ({"type": "ClusterIP"}, [Port("a", 80, "b"), Port("b", 81, "a")], ["", ""]),
    "no more of them, of one port": ({"type": "ClusterIP"}, [Port("a", 80, "a")], [""]),
    "a new one where none may be": ({"type": "ClusterIP"}, [Port("a", 80, "free"), B], []),
    "a balancer without": (UNALLOCATED, [A, B], ["", ""]),
    "a balancer that has them": (UNALLOCATED, [Port("a", 80, "a"), Port("b", 81, "b")], ["a", "b"]),
    "a balancer with": ({"type": "LoadBalancer"}, [A, B], ["a", "b"]),
}


def made(api: Api, path: str, name: str) -> dict[str, int]:
    """The numbers of a new service with ports a and b."""
    spec = {"type": "NodePort", "ports": [{"name": each.name, "port": each.port} for each in (A, B)]}
    ports = api.create(path, {"metadata": {"name": name}, "spec": spec})["spec"]["ports"]
    return {port["name"]: port["nodePort"] for port in ports}


@pytest.mark.parametrize("case", CASES)
def test_an_update(api: Api, case: str) -> None:
    more, ports, expected = CASES[case]
    path = f"{CORE}/{api.namespace()}/services"
    had, free = made(api, path, "s"), made(api, path, "other")["a"]
    assert api.request("DELETE", f"{path}/other").code == 200
    numbers = {**had, "free": free, "": None}
    wanted = [{"name": each.name, "port": each.port, "nodePort": numbers[each.number]} for each in ports]
    reply = api.patch(f"{path}/s", {"spec": {**more, "ports": wanted}})
    if not expected:
        assert reply.code == 422
        assert "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'" in reply.message
        return
    names = {number: name for name, number in had.items()}
    found = [port.get("nodePort") for port in reply.object["spec"]["ports"]]
    assert [names.get(number, "new") if number else "" for number in found] == expected


def test_a_number_for_health_checks(api: Api) -> None:
    """Given without numbers for ports too; one that is taken, or outside the range, is refused."""
    path = f"{CORE}/{api.namespace()}/services"
    taken = made(api, path, "s")["a"]
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    for number, why in ((taken, "already allocated"), (80, "not in the valid range")):
        reply = api.patch(f"{path}/s", {"spec": {**local, "healthCheckNodePort": number}})
        assert reply.code == (400 if api.embedded else 500)
        assert f"HealthCheck NodePort {number}: provided port is {why}" in reply.message
    balanced = api.patch(f"{path}/s", {"spec": {**local, "allocateLoadBalancerNodePorts": False}}).object["spec"]
    number = balanced["healthCheckNodePort"]
    assert 30000 <= number <= 32767
    assert (
        api.patch(f"{path}/s", {"spec": {"sessionAffinity": "ClientIP"}}).object["spec"]["healthCheckNodePort"]
        == number
    )
    inner = api.patch(f"{path}/s", {"spec": {"type": "ClusterIP"}}).object["spec"]
    assert "healthCheckNodePort" not in inner
