"""All paths of a node: two finders, a real relay's core between them, and hostile datagrams."""

import random
import struct
from collections.abc import Iterator

import msgspec
import pytest

from tests.tunnel.paths.keys import KEYS, public
from tunnel.control.engine import DeviceState, PeerState
from tunnel.endpoint import CHANNEL, PROBE, RELAY, Address, Endpoint
from tunnel.paths.candidate import MAX_OBSERVED, Excluded
from tunnel.paths.choice import HANDSHAKE, Chooser, pair
from tunnel.paths.finder import MAX_OUTBOX, MAX_RELAYS, PathFinder
from tunnel.paths.pair import MAX_WAYS, Pair
from tunnel.paths.probe import Candidates, DatagramCodec, Ping, Pong
from tunnel.paths.way import Way
from tunnel.peer import PathKind, Peer
from tunnel.relay.client import Bound, Down, Event, Pending, Refused, RelayClient, Unbound, Up

RELAY_ADDRESS = Address("198.18.0.10", 20006)
OTHER_RELAY = Address("198.18.0.11", 20006)
HERE, THERE = public(KEYS[0]), public(KEYS[1])
PEER = Peer("peer", THERE, ("10.99.0.2/32",), (Address("192.168.1.2", 4000),), (RELAY_ADDRESS,))


def finder(seed: int = 1) -> PathFinder:
    made = PathFinder(KEYS[0], 4001, random.Random(seed).randbytes, 0.0)
    assert made.set_peers({"peer": PEER}, [RELAY_ADDRESS], ["10.99.0.2/32"], 0.0) == {}
    return made


def client(of: PathFinder, relay: Address = RELAY_ADDRESS) -> RelayClient:
    return of._clients[relay]


def happen(of: PathFinder, *events: Event, now: float) -> None:
    """Let a relay's client report events."""
    client(of).events.extend(events)
    of._heed(RELAY_ADDRESS, client(of), now)


def sent(of: PathFinder) -> Iterator[tuple[bytes, Address]]:
    while of.outbox:
        yield of.outbox.popleft()


def test_registers_at_once_but_binds_only_when_the_engine_is_ready() -> None:
    subject = finder()
    subject.tick(0.0)
    words = {struct.unpack_from("<I", data)[0] for data, to in sent(subject) if to == RELAY_ADDRESS}
    assert words == {RELAY}
    assert not client(subject)._peers
    subject.ready(0.1)
    assert set(client(subject)._peers) == {THERE}


def test_a_bound_channel_is_used_and_pinged_behind_its_header() -> None:
    subject = finder()
    happen(subject, Up(Address("203.0.113.5", 777)), Bound(THERE, 9, present=False), now=1.0)
    assert subject.pairs[THERE].kind is PathKind.NONE
    happen(subject, Bound(THERE, 9, present=True), now=1.1)
    endpoint = Endpoint(*RELAY_ADDRESS, 9)
    assert subject.moves == {THERE: (endpoint, HERE < THERE)}
    assert subject.changed
    headers = {data[:12] for data, to in sent(subject) if to == RELAY_ADDRESS}
    assert struct.pack("<III", CHANNEL, 9, PROBE) in headers


@pytest.mark.parametrize("event", [Down("gone"), Unbound(THERE, "closed"), Bound(THERE, 9, present=False)])
def test_a_lost_channel_is_not_used_any_more(event: Down | Unbound | Bound) -> None:
    subject = finder()
    happen(subject, Bound(THERE, 9, present=True), now=1.0)
    happen(subject, event, now=2.0)
    assert subject.pairs[THERE].kind is PathKind.NONE


