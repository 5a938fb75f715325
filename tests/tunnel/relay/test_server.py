"""The server among strangers: forged, replayed and excessive messages; caps; what it keeps."""

import hashlib
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.tunnel.relay.world import Host, World
from tunnel.endpoint import CHANNEL, Address
from tunnel.paths import stun
from tunnel.relay import protocol, rivals, table
from tunnel.relay.client import Bound, Refused, RelayClient, Unbound
from tunnel.relay.proof import Keys, shared_secret
from tunnel.relay.protocol import Challenge, Entry, Hello, Kind, Prove, Refusal, Sign, State, Unknown
from tunnel.relay.rates import Rates
from tunnel.relay.rivals import Rivals
from tunnel.relay.server import SILENT, STUN_FACTOR, RelayServer

SOURCE = Address("203.0.113.9", 999)
KEY = X25519PrivateKey.from_private_bytes(b"a" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


def server() -> RelayServer:
    return RelayServer(b"r" * 32, random.Random(1).randbytes)


def challenged(relay: RelayServer, source: Address = SOURCE, now: float = 100.0) -> Challenge:
    relay.receive(protocol.hello(Hello(PUBLIC, b"n" * 16)), source, now)
    datagram, to = relay.outbox.pop()
    assert to == source
    _, message = protocol.decode(datagram)
    assert isinstance(message, Challenge)
    return message


def proof(challenge: Challenge, private: X25519PrivateKey = KEY, entries: tuple[Entry, ...] = ()) -> tuple[bytes, Keys]:
    keys = Keys(shared_secret(private, challenge.relay_key), challenge.relay_key, PUBLIC, b"n" * 16, challenge.cookie)
    return protocol.prove(Prove(PUBLIC, b"n" * 16, challenge.cookie, entries), keys.node), keys


def answer(relay: RelayServer) -> protocol.Message | None:
    return protocol.decode(relay.outbox.pop()[0])[1] if relay.outbox else None


def registered(relay: RelayServer) -> tuple[bytes, Keys]:
    proved, keys = proof(challenged(relay))
    relay.receive(proved, SOURCE, 100.1)
    relay.outbox.clear()
    assert PUBLIC in relay.table.nodes
    return proved, keys


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=120),
            st.binary(min_size=72, max_size=72).map(lambda body: b"\x08\0\0\0\x01\x01\0\0" + body),
            st.binary(min_size=88, max_size=88).map(lambda body: b"\x08\0\0\0\x03\x01\0\0" + body),
            st.binary(min_size=24, max_size=24).map(lambda body: b"\x08\0\0\0\x07\x01\0\0" + body),
            st.binary(min_size=80, max_size=99).map(lambda body: b"\x08\0\0\0\x01\x02\0\0" + body),
            st.binary(max_size=99).map(lambda body: CHANNEL.to_bytes(4, "little") + body),
            st.binary(min_size=12, max_size=12).map(stun.request),
            st.binary(min_size=12, max_size=12).map(lambda id: stun.request(id)[:20].replace(b"\x08", b"\0", 1)),
        ),
        max_size=20,
    ),
    st.sampled_from([SOURCE, Address("2001:db8::7", 7)]),
)
def test_nothing_is_kept_for_strangers_and_no_answer_is_longer(datagrams: list[bytes], source: Address) -> None:
    relay = server()
    for datagram in datagrams:
        relay.receive(datagram, source, 100.0)
        most = STUN_FACTOR * len(datagram) if stun.is_stun(datagram) else len(datagram)
        assert sum(len(answer) for answer, _ in relay.outbox) <= most
        assert all(to == source for _, to in relay.outbox)
        relay.outbox.clear()
    assert not relay.table.nodes
    assert relay.deadline() is None


def test_a_proof_by_another_key_is_refused() -> None:
    relay = server()
    relay.receive(proof(challenged(relay), X25519PrivateKey.from_private_bytes(b"b" * 32))[0], SOURCE, 100.1)
    assert answer(relay) == Refusal(b"n" * 16, protocol.Reason.PROOF)
    assert not relay.table.nodes


def test_a_proof_from_another_address_or_too_late_is_stale() -> None:
    relay = server()
    proved, _ = proof(challenged(relay))
    for source, now in ((Address(SOURCE.host, 998), 100.1), (SOURCE, 120.0)):
        relay.receive(proved, source, now)
        assert answer(relay) == Refusal(b"n" * 16, protocol.Reason.STALE)
    assert not relay.table.nodes


def test_a_low_order_key_is_refused() -> None:
    relay = server()
    relay.receive(protocol.hello(Hello(bytes(32), b"n" * 16)), SOURCE, 100.0)
    challenge = answer(relay)
    assert isinstance(challenge, Challenge)
    relay.receive(protocol.prove(Prove(bytes(32), b"n" * 16, challenge.cookie, ()), b"k" * 32), SOURCE, 100.0)
    assert answer(relay) == Refusal(b"n" * 16, protocol.Reason.PROOF)


