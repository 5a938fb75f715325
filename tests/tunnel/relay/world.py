"""A relay and its nodes on virtual time: seeded loss, delay, reordering, duplicates; NATs that forget; restarts."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tunnel.endpoint import CHANNEL, Address
from tunnel.relay.client import Bound, Down, Event, RelayClient, Up
from tunnel.relay.server import RelayServer

RELAY = Address("198.51.100.1", 20006)


class Host:
    """A node behind a NAT: the client core, its mapped address, what it was told and what data it got."""

    def __init__(self, world: "World", name: str, address: Address) -> None:
        self.world = world
        self.name = name
        self.address = address
        self.private = world.random.randbytes(32)
        self.key = X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()
        self.client = RelayClient(RELAY, self.private, world.random.randbytes)
        self.log: list[tuple[float, Event]] = []
        self.data: deque[bytes] = deque()
        self.on = True

    def restart(self) -> None:
        """A new agent with the same key."""
        self.client = RelayClient(RELAY, self.private, self.world.random.randbytes)

    @property
    def up(self) -> bool:
        changes = [event for _, event in self.log if isinstance(event, Up | Down)]
        return bool(changes) and isinstance(changes[-1], Up)

    def channel(self, peer: "Host") -> Bound | None:
        bound = [event for _, event in self.log if isinstance(event, Bound) and event.peer == peer.key]
        return bound[-1] if bound else None

    def events(self, kind: type) -> list[Event]:
        return [event for _, event in self.log if isinstance(event, kind)]

    def say(self, peer: "Host", data: bytes) -> None:
        """What the engine does: data on the channel, straight to the relay."""
        bound = self.channel(peer)
        assert bound
        header = CHANNEL.to_bytes(4, "little") + bound.channel.to_bytes(4, "little")
        self.world.to_relay(header + data, self)


class World:
    def __init__(
        self, seed: int, loss: float = 0.0, delay: tuple[float, float] = (0.01, 0.01), duplicate: float = 0.0
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.delay, self.duplicate = loss, delay, duplicate
        self.now = 1000.0
        self.hosts: list[Host] = []
        self.relay: RelayServer | None = None
        self.admit: Callable[[bytes], bool] = lambda _: True
        self.sent: list[tuple[Address, int]] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.start_relay()

    def start_relay(self) -> RelayServer:
        self.relay = RelayServer(self.random.randbytes(32), self.random.randbytes, self.admit)
        return self.relay

    def host(self, name: str, address: Address | None = None) -> Host:
        host = Host(self, name, address or Address(f"203.0.113.{len(self.hosts) + 1}", 40000))
        self.hosts.append(host)
        return host

    def later(self, call: Callable[[], None]) -> None:
        copies = 2 if self.random.random() < self.duplicate else 1
        for _ in range(copies):
            if self.random.random() >= self.loss:
                heapq.heappush(self._queue, (self.now + self.random.uniform(*self.delay), next(self._order), call))

    def to_relay(self, datagram: bytes, host: Host) -> None:
        source = host.address

        def arrive() -> None:
            if not self.relay:
                return
            route = self.relay.table.routes.get((source, int.from_bytes(datagram[4:8], "little")))
            if datagram[0] == CHANNEL and route:
                route.datagrams += 1
                self.to_host(datagram, route.to)
            else:
                self.relay.receive(datagram, source, self.now)

        self.later(arrive)

    def to_host(self, datagram: bytes, address: Address) -> None:
        def arrive() -> None:
            for host in self.hosts:
                if host.address == address and host.on:
                    if datagram[0] == CHANNEL:
                        host.data.append(datagram[8:])
                    else:
                        host.client.receive(datagram, self.now)

        self.later(arrive)

    def step(self, until: float) -> None:
        """Do what is due now, then jump to the next thing that is due."""
        for host in self.hosts:
            due = host.client.deadline()
            if host.on and (due is None or due <= self.now):
                host.client.tick(self.now)
            while host.client.outbox:
                assert len(host.client.outbox[0]) <= 1200
                self.to_relay(host.client.outbox.popleft(), host)
            while host.client.events:
                host.log.append((self.now, host.client.events.popleft()))
        if self.relay:
            due = self.relay.deadline()
            if due is not None and due <= self.now:
                self.relay.tick(self.now)
            while self.relay.outbox:
                datagram, address = self.relay.outbox.popleft()
                self.sent.append((address, len(datagram)))
                self.to_host(datagram, address)
        waits = [until]
        waits += [due for host in self.hosts if host.on and (due := host.client.deadline()) is not None]
        if self.relay and (due := self.relay.deadline()) is not None:
            waits.append(due)
        if self._queue:
            waits.append(self._queue[0][0])
        self.now = max(self.now, min(waits))
        while self._queue and self._queue[0][0] <= self.now:
            heapq.heappop(self._queue)[2]()

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.step(until)
        self.step(until)

    def run_until(self, reached: Callable[[], bool], within: float) -> float:
        """Seconds until it is so; fails when it is not within that time."""
        start = self.now
        while not reached():
            assert self.now < start + within, "not in time"
            self.step(start + within)
        return self.now - start
