"""The relay's table against a plain model: who is where, and who wants whom."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tunnel.endpoint import Address
from tunnel.relay.proof import Keys
from tunnel.relay.protocol import State
from tunnel.relay.table import Node, Table

SESSION = Keys(bytes(32), bytes(32), bytes(32), bytes(16), bytes(24))

keys = st.integers(0, 4).map(lambda number: bytes([number]) * 32)
addresses = st.integers(0, 5).map(lambda number: Address(f"192.0.2.{number % 2}", 1000 + number))


class TableMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.at: dict[bytes, Address] = {}
        self.wants: set[tuple[bytes, bytes]] = set()
        self.numbers: dict[frozenset[bytes], int] = {}
        self.now = 0.0

    @rule(key=keys, address=addresses)
    def register(self, key: bytes, address: Address) -> None:
        """As the server does: whoever was at the address goes; a known node moves."""
        there = self.table.by_address.get(address)
        if there and there.key != key:
            self.leave(there.key)
        node = self.table.nodes.get(key)
        if not node:
            self.table.add(Node(key, address, SESSION, b"", 0, self.now))
        elif node.address != address:
            self.table.move(node, address)
        self.at[key] = address

    @rule(key=keys)
    def leave(self, key: bytes) -> None:
        if not (node := self.table.nodes.get(key)):
            return
        left = {other.key for other in self.table.remove(node)}
        assert left == {peer for peer in self.at if {(key, peer), (peer, key)} <= self.wants}
        del self.at[key]
        self.wants = {want for want in self.wants if want[0] != key}

    @rule(key=keys, peer=keys)
    def bind(self, key: bytes, peer: bytes) -> None:
        if key == peer or not (node := self.table.nodes.get(key)):
            return
        channel, new = self.table.bind(node, peer)
        assert channel
        assert new == ((key, peer) not in self.wants)
        self.wants.add((key, peer))
        assert channel.state is (State.PRESENT if (peer, key) in self.wants else State.ABSENT)
        assert self.numbers.setdefault(frozenset((key, peer)), channel.number) == channel.number

    @rule(key=keys, peer=keys)
    def unbind(self, key: bytes, peer: bytes) -> None:
        if not (node := self.table.nodes.get(key)):
            return
        both = {(key, peer), (peer, key)} <= self.wants
        other = self.table.unbind(node, peer)
        assert (other.key if other else None) == (peer if both else None)
        self.wants.discard((key, peer))

    @rule(key=keys)
    def hear(self, key: bytes) -> None:
        if node := self.table.nodes.get(key):
            self.now += 1
            self.table.hear(node, self.now)

    @invariant()
    def holds_exactly_what_follows(self) -> None:
        table = self.table
        assert {key: node.address for key, node in table.nodes.items()} == self.at
        assert {node.key: address for address, node in table.by_address.items()} == self.at
        routes = {(where, channel): route.to for (where, channel), route in table.routes.items()}
        assert routes == {
            (self.at[key], self.numbers[frozenset((key, peer))]): self.at[peer]
            for key, peer in self.wants
            if (peer, key) in self.wants
        }
        assert set(table.channels) == {self.numbers[frozenset(want)] for want in self.wants}
        hosts = [address.host for address in self.at.values()]
        assert dict(table.hosts) == {host: hosts.count(host) for host in hosts}
        heard = [node.heard for node in table.nodes.values()]
        assert heard == sorted(heard)


TestTable = TableMachine.TestCase
