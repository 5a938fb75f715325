"""Any sequence of changes leaves what a fresh load would have made."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.change import AddChain, Contents, DropChain
from proxy.layout import CLAMP, REFUSE, Endpoint, Target
from proxy.service import Backend, NodeNetwork, Policy, Protocol, ServicePort

from .machine import Machine, Packet
from .test_layout import NETWORK, THREE, loaded, picked, service

BACKENDS = st.lists(
    st.builds(
        Backend,
        st.sampled_from(["10.244.1.1", "10.244.1.2", "10.244.2.1", "10.244.2.2", "fd00::1"]),
        st.sampled_from([80, 8080]),
    ),
    max_size=5,
).map(tuple)
SERVICES = st.builds(
    ServicePort,
    st.sampled_from(["a/a:p", "b/b:p", "c/c:p", "d/d:p"]),
    st.sampled_from(["10.96.0.1", "10.96.0.2"]),
    st.sampled_from([Protocol.TCP, Protocol.UDP]),
    st.sampled_from([80, 81]),
    BACKENDS,
    st.sampled_from(list(Policy)),
    st.sampled_from([None, None, 10, 60]),
)


class AnySequence(RuleBasedStateMachine):
    """The naive model: forget everything and load what should be."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.contents = Contents(NETWORK, 1)
        self.wanted: dict[str, ServicePort] = {}
        self.machine.apply(self.contents.load([]))
        self.machine.apply(self.contents.switch())

    @rule(changed=st.lists(SERVICES, max_size=3), gone=st.sets(st.sampled_from(["a/a:p", "b/b:p", "c/c:p", "z/z:p"])))
    def update(self, changed: list[ServicePort], gone: set[str]) -> None:
        before = {target: set(ends) for target, ends in self.contents.endpoints((6, 17)).items()}
        change = self.contents.update(changed, sorted(gone))
        self.machine.apply(change.operations)
        for name in gone:
            self.wanted.pop(name, None)
        self.wanted.update((each.name, each) for each in changed)
        after = {target: set(ends) for target, ends in self.contents.endpoints((6, 17)).items()}
        for target in before.keys() | after.keys():
            had, has = before.get(target, set()), after.get(target, set())
            assert (target in change.moved) == bool(had - has or (has and not had))
            assert set(change.moved.get(target, has)) == has

    @rule()
    def restart(self) -> None:
        """Another process takes over: a generation beside, a switch, what was there goes."""
        contents = Contents(NETWORK, self.contents.names.generation + 1)
        self.machine.apply(contents.load(self.wanted.values()))
        self.machine.apply(contents.switch())
        self.machine.apply(contents.clean(list(self.machine.chains), list(self.machine.sets)))
        self.contents = contents

    @invariant()
    def equals_a_fresh_load(self) -> None:
        fresh, contents = Machine(), Contents(NETWORK, self.contents.names.generation)
        fresh.apply(contents.load(self.wanted.values()))
        fresh.apply(contents.switch())
        assert self.machine.contents() == fresh.contents()


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=150, stateful_step_count=15, deadline=None)


def test_of_two_services_at_one_address_the_first_by_name_has_it() -> None:
    one = service("b/b:p", backends=THREE[:1])
    machine, contents = loaded(one)
    machine.apply(contents.update([service("a/a:p", backends=THREE[1:2])], []).operations)
    assert picked(machine, 1) == ["10.244.1.2:8080"]
    machine.apply(contents.update([], ["a/a:p"]).operations)
    assert picked(machine, 1) == ["10.244.1.1:8080"]


def test_a_service_that_moves_leaves_nothing_at_its_old_address() -> None:
    machine, contents = loaded(service())
    machine.apply(contents.update([service(address="10.96.0.2")], []).operations)
    assert machine.connect(Packet("10.244.1.9", "10.96.0.1")).reset
    assert picked(machine, 1, "10.96.0.2")


def test_shared_chains_come_with_their_first_service_and_go_with_their_last() -> None:
    _, contents = loaded(service("a/a:p", "10.96.0.1"), service("b/b:p", "10.96.0.2"))
    first = contents.update([service("a/a:p", "10.96.0.1", backends=THREE[:2])], []).operations
    assert [op.name for op in first if isinstance(op, AddChain | DropChain)] == ["random-2.1"]
    second = contents.update([service("b/b:p", "10.96.0.2", backends=THREE[:2])], []).operations
    assert [op.name for op in second if isinstance(op, AddChain | DropChain)] == ["random-3.1"]


def test_a_new_generation_serves_while_it_loads_and_keeps_who_sticks_to_whom() -> None:
    sticky = service(affinity=1000)
    machine, _ = loaded(sticky, service("b/b:p", "10.96.0.2", backends=THREE[:1]))
    stuck = picked(machine, 1)
    later = Contents(NETWORK, 2)
    for operation in later.load([sticky]):
        machine.apply([operation])
        assert picked(machine, 1) == stuck
    machine.apply(later.switch())
    assert picked(machine, 1) == stuck
    for operation in later.clean(list(machine.chains), list(machine.sets)):
        machine.apply([operation])
        assert picked(machine, 1) == stuck
    assert machine.connect(Packet("10.244.1.9", "10.96.0.2")).reset


def test_cleaning_drops_what_is_nobodys() -> None:
    machine, contents = loaded(service())
    machine.apply([AddChain("left-behind"), AddChain("random-9.0")])
    machine.apply(contents.clean(list(machine.chains), list(machine.sets)))
    assert {"left-behind", "random-9.0"}.isdisjoint(machine.chains)
    assert {REFUSE, CLAMP, "prerouting"} <= machine.chains.keys()


def test_a_change_says_whose_connections_may_be_stale() -> None:
    udp = service(protocol=Protocol.UDP, port=53)
    target = Target(bytes((10, 96, 0, 1)), 17, 53)
    contents = Contents(NodeNetwork(), 1)
    list(contents.load([]))
    assert contents.update([udp], []).moved.keys() == {target}, "it got its first endpoint"
    more = service(protocol=Protocol.UDP, port=53, backends=(*THREE, Backend("10.244.1.4", 1)))
    assert not contents.update([more], []).moved, "nobody lost anything"
    fewer = service(protocol=Protocol.UDP, port=53, backends=THREE[:1])
    assert contents.update([fewer], []).moved == {target: (Endpoint(bytes((10, 244, 1, 1)), 8080),)}
    assert contents.update([], [udp.name]).moved == {target: ()}
