"""When to ping candidates: rounds of a few volleys, and pauses between rounds.

Both ends ping all candidates of the other at about the same time, so that each NAT sees a packet go out before the
other's comes in. An identical attempt that failed rarely works later, so rounds thin out soon, except where a direct
path worked before: its break is likely to end.

A Linux gateway that answers unsolicited packets itself confirms a conntrack entry for the peer's early ping, and
from then on gives this side's packets another port; each further ping keeps that entry alive. What cures it is
silence of both ends beyond the entry's 30 s, and then the side behind that gateway first. Nobody knows which side that
is, so later rounds begin with one end and the next with the other.
"""

import math
from collections import deque
from typing import NamedTuple

VOLLEYS = (0.0, 0.05, 0.15, 0.35, 0.75, 1.5)
"""Seconds from a round's beginning at which all candidates are pinged."""

SILENCE = 37.0
"""More than conntrack's timeout of an unanswered UDP entry, and the volleys before."""

LEAD = 1.2
"""Seconds that the end that is to be first is ahead."""

HURRIES = 4
HURRIES_IN = 2.0
"""News and demands, which a peer can make, begin no more than so many rounds in so many seconds."""

_FRESH = (0.0, 2.0, 4.0)
_AFTER_LOSS = (0.5, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 5.0, 5.0, 10.0, 10.0, 15.0)


class Plan(NamedTuple):
    """The next round: begins after `pause` seconds; then `mine` and `theirs` are each end's delay."""

    pause: float
    mine: float = 0.0
    theirs: float = 0.0


def plan(failed: int, *, worked: bool) -> Plan:
    """The round after `failed` ones without a direct path; `worked`: there has been one before."""
    if worked:
        return Plan(_AFTER_LOSS[min(failed, len(_AFTER_LOSS) - 1)])
    if failed < len(_FRESH):
        return Plan(_FRESH[failed])
    swaps = failed - len(_FRESH)
    pause = SILENCE * 2 ** min(swaps // 2, 3)
    return Plan(pause, theirs=LEAD) if swaps % 2 == 0 else Plan(pause, mine=LEAD)


class Punch:
    """The rounds of one end: when the next begins, and the volleys of the one that runs."""

    __slots__ = ("_begun", "_failed", "_joined", "_mine", "_next", "_recent", "_round", "_theirs", "_volley", "_worked")

    def __init__(self, now: float) -> None:
        self._round: float | None = now
        self._recent: deque[float] = deque(maxlen=HURRIES)
        self._joined: deque[float] = deque(maxlen=HURRIES)
        self._begun = now
        self._volley = len(VOLLEYS)
        self._failed = 0
        self._worked = False
        self._mine = 0.0
        self._theirs = 0.0

    def hurry(self, now: float) -> None:
        """Something new is known: a round at once, but no more than HURRIES in a short while."""
        self._failed, self._mine, self._theirs = 0, 0.0, 0.0
        full = len(self._recent) == HURRIES
        self._round = max(now, self._recent[0] + HURRIES_IN) if full else now

    def lost(self, now: float) -> None:
        """A direct path has just died: it may come back soon."""
        self._worked, self._failed = True, 0
        self._round = now + plan(0, worked=True).pause

    def rest(self, now: float, pause: float) -> None:
        """There is a direct path: no volleys now, the next round after a pause."""
        self._volley, self._failed = len(VOLLEYS), 0
        self._round = now + pause

    def begun(self, now: float, *, leads: bool) -> float | None:
        """None until a round is due; then begin it, and say how long the other end is to wait (seconds).

        An end that does not lead has no volleys of its own rounds, and no next one.
        """
        if self._round is None or now < self._round:
            return None
        wait = self._theirs
        self._recent.append(now)
        self._round = None
        if leads:
            self.join(now + self._mine)
            self._failed += 1
            following = plan(self._failed, worked=self._worked)
            self._mine, self._theirs = following.mine, following.theirs
            self._round = now + following.pause
        return wait

    def join(self, at: float) -> None:
        """Send volleys from that time on; later, when there were HURRIES such rounds a short while ago."""
        if self._volley == 0 and self._begun >= at:
            return
        if len(self._joined) == HURRIES:
            at = max(at, self._joined[0] + HURRIES_IN)
        self._joined.append(at)
        self._begun, self._volley = at, 0

    def due(self, now: float) -> bool:
        """Whether a volley is due; counts it as sent. Volleys that were slept through are one."""
        due = False
        while self._volley < len(VOLLEYS) and self._begun + VOLLEYS[self._volley] <= now:
            self._volley += 1
            due = True
        return due

    def deadline(self) -> float:
        """When the next round or volley is due; infinity for never."""
        volley = self._begun + VOLLEYS[self._volley] if self._volley < len(VOLLEYS) else math.inf
        return volley if self._round is None else min(volley, self._round)
