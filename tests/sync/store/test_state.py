"""Pages of a state, newest or undone, against sorting all of it."""

from hypothesis import given
from hypothesis import strategies as st

from sync.store.entry import Entry, Event, Key
from sync.store.history import History
from sync.store.state import State

keys = st.builds(Key, st.sampled_from(["pods", "podsx"]), st.sampled_from(["a", "a-b", "ab"]), st.sampled_from("pqrs"))


@given(
    st.lists(st.tuples(keys, st.booleans()), max_size=40),
    st.integers(0, 40),
    st.sampled_from(["", "a", "a-b", "none"]),
    st.none() | st.tuples(st.sampled_from(["a", "a-b", "b"]), st.sampled_from(["", "p", "q", "z"])),
    st.integers(0, 5),
)
def test_a_page_is_a_slice_of_all_objects_in_order(
    writes: list[tuple[Key, bool]], at: int, namespace: str, after: tuple[str, str] | None, limit: int
) -> None:
    state, history = State(), History(1000, 1 << 20)
    snapshots: list[dict[Key, Entry]] = [{}]
    for revision, (key, deleted) in enumerate(writes, 1):
        objects = dict(snapshots[-1])
        previous = objects.pop(key, None)
        entry = Entry(key, revision, previous.created if previous else revision, b"")
        if deleted and previous:
            event = Event(revision, "DELETED", entry, previous)
        else:
            event = Event(revision, "MODIFIED" if previous else "ADDED", entry, previous)
            objects[key] = entry
        snapshots.append(objects)
        state.apply(event)
        history.append(event)
    at = min(at, len(writes))
    wanted = [
        entry
        for key, entry in sorted(snapshots[at].items())
        if key.resource == "pods" and namespace in ("", key.namespace) and (after is None or key[1:] > after)
    ]
    entries, remaining = state.page("pods", namespace, after, limit, history.undo("pods", at))
    assert entries == wanted[: limit or None]
    assert remaining == len(wanted) - len(entries)


def test_the_window_names_the_rows_it_leaves_behind() -> None:
    history = History(keep=2, keep_bytes=1000)
    key = Key("pods", "a", "p")
    first, second, last = (Entry(key, revision, 2, b"1234") for revision in (2, 3, 4))
    history.append(Event(2, "ADDED", first, None))
    history.append(Event(3, "MODIFIED", second, first))
    assert history.trim() == []
    history.append(Event(4, "DELETED", last, second))
    assert history.trim() == []  # of the first event nothing is obsolete yet
    assert (history.compacted, len(history), history.bytes) == (2, 2, 16)
    assert history.trim(3) == [2]
    assert history.trim(4) == [3, 4]
    assert (history.compacted, len(history), history.bytes) == (4, 0, 0)
    history.append(Event(5, "ADDED", Entry(key, 5, 5, b"x" * 1001), None))
    history.trim()
    assert (history.compacted, len(history)) == (5, 0)