def test_another_version_is_told_so() -> None:
    relay = server()
    hello = bytearray(protocol.hello(Hello(PUBLIC, b"n" * 16)))
    hello[5] = 9
    relay.receive(bytes(hello), SOURCE, 100.0)
    assert answer(relay) == Refusal(b"n" * 16, protocol.Reason.VERSION)


def test_a_replayed_proof_moves_nobody() -> None:
    relay = server()
    old, _ = registered(relay)
    new, keys = proof(challenged(relay, Address("203.0.113.10", 1), 101.0))
    relay.receive(new, Address("203.0.113.10", 1), 101.0)
    relay.outbox.clear()
    relay.receive(old, SOURCE, 101.1)
    assert not relay.outbox
    assert relay.table.nodes[PUBLIC].address == Address("203.0.113.10", 1)
    assert relay.table.nodes[PUBLIC].keys.node == keys.node


def test_a_repeated_proof_is_welcomed_again_and_changes_nothing() -> None:
    relay = server()
    proved, _ = registered(relay)
    node = relay.table.nodes[PUBLIC]
    relay.receive(proved, SOURCE, 100.2)
    assert isinstance(answer(relay), protocol.Welcome)
    assert relay.table.nodes[PUBLIC] is node
    assert len(relay.table.nodes) == 1


def test_replayed_and_forged_messages_of_a_session_count_for_nothing() -> None:
    relay = server()
    _, keys = registered(relay)
    peer = Entry(b"p" * 32, 0, State.WANTED)
    bind = protocol.channels(Kind.BIND, protocol.Channels(1, (peer,)), keys.node)
    relay.receive(bind, SOURCE, 101.0)
    assert isinstance(answer(relay), protocol.Channels)
    gone = protocol.channels(Kind.BIND, protocol.Channels(2, (Entry(b"p" * 32, 0, State.GONE),)), keys.node)
    relay.receive(gone, SOURCE, 102.0)
    assert isinstance(answer(relay), protocol.Channels)
    heard = relay.table.nodes[PUBLIC].heard
    relay.receive(bind, SOURCE, 103.0)
    assert not relay.outbox
    assert not relay.table.channels
    assert relay.table.nodes[PUBLIC].heard == heard
    relay.receive(protocol.sign(Kind.KEEPALIVE, Sign(9), b"x" * 32), SOURCE, 103.0)
    assert isinstance(answer(relay), Unknown)
    assert relay.table.nodes[PUBLIC].heard == heard
    # the relay's own messages, sent back to it
    relay.receive(protocol.sign(Kind.ALIVE, Sign(9), keys.relay), SOURCE, 103.0)
    assert not relay.outbox


def test_a_proof_replayed_later_in_a_session_binds_nothing() -> None:
    relay = server()
    proved, keys = proof(challenged(relay), entries=(Entry(b"p" * 32, 0, State.WANTED),))
    relay.receive(proved, SOURCE, 100.1)
    gone = protocol.Channels(1, (Entry(b"p" * 32, 0, State.GONE),))
    relay.receive(protocol.channels(Kind.BIND, gone, keys.node), SOURCE, 100.2)
    relay.outbox.clear()
    relay.receive(proved, SOURCE, 100.3)
    welcome = answer(relay)
    assert isinstance(welcome, protocol.Welcome)
    assert not welcome.entries
    assert not relay.table.channels


def test_requests_of_a_node_are_limited() -> None:
    relay = server()
    _, keys = registered(relay)
    for number in range(1, 1001):
        relay.receive(protocol.sign(Kind.KEEPALIVE, Sign(number), keys.node), SOURCE, 101.0)
    assert len(relay.outbox) == 200
    assert relay.counts.limited == 800


def test_a_new_key_at_an_address_takes_the_place_of_the_old() -> None:
    world = World(1)
    a = world.host("a")
    other = world.host("other", a.address)
    other.on = False
    world.run(1)
    a.on, other.on = False, True
    world.run(1)
    assert world.relay
    assert list(world.relay.table.nodes) == [other.key]
    assert list(world.relay.table.by_address) == [a.address]


def test_a_full_relay_refuses_the_new_and_lets_the_silent_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_NODES", 3)
    world = World(2)
    hosts = [world.host(str(number)) for number in range(4)]
    hosts[3].on = False
    world.run(1)
    hosts[3].on = True
    world.run(10)
    assert not hosts[3].up
    assert "as many nodes as it takes" in str(hosts[3].events(Refused)[0])
    hosts[0].on = False
    world.run(SILENT + 15)
    assert hosts[3].up
    assert world.relay
    assert hosts[0].key not in world.relay.table.nodes
    assert len(world.relay.table.nodes) == 3


def test_a_host_has_its_share_of_nodes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_NODES_PER_HOST", 2)
    world = World(3)
    hosts = [world.host(str(number), Address("203.0.113.1", 1000 + number)) for number in range(3)]
    elsewhere = world.host("elsewhere")
    world.run(2)
    assert sum(host.up for host in hosts) == 2
    assert elsewhere.up


