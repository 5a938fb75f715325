"""Client and server together, on virtual time."""

import pytest

from tests.tunnel.relay.world import Host, World
from tunnel.endpoint import Address
from tunnel.relay.client import (
    JOINING,
    KEEPALIVE,
    LAST_RETRY,
    MAX_PEERS,
    PATIENCE,
    RECENT,
    Down,
    Observed,
    Pending,
    Refused,
    Unbound,
    Up,
)
from tunnel.relay.server import INHERIT, LIFE


def joined(world: World) -> tuple[Host, Host]:
    """Two nodes with a channel that both have bound."""
    a, b = world.host("a"), world.host("b")
    a.client.want([b.key])
    b.client.want([a.key])
    world.run_until(lambda: present(a, b), 60)
    return a, b


def present(a: Host, b: Host) -> bool:
    return all(bound is not None and bound.present for bound in (a.channel(b), b.channel(a)))


def passes(world: World, a: Host, b: Host) -> bool:
    """Whether data gets both ways (on a network without loss)."""
    a.data.clear()
    b.data.clear()
    a.say(b, b"from a")
    b.say(a, b"from b")
    world.run(0.1)
    return list(a.data) == [b"from b"] and list(b.data) == [b"from a"]


def test_two_round_trips_bind_and_tell_the_address() -> None:
    world = World(1)
    a, b = joined(world)
    assert world.now - 1000.0 <= 0.05  # two round trips of 20 ms, and half of one for the update
    assert a.log[0][1] == Up(a.address)
    mine, theirs = a.channel(b), b.channel(a)
    assert mine
    assert theirs
    assert mine.channel == theirs.channel != 0
    assert passes(world, a, b)


def test_a_peer_that_comes_later_is_told_of_at_once() -> None:
    world = World(2)
    a, b = world.host("a"), world.host("b")
    b.on = False
    a.client.want([b.key])
    world.run(30)
    bound = a.channel(b)
    assert bound
    assert not bound.present
    b.client.want([a.key])
    b.on = True
    took = world.run_until(lambda: present(a, b), 1)
    assert took <= 0.05


@pytest.mark.parametrize("seed", range(30))
def test_loss_delay_and_duplicates(seed: int) -> None:
    world = World(seed, loss=0.3, delay=(0.01, 0.3), duplicate=0.2)
    a, b = joined(world)
    world.run(120)
    world.loss = 0.0
    world.run_until(lambda: a.up and b.up and present(a, b), 20)


def test_a_hundred_peers_at_once() -> None:
    world = World(3)
    center = world.host("center")
    others = [world.host(str(number)) for number in range(100)]
    center.client.want([other.key for other in others])
    for other in others:
        other.client.want([center.key])
    world.run_until(lambda: all(present(center, other) for other in others), 2)
    assert world.relay
    assert len(world.relay.table.routes) == 200


def test_nat_rebinding_keeps_channels_and_tells_the_new_address() -> None:
    world = World(4)
    a, b = joined(world)
    world.run(RECENT)
    old = a.channel(b)
    a.address = Address("203.0.113.77", 1234)
    a.say(b, bytes(40))
    world.run_until(lambda: bool(a.events(Observed)), 0.2)
    assert a.events(Observed) == [Observed(Address("203.0.113.77", 1234))]
    assert not a.events(Down)
    assert a.channel(b) == old
    assert passes(world, a, b)


def test_nat_rebinding_without_data_is_found_by_the_keepalive() -> None:
    world = World(5)
    a, b = joined(world)
    a.address = Address("203.0.113.78", 1234)
    world.run(KEEPALIVE * 1.2 + 0.2)
    assert passes(world, a, b)
    assert not a.events(Down)


def test_a_restarted_relay_has_the_same_channels_again() -> None:
    world = World(6)
    a, b = joined(world)
    before = a.channel(b)
    world.run(RECENT)
    world.start_relay()
    a.say(b, bytes(40))
    b.say(a, bytes(40))
    world.run(0.3)
    assert a.channel(b) == before
    assert present(a, b)
    assert passes(world, a, b)
    assert not a.events(Down)