def test_a_relay_that_does_not_admit_the_key_is_a_problem_only_if_that_lasts(caplog: pytest.LogCaptureFixture) -> None:
    subject = finder()
    with caplog.at_level("INFO"):
        happen(subject, Pending("relay r: not yet"), now=1.0)
        assert not subject.refusals
        happen(subject, Refused("relay r: not admitted"), now=11.0)
        assert subject.refusals == {RELAY_ADDRESS: "relay r: not admitted"}
        happen(subject, Up(Address("203.0.113.5", 777)), now=12.0)
        assert not subject.refusals
        happen(subject, Refused("relay r: two machines"), Down("relay r: two machines"), now=13.0)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in told] == ["INFO", "WARNING", "INFO", "WARNING"]
    assert told[0][1] == "relay r: not yet: asked again until it does"


def test_relays_are_capped_and_those_that_go_are_forgotten() -> None:
    subject = finder()
    many = [Address("198.18.1.1", port) for port in range(1, 40)]
    subject.set_peers({"peer": PEER}, many, [], 1.0)
    assert list(subject._clients) == many[:MAX_RELAYS]
    happen_at = subject._clients[many[0]]
    happen_at.events.append(Bound(THERE, 5, present=True))
    subject.tick(1.0)
    subject._heed(many[0], happen_at, 1.0)
    assert subject.pairs[THERE].kind is PathKind.RELAYED
    subject.set_peers({"peer": PEER}, [], [], 2.0)
    assert list(subject._clients) == [RELAY_ADDRESS], "the peer's own"
    assert subject.pairs[THERE].kind is PathKind.NONE


def test_only_a_relay_of_ours_brings_channels_and_only_the_bound_one() -> None:
    subject = finder()
    happen(subject, Bound(THERE, 9, present=True), now=1.0)
    list(sent(subject))
    codec = DatagramCodec(KEYS[1], random.Random(3).randbytes)
    codec.add(HERE)
    ping = codec.seal(HERE, Ping(1, 2, 3))
    for source, channel in ((Address("203.0.113.66", 1), 9), (RELAY_ADDRESS, 8), (OTHER_RELAY, 9)):
        subject.receive(struct.pack("<II", CHANNEL, channel) + ping, source, 1.1)
    assert not list(sent(subject))
    subject.receive(struct.pack("<II", CHANNEL, 9) + ping, RELAY_ADDRESS, 1.2)
    assert {to for _, to in sent(subject)} == {RELAY_ADDRESS}


def test_a_flood_of_garbage_and_forgeries_sends_nothing_and_keeps_nothing() -> None:
    subject = finder()
    subject.tick(0.0)
    list(sent(subject))
    chance = random.Random(5)
    codec = DatagramCodec(KEYS[1], chance.randbytes)
    codec.add(HERE)
    real = codec.seal(HERE, Ping(1, 2, 3))
    heads = [struct.pack("<I", word) for word in range(10)]
    for index in range(50_000):
        kind = index % 4
        if kind == 0:
            data = chance.choice(heads) + chance.randbytes(chance.randrange(80))
        elif kind == 1:
            data = real[:12] + chance.randbytes(60)
        elif kind == 2:
            data = real[: chance.randrange(len(real))]
        else:
            data = struct.pack("<II", CHANNEL, index) + real
        subject.receive(data, Address(f"203.0.113.{index % 250}", 1 + index % 60000), index / 50_000)
    assert not list(sent(subject))
    assert list(subject.pairs[THERE]._ways) == [Endpoint("192.168.1.2", 4000)]


def test_a_replayed_ping_is_answered_as_often_as_its_source_may_ask_and_makes_few_ways() -> None:
    subject = finder()
    subject.tick(0.0)
    list(sent(subject))
    codec = DatagramCodec(KEYS[1], random.Random(7).randbytes)
    codec.add(HERE)
    ping = codec.seal(HERE, Ping(1, 2, 3))
    for index in range(5000):
        subject.receive(ping, Address("203.0.113.9", 7), index / 10_000)
    assert len(list(sent(subject))) < 150
    for index in range(500):
        subject.receive(ping, Address("203.0.113.10", 1000 + index), 0.6)
    assert len(subject.pairs[THERE]._ways) <= 1 + MAX_OBSERVED
    assert subject.pairs[THERE].kind is PathKind.NONE, "no answer to an own ping, no way"