def test_channels_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_CHANNELS_PER_NODE", 2)
    monkeypatch.setattr(table, "MAX_CHANNELS", 3)
    world = World(4)
    a, b = world.host("a"), world.host("b")
    a.client.want([bytes([number]) * 32 for number in range(3)])
    b.client.want([bytes([number]) * 32 for number in range(2)])
    world.run(30)
    assert (len(a.events(Bound)), len(b.events(Bound))) == (2, 1)
    assert (len(a.events(Unbound)), len(b.events(Unbound))) == (1, 1)
    assert "no room" in str(a.events(Unbound)[0])
    a.client.want([])
    world.run(10)
    assert len(b.events(Bound)) == 2


def test_channel_numbers_that_clash_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(5)
    a, b, c = (world.host(name) for name in "abc")
    monkeypatch.setattr(hashlib, "blake2s", lambda *_, **__: type("", (), {"digest": lambda _: b"\xff" * 4})())
    numbers = table.Table()
    keys = Keys.__new__(Keys)
    for number, host in enumerate((a, b, c)):
        numbers.add(table.Node(host.key, host.address, keys, bytes([number]), number, 0.0))
    made = [numbers.bind(numbers.nodes[a.key], host.key)[0] for host in (b, c)]
    assert [channel.number for channel in made if channel] == [0xFFFFFFFF, 1]


def test_updates_end_without_an_answer_and_begin_again_when_the_node_speaks() -> None:
    world = World(6)
    a, b = world.host("a"), world.host("b")
    b.on = False
    a.client.want([b.key])
    world.run(1)
    a.on, b.on = False, True
    b.client.want([a.key])
    world.run(15)
    before = sum(to == a.address for to, _ in world.sent)
    world.run(5)
    assert sum(to == a.address for to, _ in world.sent) == before
    a.on = True
    world.run(13)
    bound = a.channel(b)
    assert bound
    assert bound.present


def test_greetings_are_limited_a_host() -> None:
    relay = server()
    for number in range(1000):
        relay.receive(protocol.hello(Hello(PUBLIC, b"n" * 16)), Address("203.0.113.9", number + 1), 100.0)
    assert len(relay.outbox) == 100
    assert relay.counts.limited == 900
    relay.receive(protocol.hello(Hello(PUBLIC, b"n" * 16)), Address("203.0.113.8", 1), 100.0)
    assert len(relay.outbox) == 101


def test_rates_against_a_plain_count_and_their_cap() -> None:
    rates = Rates(rate=2, burst=4, cap=3)
    assert [rates.allow("a", 0.0) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [rates.allow("a", 1.0) for _ in range(3)] == [True, True, False]
    assert sum(rates.allow("a", 1.0 + step / 10) for step in range(1000)) == pytest.approx(200, abs=2)
    for number in range(10):
        rates.allow(number, 200.0)
    assert len(rates) == 3


def test_rivals_are_capped_and_a_moved_machine_is_none() -> None:
    watched = Rivals()
    for number in range(rivals.CAP + 10):
        assert watched.moves(number.to_bytes(32, "big"), SOURCE, Address("192.0.2.1", 1), True, 0.0)
    assert len(watched) == rivals.CAP
    key = b"k" * 32
    for number in range(50):
        assert watched.moves(key, Address("192.0.2.1", number), Address("192.0.2.1", number + 1), True, number)
    assert not watched.current(50.0)


def hostile(host: Host, world: World, datagram: bytes) -> None:
    host.client.receive(datagram, world.now)


@given(st.lists(st.one_of(st.binary(max_size=100), st.binary(max_size=99).map(lambda body: b"\x08\0\0\0" + body))))
def test_a_client_survives_garbage(datagrams: list[bytes]) -> None:
    client = RelayClient(SOURCE, b"a" * 32, random.Random(1).randbytes)
    client.want([b"p" * 32])
    client.tick(0.0)
    client.outbox.clear()
    for datagram in datagrams:
        client.receive(datagram, 0.0)
    assert not client.outbox
    assert not client.events


def test_a_client_does_not_believe_strangers() -> None:
    world = World(7)
    a, b = world.host("a"), world.host("b")
    a.client.want([b.key])
    b.client.want([a.key])
    world.run(2)
    log = list(a.log)
    bound = a.channel(b)
    assert bound
    forged = Entry(b.key, 7, State.PRESENT)
    hostile(a, world, protocol.channels(Kind.BOUND, protocol.Channels(99, (forged,), True), b"x" * 32))
    hostile(a, world, protocol.refusal(Refusal(b"x" * 16, protocol.Reason.DUPLICATE)))
    hostile(a, world, protocol.challenge(Challenge(b"x" * 16, b"y" * 32, bytes(24))))
    hostile(a, world, protocol.unknown(Unknown(b"x" * 8)))
    world.run(1)
    assert a.log == log
    sent = len(world.sent)
    for _ in range(100):
        # one who knows the channel's number can make it register again, now and then
        hostile(a, world, protocol.unknown(Unknown(protocol.channel_token(bound.channel))))
        world.run(0.01)
    assert a.log == log
    assert len(world.sent) - sent <= 5
