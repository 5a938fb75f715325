"""Run by test_kill: writes as fast as it can, and prints what was acknowledged (A) and what a watch was told (W).

A line each: letter, revision, type, name, token. Imports little: it is started two hundred times.
"""

import asyncio
import os
import sys
from pathlib import Path
from random import Random

sys.path.insert(0, os.getcwd())

from sync.store import Change, Entry, Key, Store


def say(*lines: str) -> None:
    os.write(1, "".join(f"{line}\n" for line in lines).encode())


async def write(store: Store, random: Random, label: str) -> None:
    count = 0
    while True:
        count += 1
        token = f"{label}-{count}"
        kind = ""

        def change(head: Entry | None, revision: int, token: str = token) -> Change:
            nonlocal kind
            deleted = head is not None and random.random() < 0.3
            kind = "DELETED" if deleted else "MODIFIED" if head else "ADDED"
            return Change(f"{revision} {token} {'x' * random.randrange(2000)}".encode(), deleted)

        entry = await store.write(Key("pods", "shop", f"p{random.randrange(30)}"), change)
        assert entry is not None
        say(f"A {entry.revision} {kind} {entry.key.name} {token}")


async def main(path: str, since: int, life: int) -> None:
    store = Store(Path(path), keep=2000)
    await store.open()
    watch = store.watch("pods", since=since)
    say(f"S {store.revision}")
    random = Random(life)
    tasks = [asyncio.create_task(write(store, random, f"{life}-{writer}")) for writer in range(8)]
    while not any(task.done() for task in tasks):
        for event in await watch.next():
            entry = event.entry
            say(f"W {event.revision} {event.type} {entry.key.name} {entry.data.split(b' ')[1].decode()}")
    await asyncio.gather(*tasks)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
