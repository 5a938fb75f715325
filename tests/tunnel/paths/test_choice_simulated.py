"""Both ends of a pair in a simulated internet: what becomes direct, what breaks, and that it always heals."""

import itertools

import pytest

from tests.tunnel.paths.simulation import NATS, RELAYS, Datagram, Site
from tunnel.endpoint import Address
from tunnel.peer import PathKind

EITHER = {
    frozenset(pair)
    for pair in (
        ("linux-gateway", "port-restricted"),
        ("linux-gateway", "symmetric"),
        ("linux-gateway",),
    )
}
RELAYED = {frozenset(pair) for pair in (("symmetric", "port-restricted"), ("symmetric",))}
RELAY_HOSTS = {relay.host for relay in RELAYS}


def between(datagram: Datagram, source: Address, to: Address) -> bool:
    """Whether a datagram goes straight between the sites."""
    return source.host not in RELAY_HOSTS and to.host not in RELAY_HOSTS


@pytest.mark.parametrize(("left", "right"), list(itertools.product(NATS, NATS)))
@pytest.mark.parametrize("seed", range(3))
def test_each_pair_of_nats_reaches_what_it_can(left: str, right: str, seed: int) -> None:
    site = Site(seed, left, right, swap=bool(seed % 2))
    site.talk()
    start = site.world.now
    site.world.until(lambda: site.on(PathKind.RELAYED, PathKind.DIRECT), within=0.5)
    kinds = frozenset((left, right))
    if kinds in RELAYED or kinds in EITHER:
        site.world.run(10)
        assert site.agree()
        assert site.left.pair.kind is PathKind.RELAYED or kinds in EITHER
    else:
        site.world.until(site.direct, within=2.0)
        site.world.run(5)
        assert site.direct()
    assert site.gap(start + 0.5) < 0.3


@pytest.mark.parametrize("other", NATS)
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("swap", [True, False])
def test_a_gateway_that_clashes_is_never_a_black_hole(other: str, late: bool, swap: bool) -> None:
    """One end hears of the other much later, so that the first ping surely finds no mapping."""
    site = Site(1, "linux-gateway", other, swap=swap)
    site.world.far[RELAYS[0].host, "203.0.113.1" if late else "203.0.113.2"] = 0.2
    site.talk()
    site.world.run(4)
    assert site.agree()
    if other in ("cone", "restricted"):
        assert site.direct()
    start = site.world.now
    site.world.run(10)
    assert site.gap(start) < 0.5


@pytest.mark.parametrize("swap", [True, False])
def test_silence_cures_the_clash(swap: bool) -> None:
    site = Site(1, "linux-gateway", "port-restricted", swap=swap)
    site.world.far[RELAYS[0].host, "203.0.113.1"] = 0.2
    site.world.run(10)
    assert site.on(PathKind.RELAYED), "the first rounds clash"
    site.world.until(site.direct, within=100.0)


@pytest.mark.parametrize("seed", range(4))
def test_an_idle_pair_becomes_direct_and_stays(seed: int) -> None:
    site = Site(seed)
    site.world.until(site.direct, within=2.0)
    for _ in range(20):
        site.world.run(10)
        assert site.direct()


@pytest.mark.parametrize("left", ["", *NATS])
def test_a_node_without_nat_is_reached_directly(left: str) -> None:
    site = Site(1, left, "")
    site.talk()
    site.world.until(site.direct, within=2.0)


@pytest.mark.parametrize("swap", [False, True])
def test_neighbours_are_direct_without_any_relay(swap: bool) -> None:
    site = Site(2, relays=0, lan=True, swap=swap)
    assert site.world.until(site.direct, within=1.0) < 1.0
    assert site.left.pair.kind is PathKind.LAN


def test_neighbours_prefer_the_lan() -> None:
    site = Site(3, "cone", "cone", lan=True)
    site.world.until(lambda: site.on(PathKind.LAN), within=2.0)
    site.world.run(100)
    assert site.on(PathKind.LAN)


@pytest.mark.parametrize("way", ["both", "left", "right"])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_silent_break_falls_back_within_a_second_and_heals(way: str, swap: bool, seed: int) -> None:
    site = Site(seed, swap=swap)
    site.talk()
    site.world.until(site.direct, within=2.0)
    site.world.run(3 + seed / 7)
    host = {"left": "203.0.113.1", "right": "203.0.113.2"}.get(way)
    site.world.cut.append(lambda d, source, to: between(d, source, to) and host in (None, source.host))
    broken = site.world.now
    site.world.until(lambda: site.on(PathKind.RELAYED), within=1.0)
    site.world.run(4)
    assert site.gap(broken) <= 1.0
    assert site.on(PathKind.RELAYED)
    site.world.cut.clear()
    site.world.until(site.direct, within=6.0)


