"""What the store's tests share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sync.store import Change, Entry, Event, Key, Store, Watch


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A test's coroutine, which may take a minute."""
    asyncio.run(asyncio.wait_for(test(), 60))


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Store]:
    store = Store(path, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it looks at has no event
        await asyncio.sleep(0)


def pod(name: str, namespace: str = "shop") -> Key:
    return Key("pods", namespace, name)


async def put(store: Store, key: Key, text: str = "") -> Entry:
    entry = await store.write(key, lambda head, revision: Change(f"{revision} {text}".encode()))
    assert entry is not None
    return entry


async def delete(store: Store, key: Key) -> Entry:
    entry = await store.write(key, lambda head, revision: Change(f"{revision} gone".encode(), deleted=True))
    assert entry is not None
    return entry


async def given(watch: Watch, last: int) -> list[Event]:
    """Events up to that revision."""
    events: list[Event] = []
    while not events or events[-1].revision < last:
        events += await watch.next()
    return events


def fill(store: Store) -> None:
    """The disk is full: the file may not grow by a page."""
    connection = store._log._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count=1")  # SQLite takes the present size instead


def empty(store: Store) -> None:
    """The disk has room again."""
    connection = store._log._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count=1000000000")
