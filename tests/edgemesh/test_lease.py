"""The Lease: renewed, and who else does."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgemesh.lease import DURATION, MEMORY, PERIOD, Lease

START = 1_800_000_000.25


class Store:
    """One Lease in an API; a stale resourceVersion is a conflict."""

    def __init__(self, holder: str = "") -> None:
        self.lease: dict[str, Any] = {}
        if holder:
            self.write({"holderIdentity": holder})

    def write(self, spec: dict[str, Any]) -> None:
        revision = int(self.lease["metadata"]["resourceVersion"]) + 1 if self.lease else 1
        self.lease = {
            "metadata": {"resourceVersion": str(revision)},
            "spec": {**self.lease.get("spec", {}), **spec},
        }

    def renew(self, lease: Lease, now: float) -> None:
        for _ in range(2):
            patch = lease.renewal(now)
            wanted = patch["metadata"].get("resourceVersion")
            if self.lease and wanted in (None, self.lease["metadata"]["resourceVersion"]):
                self.write(patch["spec"])
            elif self.lease:
                lease.found(self.lease, now)
                continue
            else:
                self.write(lease.first(now)["spec"])
            lease.renewed(self.lease)
            return
        raise AssertionError


def test_what_is_written() -> None:
    lease = Lease("a", "0123")
    assert lease.first(START)["metadata"] == {"name": "a", "namespace": "edgemesh-system"}
    spec = lease.renewal(START)["spec"]
    assert spec == {
        "holderIdentity": "a_0123",
        "leaseDurationSeconds": DURATION,
        "renewTime": "2027-01-15T08:00:00.250000Z",
        "acquireTime": "2027-01-15T08:00:00.250000Z",
    }
    lease.renewed({"metadata": {"resourceVersion": "7"}})
    patch = lease.renewal(START)
    assert patch["metadata"] == {"resourceVersion": "7"}
    assert "acquireTime" not in patch["spec"]


def test_a_restart_is_no_clone() -> None:
    store, now = Store(), START
    for start in range(5):
        lease = Lease("a", str(start))
        for _ in range(3):
            store.renew(lease, now)
            now += PERIOD
            assert lease.clones(now) == ""


def test_two_machines_are_seen_by_both_within_half_a_minute() -> None:
    store, one, two = Store(), Lease("a", "one"), Lease("a", "two")
    for i in range(3):
        store.renew(one, START + i * PERIOD)
        store.renew(two, START + i * PERIOD + 3)
    now = START + 2 * PERIOD + 3
    assert "the other is a_two, this one a_one" in one.clones(now)
    assert "the other is a_one, this one a_two" in two.clones(now)
    assert one.clones(now + MEMORY) == ""


def test_somebody_who_edits_it_is_no_clone() -> None:
    store, lease = Store(), Lease("a", "one")
    for i in range(6):
        store.renew(lease, START + i * PERIOD)
        store.write({"leaseDurationSeconds": 50})
    assert lease.clones(START + 6 * PERIOD) == ""


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.dictionaries(
            st.sampled_from(["metadata", "spec", "holderIdentity", "resourceVersion"]), inner
        ),
        max_leaves=6,
    )
)
def test_rubbish_in_it_does_no_harm(found: Any) -> None:
    lease = Lease("a", "one")
    if isinstance(found, dict):
        lease.found(found, START)
        lease.renewed(found)
    assert isinstance(lease.renewal(START)["metadata"], dict)