def test_without_a_socket_the_outbox_stays_bounded() -> None:
    subject = finder()
    happen(subject, Bound(THERE, 9, present=True), now=1.0)
    for second in range(1, 3000):
        subject.tick(float(second) * 5)
    subject.outbox.extend((b"", RELAY_ADDRESS) for _ in range(2 * MAX_OUTBOX))
    assert len(subject.outbox) == MAX_OUTBOX


def test_an_engine_that_cannot_relay_gets_no_channel_but_its_agent_talks_through_it() -> None:
    subject = finder()
    subject.adopt(DeviceState(4001, {}), 0.0, carries=False)
    happen(subject, Up(Address("203.0.113.5", 777)), Bound(THERE, 9, present=True), now=1.0)
    subject.tick(1.0)
    assert subject.moves == {}
    assert any(data[:8] == struct.pack("<II", CHANNEL, 9) for data, _ in sent(subject))


def test_an_engine_that_was_there_before_keeps_its_direct_way_meanwhile() -> None:
    subject = finder()
    before = PeerState(THERE, Endpoint("203.0.113.7", 5000), 1.0, 10, 10)
    subject.adopt(DeviceState(4001, {THERE: before}), 0.0, carries=True)
    assert Address("203.0.113.7", 5000) in {to for _, to in sent(subject)}
    happen(subject, Bound(THERE, 9, present=True), now=0.1)
    assert subject.moves == {}
    subject.tick(0.5)
    assert subject.moves[THERE][0].channel == 9


def half(own: bytes, now: float = 0.0) -> Pair:
    made = pair(own, PEER, 1, random.Random(1).randbytes, now)
    made.bind(RELAY_ADDRESS, 9, now)
    return made


def chooser() -> Pair:
    made = half(bytes(32))
    assert isinstance(made, Chooser)
    return made


@pytest.mark.parametrize("own", [bytes(32), b"\xff" * 32])
def test_lists_that_change_all_the_time_keep_ways_and_pings_bounded(own: bytes) -> None:
    subject = half(own)
    via = Endpoint(*RELAY_ADDRESS, 9)
    pings = 0
    for number in range(1, 400):
        now = number / 40
        addresses = tuple(Address(f"203.0.{number % 256}.{host}", 1 + number) for host in range(1, 17))
        subject.receive(Candidates(5, number, 0, addresses), via, now)
        subject.tick(now)
        assert len(subject._ways) <= MAX_WAYS
        pings += sum(isinstance(message, Ping) for message, _ in subject.outbox)
        subject.outbox.clear()
    assert pings / 10 < 16 * 6 * 3, "a handful of rounds' pings a second"


def test_a_list_is_taken_by_a_relay_or_an_answered_way_only() -> None:
    subject = chooser()
    told = Candidates(5, 1, 0, (Address("203.0.113.77", 5),))
    subject.receive(told, Endpoint("203.0.113.9", 7), 1.0)
    assert Endpoint("203.0.113.77", 5) not in subject._ways
    subject.receive(told, Endpoint(*RELAY_ADDRESS, 9), 1.0)
    assert Endpoint("203.0.113.77", 5) in subject._ways
    subject.receive(Candidates(5, 1, 0, ()), Endpoint(*RELAY_ADDRESS, 9), 1.1)
    assert Endpoint("203.0.113.77", 5) in subject._ways, "an old number is a replay"


def test_addresses_inside_the_tunnel_are_never_pinged() -> None:
    subject = chooser()
    subject.set_peer(PEER, Excluded(["192.168.1.0/24", "10.244.0.0/16"]), 0.0)
    addresses = (Address("10.244.1.1", 5), Address("169.254.169.254", 80), Address("127.0.0.1", 5))
    subject.receive(Candidates(5, 1, 0, addresses), Endpoint(*RELAY_ADDRESS, 9), 0.1)
    for step in range(100):
        subject.tick(step / 10)
    assert {endpoint.host for _, endpoint in subject.outbox} == {RELAY_ADDRESS.host}


