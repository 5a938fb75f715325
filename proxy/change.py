"""From what is in the table to what should be: the operations of one transaction. Pure.

`Contents` is one generation of the table as this process knows it, filled by `load`, put in use by `switch`, changed
by `update`. Its work is in proportion to the services that change: theirs are the only placements made, and only the
elements that differ are named. Shared chains come with the first service that needs them and go with the last.

Order matters inside a transaction and is kept here: what is referred to is made before, and dropped after, what
refers to it; an element that changes is dropped and added (nftables can't replace one).
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from .address import LayoutError
from .expression import Rule
from .layout import (
    HOOKS,
    Endpoint,
    Names,
    Placement,
    Target,
    can_call_itself,
    fixed_chains,
    generation_of,
    hairpin,
    network_chains,
    place,
)
from .service import NodeNetwork, ServicePort

log = logging.getLogger(__name__)


class AddChain(msgspec.Struct, frozen=True):
    """Make a chain unless it is there (a name in `layout.HOOKS` is a base chain), and append rules."""

    name: str
    rules: tuple[Rule, ...] = ()


class FlushChain(msgspec.Struct, frozen=True):
    """Drop a chain's rules."""

    name: str


class DropChain(msgspec.Struct, frozen=True):
    """Drop a chain and its rules; nothing may refer to it."""

    name: str


class AddSet(msgspec.Struct, frozen=True):
    """Make a set or map unless it is there; the name says of which form."""

    name: str


class DropSet(msgspec.Struct, frozen=True):
    """Drop a set or map with its elements; no rule may refer to it."""

    name: str


class AddElements(msgspec.Struct, frozen=True):
    """Add elements that aren't there: key to data, a chain's name (goto), or None in a set."""

    name: str
    elements: Mapping[bytes, bytes | str | None]


class DropElements(msgspec.Struct, frozen=True):
    """Drop elements that are there."""

    name: str
    keys: tuple[bytes, ...]


Operation = AddChain | FlushChain | DropChain | AddSet | DropSet | AddElements | DropElements


class Change(msgspec.Struct, frozen=True):
    """One transaction, and the targets that lost endpoints or got their first, with those they have now."""

    operations: list[Operation]
    moved: dict[Target, tuple[Endpoint, ...]]


class _Elements(msgspec.Struct):
    """Differences of the three shared maps, gathered over all changed services."""

    dropped: dict[str, list[bytes]] = {}
    added: dict[str, dict[bytes, bytes | str | None]] = {}

    def change(
        self, name: str, old: Mapping[bytes, bytes | str | None], new: Mapping[bytes, bytes | str | None]
    ) -> None:
        gone = [key for key, data in old.items() if key not in new or new[key] != data]
        come = {key: data for key, data in new.items() if key not in old or old[key] != data}
        if gone:
            self.dropped.setdefault(name, []).extend(gone)
        if come:
            self.added.setdefault(name, {}).update(come)


