"""What several tests of the resolver share."""

from __future__ import annotations

import pytest

from dns.records import Name, Srv, Zone
from dns.table import Table

SHOP = (
    Name("orders.shop.svc.cluster.local", a=("10.96.0.10",)),
    Name("_http._tcp.orders.shop.svc.cluster.local", srv=(Srv("orders.shop.svc.cluster.local", 8080),)),
    Name("10.0.96.10.in-addr.arpa", ptr=("orders.shop.svc.cluster.local",)),
    Name("db.shop.svc.cluster.local", a=("10.244.1.2", "10.244.1.3", "10.244.2.4")),
    Name("db-0.db.shop.svc.cluster.local", a=("10.244.1.2",)),
    Name("six.shop.svc.cluster.local", a=("10.96.0.6",), aaaa=("fd00::6",)),
    Name("paid.shop.svc.cluster.local", cname="pay.example.com"),
    Name("alias.shop.svc.cluster.local", cname="orders.shop.svc.cluster.local"),
    Name("loop-a.shop.svc.cluster.local", cname="loop-b.shop.svc.cluster.local"),
    Name("loop-b.shop.svc.cluster.local", cname="loop-a.shop.svc.cluster.local"),
)
ZONES = (Zone("cluster.local", pods=True), Zone("96.10.in-addr.arpa"))


@pytest.fixture
def table() -> Table:
    """A table of a small shop."""
    table = Table()
    assert table.replace(ZONES, SHOP) == []
    return table
