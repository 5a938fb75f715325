"""A node's Lease: that its agent lives, and that there is one of it.

`holderIdentity` is the node's name with a random part of this start. Whoever renews finds the Lease as it left it;
if it doesn't, another agent has the same identity: a machine whose disk was copied. One that was there before the
first renewal is an earlier start's. `leaseTransitions` counts how often it was taken back from another, so that the
cloud sees it too where two write at nearly the same moments.

Source: coordination.k8s.io/v1 Lease; RFC 3339 times with microseconds (MicroTime).
"""

from __future__ import annotations

import time
from typing import Any

from edgemesh.names import SYSTEM_NAMESPACE

PERIOD = 10.0
"""Seconds between renewals."""
DURATION = 40
"""leaseDurationSeconds: without a renewal for that long the node is not ready."""
MEMORY = 300.0
"""Seconds that a change of hands is remembered."""
CLONES = 2
"""Changes of hands within `MEMORY` that mean two machines."""
MOST_TRANSITIONS = 2**31 - 1
"""The field has 32 bits."""


class Lease:
    """One node's, without I/O; times in seconds since the epoch."""

    def __init__(self, node: str, nonce: str) -> None:
        self.node = node
        self.holder = f"{node}_{nonce}"
        self.revision = ""
        """resourceVersion that the next renewal builds on; empty before the first."""
        self._held = False
        self._transitions = 0  # to be written with the next renewal; 0 where nobody is known to have had it
        self._taken: list[float] = []
        self._other = ""

    def renewal(self, now: float) -> dict[str, Any]:
        """A merge patch, which fails with 409 if somebody else wrote the Lease meanwhile."""
        spec = {"holderIdentity": self.holder, "leaseDurationSeconds": DURATION, "renewTime": _micro_time(now)}
        if not self._held:
            spec["acquireTime"] = spec["renewTime"]
            if self._transitions:
                spec["leaseTransitions"] = self._transitions
        return {"metadata": {"resourceVersion": self.revision} if self.revision else {}, "spec": spec}

    def first(self, now: float) -> dict[str, Any]:
        """The whole object, for server-side apply, where there is none yet."""
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.node, "namespace": SYSTEM_NAMESPACE},
            "spec": self.renewal(now)["spec"],
        }

    def renewed(self, lease: dict[str, Any]) -> None:
        """It was written; `lease` is the answer."""
        self.revision = _revision(lease)
        self._held = True

    def found(self, lease: dict[str, Any], now: float) -> None:
        """It was written by somebody else meanwhile; `lease` is what is there."""
        self.revision = _revision(lease)
        spec = lease.get("spec")
        holder = spec.get("holderIdentity") if isinstance(spec, dict) else None
        self._transitions = min(transitions(lease) + 1, MOST_TRANSITIONS)
        if isinstance(holder, str) and holder != self.holder and self._held:
            self._taken.append(now)
            self._other = holder[:100]
        self._taken = self._taken[-CLONES:]
        self._held = holder == self.holder

    def clones(self, now: float) -> str:
        """Why this looks like two machines with one identity; empty if it doesn't."""
        recent = [when for when in self._taken if now - when < MEMORY]
        if len(recent) < CLONES:
            return ""
        return (
            f"two machines have this node's identity: the other is {self._other}, this one {self.holder}; "
            "on one of them: stop the agent, remove its state directory, and join under another name"
        )


def transitions(lease: dict[str, Any]) -> int:
    """How often a Lease changed hands, as far as it says."""
    spec = lease.get("spec")
    count = spec.get("leaseTransitions") if isinstance(spec, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _revision(lease: dict[str, Any]) -> str:
    metadata = lease.get("metadata")
    revision = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return revision if isinstance(revision, str) else ""


def _micro_time(now: float) -> str:
    seconds, micros = divmod(int(now * 1e6), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06d}Z"