class Contents:
    """One generation of the table. The methods' operations must all be carried out, in order."""

    def __init__(self, network: NodeNetwork, generation: int) -> None:
        """Raises LayoutError when the network can't be expressed."""
        self.names = Names(generation)
        self.services: dict[str, ServicePort] = {}
        self.client_sets: set[str] = set()
        self._base = network_chains(network, self.names)
        self._here = can_call_itself(network)
        self._claims: dict[Target, tuple[str, ...]] = {}
        self._users: Counter[str] = Counter()
        self._callers: Counter[bytes] = Counter()

    def load(self, services: Iterable[ServicePort]) -> Iterator[Operation]:
        """Fill maps that are not in use yet; may be carried out in any number of transactions."""
        for name in (self.names.slots, self.names.services, self.names.hairpins):
            yield AddSet(name)
        for name in fixed_chains():
            yield AddChain(name)
        portion: list[ServicePort] = []
        for service in services:
            portion.append(service)
            if len(portion) == 100:
                yield from self.update(portion, ()).operations
                portion = []
        yield from self.update(portion, ()).operations

    def switch(self) -> Iterator[Operation]:
        """Put this generation in use: one transaction."""
        chains = {**fixed_chains(), **self._base}
        for name in chains:
            yield AddChain(name)
        for name, rules in chains.items():
            yield FlushChain(name)
            yield AddChain(name, rules)

    def clean(self, chains: Iterable[str], sets: Iterable[str]) -> Iterator[Operation]:
        """Drop what other generations left, of the names in the table; any number of transactions."""
        others = [name for name in chains if self._is_foreign(name)]
        stale = [name for name in sets if self._is_foreign(name)]
        # verdict maps refer to chains, the rules of chains to the other maps
        yield from (DropSet(name) for name in stale if name.startswith("services."))
        yield from (DropChain(name) for name in others)
        yield from (DropSet(name) for name in stale if not name.startswith("services."))

    def _is_foreign(self, name: str) -> bool:
        if name.startswith("clients-"):
            return name not in self.client_sets
        generation = generation_of(name)
        if generation is None:
            return name not in HOOKS and name not in self._base and name not in fixed_chains()
        return generation != self.names.generation

    def update(self, changed: Iterable[ServicePort], gone: Iterable[str]) -> Change:
        """One transaction: `gone` (names) are no more, then `changed` are as given now."""
        before: dict[Target, Placement | None] = {}
        placed: dict[str, Placement | None] = {}
        for name in gone:
            old = self.services.pop(name, None)
            if old:
                self._claim(name, self._place(old), None, before)
        for service in changed:
            old = self.services.get(service.name)
            if old == service:
                continue
            self.services[service.name] = service
            placed[service.name] = now = self._place(service, warn=True)
            self._claim(service.name, self._place(old) if old else None, now, before)
        pairs = [(target, old, self._winner(target, placed)) for target, old in before.items()]
        moved: dict[Target, tuple[Endpoint, ...]] = {}
        for target, was, now in pairs:
            had, has = was.endpoints if was else (), now.endpoints if now else ()
            if has != had and (not had or not set(had) <= set(has)):
                moved[target] = has
        return Change(list(self._difference([(was, now) for _, was, now in pairs])), moved)

    def endpoints(self, protocols: Collection[int]) -> dict[Target, tuple[Endpoint, ...]]:
        """All targets of some protocols, with their endpoints."""
        found: dict[Target, tuple[Endpoint, ...]] = {}
        for target in self._claims:
            if target.protocol in protocols:
                placement = self._winner(target)
                found[target] = placement.endpoints if placement else ()
        return found

    def _place(self, service: ServicePort, warn: bool = False) -> Placement | None:
        try:
            return place(service, self.names)
        except LayoutError as error:
            if warn:
                log.warning("service %s is left out: %s", service.name, error)
            return None

    def _winner(self, target: Target, placed: Mapping[str, Placement | None] | None = None) -> Placement | None:
        """The placement at a target: of those who claim it, the first by name has it. `placed` are already made."""
        names = self._claims.get(target)
        if not names:
            return None
        return placed[names[0]] if placed and names[0] in placed else self._place(self.services[names[0]])

    def _claim(
        self, name: str, was: Placement | None, now: Placement | None, before: dict[Target, Placement | None]
    ) -> None:
        """Move a service's claim from where it was to where it is, remembering who held each target before."""
        if was:
            target = was.target
            names = self._claims[target]
            if target not in before:
                before[target] = was if names[0] == name else self._winner(target)
            if not now or now.target != target:
                left = tuple(each for each in names if each != name)
                if left:
                    self._claims[target] = left
                else:
                    del self._claims[target]
        if now:
            target = now.target
            names = self._claims.get(target, ())
            if target not in before:
                before[target] = self._winner(target)
            if name not in names:
                if names:
                    log.warning("services %s and %s have one address and port: %s", names[0], name, target)
                self._claims[target] = tuple(sorted((*names, name)))

    def _difference(self, pairs: list[tuple[Placement | None, Placement | None]]) -> Iterator[Operation]:
        new_chains: dict[str, tuple[Rule, ...]] = {}
        shared: Counter[str] = Counter()
        flushed: list[str] = []
        dropped: list[str] = []
        sets_come: list[str] = []
        sets_gone: list[str] = []
        callers: Counter[bytes] = Counter()
        elements = _Elements()
        names = self.names
        for old, new in pairs:
            if old == new:
                continue
            elements.change(names.slots, old.slots() if old else {}, new.slots() if new else {})
            elements.change(
                names.services,
                {old.target.key(): old.chain} if old else {},
                {new.target.key(): new.chain} if new else {},
            )
            for side, step in ((old, -1), (new, 1)):
                if not side:
                    continue
                for end in side.endpoints:
                    if end.address in self._here:
                        callers[end.address] += step
                if side.shared and side.rules:
                    shared[side.chain] += step
                    new_chains.setdefault(side.chain, side.rules)
            was = old.chain if old and not old.shared else None
            now = new.chain if new and not new.shared else None
            if was and was != now:
                dropped.append(was)
            if new and now and (was != now or not old or old.rules != new.rules):
                new_chains[now] = new.rules
                if was == now:
                    flushed.append(now)
            old_sets = set(old.client_sets if old else ())
            new_sets = set(new.client_sets if new else ())
            sets_come += sorted(new_sets - old_sets)
            sets_gone += sorted(old_sets - new_sets)
        for name, step in shared.items():
            before = self._users[name]
            self._users[name] += step
            if before or not self._users[name]:
                del new_chains[name]
            if before and not self._users[name]:
                dropped.append(name)
            if not self._users[name]:
                del self._users[name]
        for address, step in callers.items():
            before = self._callers[address]
            self._callers[address] += step
            there: dict[bytes, bytes | str | None] = {hairpin(address): None}
            elements.change(names.hairpins, there if before else {}, there if self._callers[address] else {})
            if not self._callers[address]:
                del self._callers[address]
        self.client_sets.update(sets_come)
        self.client_sets.difference_update(sets_gone)

        yield from (AddSet(name) for name in sets_come)
        yield from (FlushChain(name) for name in flushed)
        yield from (AddChain(name, rules) for name, rules in new_chains.items())
        yield from (DropElements(name, tuple(keys)) for name, keys in elements.dropped.items())
        yield from (AddElements(name, added) for name, added in elements.added.items())
        yield from (DropChain(name) for name in dropped)
        yield from (DropSet(name) for name in sets_gone)
