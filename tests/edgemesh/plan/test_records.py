"""Names by Kubernetes' DNS specification."""

from dns.records import Name, Srv, Zone
from edgemesh.config import Config
from edgemesh.plan.peers import Mesh
from edgemesh.plan.records import names, zones
from sync.resources.kinds import EndpointSlice, Service
from tests.edgemesh.objects import endpoint, piece, service

MESH = Mesh(addresses={"b": "10.222.0.2"}, hosts={"b": frozenset({"192.0.2.2"})})


def look(found: Service, address: str = "", *pieces: EndpointSlice) -> dict[str, Name]:
    given = names(found, address, pieces, MESH, "cluster.local")
    assert len({name.name for name in given}) == len(given)
    return {name.name: name for name in given}


def test_service_with_an_address() -> None:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    assert list(look(service(ports=ports), "10.96.7.8", piece(endpoint("10.244.1.2"))).values()) == [
        Name("orders.shop.svc.cluster.local", a=("10.96.7.8",)),
        Name("8.7.96.10.in-addr.arpa", ptr=("orders.shop.svc.cluster.local",)),
        Name("_http._tcp.orders.shop.svc.cluster.local", srv=(Srv("orders.shop.svc.cluster.local", 80),)),
        Name("_dns._udp.orders.shop.svc.cluster.local", srv=(Srv("orders.shop.svc.cluster.local", 53),)),
    ]


def test_unnamed_port_has_no_srv_and_no_address_no_name() -> None:
    assert len(look(service(ports=[{"port": 80}]), "10.96.7.8")) == 2
    assert look(service()) == {}


def test_headless() -> None:
    slices = [
        piece(
            endpoint("10.244.2.2", "b", hostname="stock-1"),
            endpoint("10.244.1.2", "a"),
            endpoint("10.244.1.3", "a", ready=False),
            endpoint("192.0.2.2", "b", hostname="host"),
            endpoint("10.244.9.9", hostname="old", ready=None),
        ),
        piece(endpoint("10.244.1.2", "a"), name="second", ports=[{"name": "http", "port": 9090}]),
    ]
    base = "orders.shop.svc.cluster.local"
    assert look(service(clusterIP="None"), "", *slices) == {
        name.name: name
        for name in (
            Name(base, a=("10.222.0.2", "10.244.1.2", "10.244.2.2", "10.244.9.9")),
            Name(f"stock-1.{base}", a=("10.244.2.2",)),
            Name(f"10-244-1-2.{base}", a=("10.244.1.2",)),
            Name(f"host.{base}", a=("10.222.0.2",)),
            Name(f"old.{base}", a=("10.244.9.9",)),
            Name(
                f"_http._tcp.{base}",
                srv=(
                    Srv(f"10-244-1-2.{base}", 8080),
                    Srv(f"10-244-1-2.{base}", 9090),
                    Srv(f"host.{base}", 8080),
                    Srv(f"old.{base}", 8080),
                    Srv(f"stock-1.{base}", 8080),
                ),
            ),
            Name("2.2.244.10.in-addr.arpa", ptr=(f"stock-1.{base}",)),
            Name("2.1.244.10.in-addr.arpa", ptr=(f"10-244-1-2.{base}",)),
            Name("2.0.222.10.in-addr.arpa", ptr=(f"host.{base}",)),
            Name("9.9.244.10.in-addr.arpa", ptr=(f"old.{base}",)),
        )
    }


def test_headless_without_ready_endpoints_has_no_name() -> None:
    slices = piece(endpoint("10.244.1.2", ready=False))
    assert look(service(clusterIP="None"), "", slices) == {}
    published = look(service(clusterIP="None", publishNotReadyAddresses=True), "", slices)
    assert published["orders.shop.svc.cluster.local"].a == ("10.244.1.2",)


def test_headless_of_both_families() -> None:
    six = piece(endpoint("fd00::5"), name="six", addressType="IPv6")
    name = piece(endpoint("x.example"), name="fqdn", addressType="FQDN")
    found = look(service(clusterIP="None"), "", piece(endpoint("10.244.1.2")), six, name)
    base = found["orders.shop.svc.cluster.local"]
    assert (base.a, base.aaaa) == (("10.244.1.2",), ("fd00::5",))
    assert found["fd00--5.orders.shop.svc.cluster.local"].aaaa == ("fd00::5",)
    assert len(next(name for name in found if name.endswith("ip6.arpa")).split(".")) == 34


def test_external_name() -> None:
    found = look(service(type="ExternalName", externalName="Db.Example."))
    assert list(found.values()) == [Name("orders.shop.svc.cluster.local", cname="db.example")]


def test_zones() -> None:
    config = Config(node_name="a", service_range="10.96.0.0/14", pod_range="10.244.0.0/16", mesh_range="10.222.0.0/26")
    assert zones(config) == (
        Zone("cluster.local", pods=True),
        Zone("96.10.in-addr.arpa"),
        Zone("97.10.in-addr.arpa"),
        Zone("98.10.in-addr.arpa"),
        Zone("99.10.in-addr.arpa"),
        Zone("244.10.in-addr.arpa"),
        Zone("0.222.10.in-addr.arpa"),
    )
    six = Config(node_name="a", service_range="fd00:96::/108", pod_range="10.244.0.0/16", mesh_range="10.222.0.0/16")
    assert zones(six)[1] == Zone("0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa")
    assert len(zones(Config(node_name="a"))) == 1 + 16 + 1 + 1