def test_a_dead_relay_is_down_and_comes_back() -> None:
    world = World(7)
    a, b = joined(world)
    world.relay = None
    world.run(KEEPALIVE * 1.2 + PATIENCE + 0.1)
    assert len(a.events(Down)) == len(b.events(Down)) == 1
    world.run(600)
    assert len(a.events(Down)) == 1
    world.start_relay()
    world.run_until(lambda: a.up and b.up and present(a, b), 6.5)
    world.run(0.1)
    assert passes(world, a, b)


def test_a_relay_that_never_answered_is_told_of_once() -> None:
    world = World(16)
    world.relay = None
    a = world.host("a")
    world.run_until(lambda: bool(a.events(Down)), PATIENCE + 0.01)
    assert "UDP port 20006" in str(a.events(Down)[0])
    world.run(100)
    assert len(a.events(Down)) == 1
    world.start_relay()
    world.run_until(lambda: a.up, 6.5)


def test_check_finds_a_dead_relay_soon() -> None:
    world = World(8)
    a, _ = joined(world)
    world.relay = None
    a.client.check(world.now)
    world.run_until(lambda: not a.up, PATIENCE + 0.1)


def test_a_restarted_agent_keeps_its_channels_and_gives_up_those_it_no_longer_wants() -> None:
    world = World(9)
    a, b = joined(world)
    c = world.host("c")
    c.client.want([a.key])
    a.client.want([b.key, c.key])
    world.run_until(lambda: present(a, c), 1)
    a.on = False
    world.run(1)
    a.restart()
    a.client.want([b.key])
    a.on = True
    world.run(0.1)
    assert passes(world, a, b)
    assert present(a, c)
    world.run(INHERIT)
    bound = c.channel(a)
    assert bound
    assert not bound.present
    assert passes(world, a, b)


def test_a_node_that_goes_away_is_absent_and_forgotten() -> None:
    world = World(10)
    a, b = joined(world)
    b.on = False
    world.run(LIFE + 15)
    bound = a.channel(b)
    assert bound
    assert not bound.present
    assert world.relay
    assert list(world.relay.table.nodes) == [a.key]
    assert not world.relay.table.routes
    a.on = False
    world.run(LIFE + 15)
    table = world.relay.table
    for kept in (table.nodes, table.by_address, table.channels, table.routes, table.hosts, table.inheriting):
        assert not kept
    assert world.relay.deadline() is None


def test_data_keeps_a_registration_while_the_agent_is_away() -> None:
    world = World(11)
    a, b = joined(world)
    a.on = False
    for _ in range(20):
        world.run(10)
        a.say(b, b"still here")
    world.run(0.1)
    assert len(b.data) == 20


def test_unwanted_peers_are_unbound() -> None:
    world = World(12)
    a, b = joined(world)
    a.client.want([])
    world.run(0.1)
    bound = b.channel(a)
    assert bound
    assert not bound.present
    b.client.want([])
    world.run(0.1)
    assert world.relay
    assert not world.relay.table.channels
    a.client.want([b.key])
    b.client.want([a.key])
    world.run(0.1)
    assert present(a, b)
    assert passes(world, a, b)


def test_keys_that_are_not_admitted() -> None:
    world = World(13)
    a, b = world.host("a"), world.host("b")
    world.admit = {a.key}.__contains__
    relay = world.start_relay()
    a.client.want([b.key])
    b.client.want([a.key])
    world.run(60)
    assert a.up
    assert not b.up
    assert len(b.events(Pending)) == len(b.events(Refused)) == 1
    assert "does not admit this node's key yet" in str(b.events(Pending)[0])
    assert "not among those" in str(b.events(Refused)[0])
    assert not b.events(Down)
    relay.set_admission(lambda key: True, world.now)
    world.run_until(lambda: present(a, b), 7)
    relay.set_admission({b.key}.__contains__, world.now)
    a.say(b, bytes(40))
    world.run(1)
    assert not a.up
    assert "does not admit this node's key any more" in str(a.events(Down)[0])
    assert not a.events(Refused)
    world.run(JOINING)
    assert len(a.events(Down)) == len(a.events(Refused)) == 1
    assert not a.events(Pending)