def test_the_first_handshake_is_not_overtaken_by_a_second() -> None:
    """A direct way that answers at once waits for the relay's handshake; with a session it does not."""
    for handshake, wait in ((0.0, True), (1.0, False)):
        subject = chooser()
        via = Endpoint(*RELAY_ADDRESS, 9)
        subject.state(PeerState(THERE, via, handshake, 0, 0), 0.0)
        assert subject.take_move() == via
        subject.tick(0.001)
        way = Endpoint("192.168.1.2", 4000)
        ping = next(message for message, to in subject.outbox if to == way and isinstance(message, Ping))
        subject.receive(Pong(ping.id, 5, 0, Address("192.168.1.9", 1)), way, 0.002)
        assert (subject.endpoint == via) is wait
        subject.tick(HANDSHAKE + 0.01)
        assert subject.endpoint == way


def test_a_session_from_before_the_peers_restart_is_none() -> None:
    """A node that begins anew needs a handshake, whatever session this end still has, and gets the time for it."""
    subject = chooser()
    via, way = Endpoint(*RELAY_ADDRESS, 9), Endpoint("192.168.1.2", 4000)
    for epoch, since in ((5, 0.0), (6, 10.0)):
        subject.state(PeerState(THERE, via, 1.0, 0, 0), since)
        subject.tick(since + 0.001)
        for to in (via, way):
            ping = [message for message, at in subject.outbox if at == to and isinstance(message, Ping)][-1]
            subject.receive(Pong(ping.id, epoch, 0, Address("192.168.1.9", 1)), to, since + 0.002)
        assert (subject.endpoint == way) is (epoch == 5)
        subject.outbox.clear()
        if epoch == 5:
            # the peer goes down, the direct way with it
            at = since
            while subject.endpoint != via:
                at += 0.05
                subject.tick(at)
            assert at < since + 9.0
    subject.tick(10.0 + HANDSHAKE + 0.01)
    assert subject.endpoint == way


def test_a_way_is_not_put_off_because_the_peer_was_away() -> None:
    subject = chooser()
    way = Endpoint("192.168.1.2", 4000)
    known = subject._ways[way]
    for _ in range(5):
        known.hold(1.0, 1.0)
    assert not answered(subject, way, epoch=5, now=2.0).eligible(2.0)
    assert answered(subject, way, epoch=6, now=3.0).eligible(3.0)
    assert known.holds == 0


def answered(subject: Pair, endpoint: Endpoint, epoch: int, now: float) -> Way:
    """The way after the peer, in that epoch, has answered a ping there."""
    way = subject._ways[endpoint]
    subject._ping(way, now)
    ping = subject.outbox[-1][0]
    assert isinstance(ping, Ping)
    subject.receive(Pong(ping.id, epoch, 0, Address("192.168.1.9", 1)), endpoint, now)
    return way


@pytest.mark.parametrize("own", [bytes(32), b"\xff" * 32])
def test_a_relay_that_passes_nothing_on_stays_in_use_and_is_told(own: bytes) -> None:
    subject, via = half(own), Endpoint(*RELAY_ADDRESS, 9)
    subject.set_peer(msgspec.structs.replace(PEER, lan=()), Excluded(), 0.0)
    subject.state(PeerState(THERE, via, 1.0, 0, 0), 0.0)
    answered(subject, via, epoch=5, now=1.0)
    for step in range(10, 200):
        subject.tick(step / 10)
        if step < 70:
            assert subject.silent(step / 10) is None  # an agent that starts again needs a moment
    assert subject.endpoint == via
    assert subject.silent(20.0) == 1.0
    subject.state(PeerState(THERE, via, 1.0, 0, 0), 19.9)
    subject.state(PeerState(THERE, via, 1.0, 500, 0), 20.0)  # data: it is the peer's agent that is away
    assert subject.silent(20.5) is None
    assert subject.silent(27.0) is not None
    answered(subject, via, epoch=5, now=28.0)
    assert subject.silent(28.0) is None
