"""Devices and routes, in the kernel of a bed's host, read back with `ip`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.lab.namespaces import Bed, Space
from tests.tunnel.bed import ROOT
from tunnel import links, rtnetlink
from tunnel.links import LinkError


@given(st.dictionaries(st.integers(0, 100), st.binary(max_size=40), max_size=8))
def test_attributes_round_trip(values: dict[int, bytes]) -> None:
    data = b"".join(rtnetlink.attribute(kind, value) for kind, value in values.items())
    assert rtnetlink.attributes(data) == values


@given(st.binary(max_size=100))
def test_any_bytes_are_read(data: bytes) -> None:
    rtnetlink.attributes(data)
    assert sum(len(body) for *_, body in rtnetlink.messages(data)) <= len(data)


def test_forwarding_that_cannot_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(links, "FORWARDING", tmp_path / "none" / "ip_forward")
    with pytest.raises(LinkError, match="run 'sysctl"):
        links.enable_forwarding()
    setting = tmp_path / "ip_forward"
    setting.write_text("0\n")
    monkeypatch.setattr(links, "FORWARDING", setting)
    links.enable_forwarding()
    assert setting.read_text() == "1"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Space, Space]]:
    """A host with eth0 and eth9 to a router."""
    with Bed() as bed:
        host, router = bed.host("host"), bed.host("router")
        bed.link(host, "eth0", router, "eth0")
        bed.link(host, "eth9", router, "eth9")
        yield host, router


def run(host: Space, script: str) -> list[str]:
    """Run a few lines inside, with `links` made; what they print."""
    head = "from tunnel.links import *\nlinks = Links()\n"
    done = host.run([sys.executable, "-c", head + script], env={"PYTHONPATH": str(ROOT)})
    return done.stdout.splitlines()


def shown(host: Space, what: str) -> list[dict[str, Any]]:
    found = json.loads(host.run(f"ip -j {what}").stdout)
    assert isinstance(found, list)
    return found


@pytest.mark.bed
def test_a_bridge_is_made_once_and_kept_as_it_should_be(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    make = "links.ensure_bridge('edgemesh0', ['169.254.96.16/32', {}])"
    run(host, make.format("'100.96.0.1/32'"))
    (first,) = shown(host, "-d link show dev edgemesh0")
    assert first["linkinfo"]["info_kind"] == "bridge"
    assert "UP" in first["flags"]
    run(host, make.format("'100.96.0.2/32'"))
    (second,) = shown(host, "link show dev edgemesh0")
    assert first["ifindex"] == second["ifindex"]
    (link,) = shown(host, "addr show dev edgemesh0")
    assert {each["local"] for each in link["addr_info"] if each["family"] == "inet"} == {"169.254.96.16", "100.96.0.2"}


@pytest.mark.bed
def test_a_device_that_is_missing_is_named(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    told = run(host, "try:\n  links.apply_routes('mesh-up', {})\nexcept NoDevice as error: print(error)")
    assert told == ["mesh-up: there is no such device (now)"]


@pytest.mark.bed
def test_routes_are_a_difference_and_only_ours(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    host.run("ip tuntap add mesh mode tun; ip addr add 100.96.1.1/32 dev mesh; ip link set mesh up")
    host.run("ip route add 10.9.0.0/16 dev mesh")

    def apply(desired: dict[str, str]) -> tuple[int, dict[str, str]]:
        (count,) = run(host, f"print(links.apply_routes('mesh', {desired!r}))")
        there = shown(host, "route show dev mesh proto 98")
        return int(count), {each["dst"]: each.get("prefsrc", "") for each in there}

    first = {"10.244.2.0/24": "100.96.1.1", "10.244.3.0/24": "", "100.96.0.2/32": "100.96.1.1"}
    seen = {"10.244.2.0/24": "100.96.1.1", "10.244.3.0/24": "", "100.96.0.2": "100.96.1.1"}
    assert apply(first) == (3, seen)
    assert apply(first) == (0, seen)
    second = {"10.244.2.0/24": "", "10.244.4.7/24": "100.96.1.1"}
    assert apply(second) == (4, {"10.244.2.0/24": "", "10.244.4.0/24": "100.96.1.1"})
    assert run(host, "print(links.routes('mesh'))") == ["{'10.244.2.0/24': '', '10.244.4.0/24': '100.96.1.1'}"]
    host.run("ip link set mesh down")  # its routes go with that; it is brought up again
    assert apply(second) == (2, {"10.244.2.0/24": "", "10.244.4.0/24": "100.96.1.1"})
    host.run("ip route add 10.9.0.0/16 dev mesh")
    assert apply({}) == (2, {})
    assert [each["dst"] for each in shown(host, "route show dev mesh")] == ["10.9.0.0/16"]
    assert run(host, "links.apply_routes('mesh', {'fd01::/64': ''}); print(links.routes('mesh'))") == [
        "{'fd01::/64': ''}"
    ]
    host.run("ip link delete mesh")


@pytest.mark.bed
def test_a_route_of_others_stays_and_keeps_none_of_ours_out(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    host.run("ip route add 10.55.0.0/24 dev eth9")
    script = (
        "desired = {'10.55.0.0/24': '', '10.56.0.0/24': ''}\n"
        "try: links.apply_routes('eth0', desired)\nexcept LinkError as error: print(error)\n"
        "print(links.routes('eth0'))"
    )
    told, ours = run(host, script)
    assert told.startswith("eth0: can't add the route to 10.55.0.0/24: File exists: something else")
    assert ours == "{'10.56.0.0/24': ''}"
    assert [each["dev"] for each in shown(host, "route show 10.55.0.0/24")] == ["eth9"]
    run(host, "links.apply_routes('eth0', {})")


@pytest.mark.bed
def test_errors_say_what_where_and_what_to_do(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    cases = {
        "links.apply_routes('lo', {'10.1.0.0/16': '10.99.99.99'})": (
            "lo: can't add the route to 10.1.0.0/16 from 10.99.99.99: Invalid argument: "
            "the kernel finds it wrong; a source address must be one of this node's own"
        ),
        "links.ensure_bridge('eth0', [])": "eth0: is there, and is no bridge: remove it (ip link delete eth0)",
        "links.ensure_bridge('edgemesh0', ['10.0.0/8'])": "'10.0.0/8' is no address: write it as 10.0.0.1/24",
    }
    for call, wanted in cases.items():
        (told,) = run(host, f"try:\n  {call}\nexcept LinkError as error: print(error)")
        assert told.startswith(wanted)
    script = (
        "from tunnel.links import *\ntry: Links().ensure_bridge('nope0', [])\nexcept LinkError as error: print(error)"
    )
    weak = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all", sys.executable, "-c", script]
    told = host.run(weak, env={"PYTHONPATH": str(ROOT)}).stdout
    assert told == "nope0: can't make the bridge: Operation not permitted: run as root, or grant CAP_NET_ADMIN\n"


@pytest.mark.bed
def test_lan_addresses_are_those_a_neighbour_can_use(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    host.run(
        "ip addr add 192.168.7.2/24 dev eth0; ip addr add 192.168.7.3/24 dev eth0;"
        "ip -6 addr add 2001:db8:7::2/64 dev eth0 nodad;"
        "ip -6 addr add 2001:db8:7::9/64 dev eth0 nodad preferred_lft 0;"
        "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up;"
        "ip link add cni0 type bridge; ip addr add 10.244.1.1/24 dev cni0; ip link set cni0 up;"
        "ip tuntap add othervpn mode tun; ip addr add 10.200.0.1/24 dev othervpn; ip link set othervpn up"
    )
    bed_only = ["['192.168.7.2', '192.168.7.3', '2001:db8:7::2']"]
    assert run(host, "print(links.lan_addresses())") == bed_only
    host.run("ip route add default via 192.168.7.1 metric 200")
    assert run(host, "print(links.lan_addresses())") == bed_only
    host.run("ip addr add 10.9.9.9/24 dev eth9")
    host.run("ip route add default via 10.9.9.1 metric 100")
    assert run(host, "print(links.lan_addresses())") == [
        "['10.9.9.9', '192.168.7.2', '192.168.7.3', '2001:db8:7::2']",
    ]
    host.run("ip route del default metric 200; ip route del default; ip route add default dev othervpn")
    assert run(host, "print(links.lan_addresses())") == [
        "['192.168.7.2', '192.168.7.3', '10.9.9.9', '2001:db8:7::2']",
    ]


WATCH = """
import os, select
changes = links.changes()
ours = {}
def changed(command):
    os.system(command)
    ours[f'10.77.{len(ours)}.0/24'] = ''
    links.apply_routes('eth0', ours)
    return bool(select.select([changes.fileno()], [], [], 1)[0]) and changes.drain()
print(changed('true'))
print(changed('ip addr add 10.66.0.1/24 dev eth0'))
print(changed('true'))
os.system('ip route del 10.77.1.0/24')
print(changes.drain())
os.system('for on in 1 0; do echo $on > /proc/sys/net/ipv4/ip_forward; done')
print(changes.drain())
print(changed('ip route add 10.67.0.0/16 dev eth0'))
print(changed('ip link add watched type bridge'))
print(changes.drain())
"""


@pytest.mark.bed
def test_changes_of_others_are_told_and_our_routes_are_not(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    assert run(host, WATCH) == ["False", "True", "False", "True", "True", "True", "True", "False"]


@pytest.mark.bed
def test_forwarding_is_switched_on(hosts: tuple[Space, Space]) -> None:
    host, _ = hosts
    run(host, "enable_forwarding()")
    assert host.run("cat /proc/sys/net/ipv4/ip_forward").stdout == "1\n"
