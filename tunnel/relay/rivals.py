"""Two machines with one key: told from one machine that has moved, and kept from taking turns.

A node whose NAT gives it a new address registers from there and does not come back. Two machines with the same key
each register again when the other has, from two addresses in turn. After RETURNS comings-back within WINDOW the one
that is registered stays so for HOLD while it is alive; then the newest has it again, once.

Invariant: at most CAP keys are watched, the one that moved longest ago is forgotten first.
"""

import logging
from collections import OrderedDict

import msgspec

from tunnel.endpoint import Address
from tunnel.relay.proof import shown

log = logging.getLogger(__name__)

WINDOW = 120.0
RETURNS = 2
HOLD = 30.0
CAP = 1024
ADDRESSES = 4
"""Addresses remembered of a key."""


class Rivalry(msgspec.Struct, frozen=True):
    """A key that two machines register with, the addresses they do it from, and since when."""

    key: bytes
    addresses: tuple[Address, Address]
    since: float


class _Moves(msgspec.Struct):
    left: OrderedDict[Address, float] = msgspec.field(default_factory=OrderedDict)
    returns: int = 0
    last: float = 0.0
    held_until: float = 0.0
    rivalry: Rivalry | None = None


class Rivals:
    """The keys that have moved lately."""

    def __init__(self) -> None:
        self._moves: OrderedDict[bytes, _Moves] = OrderedDict()

    def __len__(self) -> int:
        return len(self._moves)

    def moves(self, key: bytes, holder: Address, newcomer: Address, holder_alive: bool, now: float) -> bool:
        """Whether a key that is registered at `holder`, and proved from `newcomer`, moves there."""
        moves = self._moves.get(key)
        if not moves or now >= moves.last + WINDOW:
            moves = self._moves[key] = _Moves()
        moves.last = now
        self._moves.move_to_end(key)
        if len(self._moves) > CAP:
            self._moves.popitem(last=False)
        if now < moves.held_until and holder_alive:
            return False
        if newcomer in moves.left:
            moves.returns += 1
        moves.left[holder] = now
        moves.left.move_to_end(holder)
        if len(moves.left) > ADDRESSES:
            moves.left.popitem(last=False)
        if moves.returns >= RETURNS:
            moves.held_until = now + HOLD
            if not moves.rivalry:
                moves.rivalry = Rivalry(key, (holder, newcomer), now)
                log.warning(
                    "two machines register with the key %s, from %s:%d and %s:%d: give each a key of its own",
                    shown(key),
                    *holder,
                    *newcomer,
                )
        return True

    def current(self, now: float) -> list[Rivalry]:
        """Those of the last WINDOW."""
        return [moves.rivalry for moves in self._moves.values() if moves.rivalry and now < moves.last + WINDOW]
