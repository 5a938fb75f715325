"""`kill -9` amid writes, two hundred times on one file."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

from tests.sync.store.stores import opened, run

LIVES = 200
WRITER = Path(__file__).with_name("writer.py")


def live(path: Path, since: int, number: int, random: Random) -> tuple[list[list[str]], bytes]:
    """One start, killed at a random time after it began to write, or a few before; gives its lines and its errors."""
    command = [sys.executable, "-I", "-S", str(WRITER), str(path), str(since), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        early = number % 10 == 9
        killer = threading.Timer(random.uniform(0.02, 0.12), process.kill)
        if early:
            killer.start()
        text = b""
        while line := process.stdout.readline():
            text += line
            if line.startswith(b"S") and not early:
                end = time.monotonic() + random.uniform(0, 0.04)
                while time.monotonic() < end and (line := process.stdout.readline()):
                    text += line
                process.kill()
        killer.cancel()
        errors = process.stderr.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [line.split() for line in whole.decode().splitlines()], errors


def test_no_write_is_lost_no_revision_given_twice_and_watches_go_on(tmp_path: Path) -> None:
    random = Random(9)
    path = tmp_path / "db"
    seen: dict[int, list[str]] = {}
    acknowledged: dict[int, list[str]] = {}
    last = 0
    starts = written = 0
    for number in range(LIVES):
        lines, errors = live(path, last, number, random)
        assert errors == b"", errors.decode()
        for letter, revision_text, *rest in lines:
            revision = int(revision_text)
            if letter == "S":
                starts += 1
                assert revision >= max(acknowledged, default=1), "an acknowledged write was lost"
            elif letter == "W":
                assert revision > last, "a watch was told something twice, or out of order"
                last = revision
                seen[revision] = rest
            else:
                assert revision not in acknowledged, "a revision was given twice"
                acknowledged[revision] = rest
                written += 1

    async def drained() -> None:
        async with opened(path) as store:
            watch = store.watch("pods", since=last)
            if store.revision > last:
                for event in await watch.next():
                    token = event.entry.data.split(b" ")[1].decode()
                    seen[event.revision] = [event.type, event.entry.key.name, token]
            objects: dict[str, str] = {}
            for revision in sorted(seen):
                kind, name, token = seen[revision]
                assert (kind == "ADDED") == (name not in objects), "a watch had a gap"
                objects[name] = token
                if kind == "DELETED":
                    del objects[name]
            found = store.list("pods").entries
            assert {entry.key.name: entry.data.split(b" ")[1].decode() for entry in found} == objects
            assert all(int(entry.data.split(b" ")[0]) == entry.revision for entry in found)
            assert store.compacted > 0, "it should have been compacted meanwhile"
            assert sorted(seen) == list(range(2, store.revision + 1)), "no commit failed, so no revision is left out"

    run(drained)
    assert acknowledged.items() <= seen.items()
    assert starts >= LIVES * 0.8
    assert written > LIVES * 10