def test_a_break_while_idle_is_found() -> None:
    site = Site(5)
    site.world.until(site.direct, within=2.0)
    site.world.run(30)
    site.world.cut.append(between)
    site.world.until(lambda: site.on(PathKind.RELAYED), within=10.0)


def test_the_death_of_the_relay_leaves_the_direct_path() -> None:
    site = Site(6)
    site.talk()
    site.world.until(site.direct, within=2.0)
    site.relays[0].alive = False
    dead = site.world.now
    site.world.run(20)
    assert site.direct()
    assert site.gap(dead) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_one_of_two_relays_may_die(seed: int) -> None:
    site = Site(seed, "symmetric", "symmetric", relays=2)
    site.talk()
    site.world.until(lambda: site.on(PathKind.RELAYED), within=1.0)
    site.world.run(3)
    endpoint = site.left.pair.endpoint
    assert endpoint
    died = site.world.now
    next(r for r in site.relays if r.address == endpoint.address).alive = False
    site.world.until(lambda: site.on(PathKind.RELAYED) and site.left.pair.endpoint != endpoint, within=2.0)
    site.world.run(5)
    assert site.gap(died) <= 2.0
    assert site.left.pair.endpoint
    assert site.right.pair.endpoint
    assert site.left.pair.endpoint.address == site.right.pair.endpoint.address


def test_a_path_that_carries_probes_but_no_data_is_left_and_put_off() -> None:
    site = Site(7)
    site.talk()
    site.world.cut.append(lambda d, source, to: between(d, source, to) and d.content.startswith(b"data"))
    site.world.until(lambda: site.on(PathKind.RELAYED), within=1.0)
    start = site.world.now
    direct = 0.0
    while site.world.now < start + 120:
        site.world.run(0.1)
        direct += 0.1 * (site.left.pair.kind is PathKind.DIRECT)
    assert 1.0 < direct < 10.0
    assert site.gap(start) < 2.0


def test_data_that_stops_while_probes_pass_is_noticed() -> None:
    site = Site(8)
    site.talk()
    site.world.until(site.direct, within=2.0)
    site.world.run(20)
    site.world.cut.append(lambda d, source, to: between(d, source, to) and d.content.startswith(b"data"))
    site.world.until(lambda: site.on(PathKind.RELAYED), within=8.0)


@pytest.mark.parametrize("who", ["left", "right"])
@pytest.mark.parametrize("direct", [True, False])
def test_an_agent_may_restart_at_any_time(who: str, direct: bool) -> None:
    site = Site(9, "cone" if direct else "symmetric", "symmetric")
    wanted = site.direct if direct else (lambda: site.on(PathKind.RELAYED))
    site.talk()
    site.world.until(wanted, within=2.0)
    site.world.run(3)
    node = site.left if who == "left" else site.right
    restarted = site.world.now
    node.start(node.pair.peer)
    site.world.run(2)
    site.world.until(wanted, within=2.0)
    assert site.gap(restarted) < 0.3


@pytest.mark.parametrize("seed", range(12))
def test_chaos_always_heals(seed: int) -> None:
    """Random loss, partitions, relay deaths and restarts; after each calm both ends agree and data flows."""
    kinds = ["cone", "port-restricted", "symmetric", "linux-gateway"]
    left, right = kinds[seed % 4], kinds[(seed + seed // 4) % 4]
    site = Site(seed, left, right, relays=2, swap=bool(seed % 2))
    world = site.world
    site.talk(0.05)
    for _ in range(6):
        world.loss = world.random.choice([0.0, 0.05, 0.3])
        match world.random.randrange(5):
            case 0:
                world.cut.append(between)
            case 1:
                world.cut.append(lambda d, source, to: source.host == "203.0.113.1")
            case 2:
                site.relays[world.random.randrange(2)].alive = False
            case 3:
                node = world.random.choice([site.left, site.right])
                node.start(node.pair.peer)
            case 4:
                world.jitter = 0.2
        world.run(world.random.uniform(0.1, 15))
        world.loss, world.jitter = 0.0, 0.002
        world.cut.clear()
        for relay in site.relays:
            relay.alive = True
        calm = world.now
        world.run(6)
        assert site.replies(calm + 4) > 20, f"black hole, seed {seed}"
        world.until(site.agree, within=2.0)


def test_five_percent_of_loss_does_not_shake_a_direct_path() -> None:
    site = Site(10)
    site.talk()
    site.world.until(site.direct, within=2.0)
    site.world.loss = 0.05
    left = 0.0
    for _ in range(1200):
        site.world.run(0.1)
        left += 0.1 * (site.left.pair.kind is PathKind.RELAYED)
    assert left < 5.0