@pytest.mark.parametrize("moment", [0.05, 0.3, 2.0, 5.0, JOINING - 0.1])
def test_a_key_that_is_admitted_a_moment_later(moment: float) -> None:
    """A node that has just joined asks before the relay has its MeshNode."""
    world = World(14)
    a = world.host("a")
    world.admit = frozenset[bytes]().__contains__
    relay = world.start_relay()
    a.client.want([])
    world.run(moment)
    assert not a.up
    assert len(a.events(Pending)) == 1
    relay.set_admission(lambda key: True, world.now)
    world.run_until(lambda: a.up, 1.0)
    assert not a.events(Refused)
    assert not a.events(Down)


def test_a_relay_that_is_restarted_and_hears_of_a_node_a_moment_later() -> None:
    world = World(15)
    a, b = joined(world)
    world.admit = {a.key}.__contains__
    relay = world.start_relay()
    b.client.check(world.now)
    world.run_until(lambda: not b.up, 3)
    world.run(2)
    relay.set_admission(lambda key: True, world.now)
    world.run_until(lambda: b.up, 1.0)
    assert not b.events(Refused)


def test_a_relay_that_falls_silent_while_a_node_joins_is_told() -> None:
    world = World(16)
    a = world.host("a")
    world.admit = frozenset[bytes]().__contains__
    world.start_relay()
    a.client.want([])
    world.run(3)
    assert not a.events(Down)
    world.relay = None
    world.run(30)
    assert ["has not answered" in str(event) for event in a.events(Down)] == [True]


def test_nodes_that_join_at_once_behind_one_address_stay_within_its_share() -> None:
    world = World(17)
    registered = world.host("registered", Address("203.0.113.9", 1000))
    registered.client.want([])
    hosts = [world.host(f"n{port}", Address("203.0.113.9", port)) for port in range(1001, 1016)]
    world.admit = {registered.key}.__contains__
    relay = world.start_relay()
    for host in hosts:
        host.client.want([])
    world.run(60)
    assert registered.up
    assert all(len(host.events(Refused)) == 1 for host in hosts)
    assert relay.counts.limited == 0
    before = relay.counts.refused
    world.run(60)
    assert relay.counts.refused - before <= len(hosts) * 60 / (LAST_RETRY * 0.8)


def test_two_machines_with_one_key(caplog: pytest.LogCaptureFixture) -> None:
    world = World(14)
    a, b = joined(world)
    clone = world.host("clone", Address("203.0.113.200", 40000))
    clone.private, clone.key = a.private, a.key
    clone.restart()
    clone.client.want([b.key])
    for _ in range(600):
        world.run(0.5)
        for host in (a, clone):
            if host.channel(b):
                host.say(b, bytes(40))
    assert world.relay
    lines = [record.getMessage() for record in caplog.records if "two machines" in record.getMessage()]
    assert len(lines) == 1
    assert "203.0.113.1:40000" in lines[0]
    assert "203.0.113.200:40000" in lines[0]
    assert [rivalry.key for rivalry in world.relay.rivals.current(world.now)] == [a.key]
    refused = [*a.events(Refused), *clone.events(Refused)]
    assert all("another machine" in str(event) for event in refused)
    assert len(refused) >= 1
    # in 300 s they take turns at most every 30 s
    assert len(a.events(Up)) + len(clone.events(Up)) <= 2 + 300 / 30 + 2


def test_more_peers_than_a_client_has_channels_for() -> None:
    world = World(15)
    a = world.host("a")
    peers = [world.random.randbytes(32) for _ in range(MAX_PEERS + 3)]
    a.client.want(peers)
    world.run(2)
    assert [event.peer for event in a.events(Unbound) if isinstance(event, Unbound)] == peers[MAX_PEERS:]
    assert world.relay
    assert len(world.relay.table.channels) == MAX_PEERS
