"""The directory of manifests, on a real file system."""

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sync.client import document
from sync.client.inotify import IN_CLOSE_WRITE, IN_CREATE, IN_IGNORED, IN_MOVED_TO, IN_Q_OVERFLOW, Event, Watch, parse
from sync.client.manifest import parse as parse_file
from sync.client.manifests import GRACE, UNREAD, Changes, FileState, Manifests
from sync.resources.kinds import Key, Service

RANGE = "10.96.0.0/12"


def service(name: str, port: int = 80, extra: str = "") -> str:
    return (
        "apiVersion: v1\nkind: Service\nmetadata:\n"
        f"  name: {name}\n  namespace: shop\nspec:\n  ports:\n    - port: {port}\n{extra}"
    )


def key(name: str) -> Key:
    return Key("Service", "shop", name)


def put(path: Path, text: str) -> None:
    """Write a file as a careful program does: whole, by renaming."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.rename(path)


def ports(changes: Changes) -> dict[str, int]:
    return {
        resource.metadata.name: resource.spec.ports[0].port
        for resource in changes.changed
        if isinstance(resource, Service)
    }


def follow(
    directory: Path,
    scenario: Callable[[Manifests, Callable[[], Awaitable[Changes]]], Awaitable[None]],
    known: dict[str, FileState] | None = None,
) -> None:
    """Run a scenario with manifests, and a function for the next changes that fails after 5 seconds."""

    async def main() -> None:
        manifests = Manifests(directory, known=known, service_range=RANGE)

        async def next_changes() -> Changes:
            with trio.fail_after(5):
                return await anext(manifests)

        try:
            await scenario(manifests, next_changes)
        finally:
            manifests.close()

    trio.run(main)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "manifests"
    path.mkdir()
    return path


def test_first_read_is_one_batch_and_changes_follow(directory: Path) -> None:
    (directory / "a.yaml").write_text(service("a") + "---\n" + service("b"))
    (directory / "list.json").write_text('{"kind": "List", "apiVersion": "v1", "items": []}')
    (directory / "notes.txt").write_text("no manifest")
    (directory / ".a.yaml.swp").write_text("no manifest")
    (directory / "sub.yaml").mkdir()

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert ports(await changes()) == {"a": 80, "b": 80}
        put(directory / "a.yaml", service("a", 81) + "---\n" + service("b"))
        assert ports(await changes()) == {"a": 81}
        (directory / "c.yml").write_text(service("c"))  # written in place
        assert ports(await changes()) == {"c": 80}
        put(directory / "a.yaml", service("b"))
        assert await changes() == Changes([], [key("a")])
        (directory / "c.yml").unlink()
        assert await changes() == Changes([], [key("c")])
        assert manifests.problems == {}

    follow(directory, scenario)


def test_file_is_read_when_it_is_closed(directory: Path) -> None:
    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        await changes()
        fd = os.open(directory / "a.yaml", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"apiVersion: [")
        put(directory / "b.yaml", service("b"))
        assert ports(await changes()) == {"b": 80}
        assert manifests.problems == {}
        os.pwrite(fd, service("a").encode(), 0)
        os.close(fd)
        assert ports(await changes()) == {"a": 80}

    follow(directory, scenario)


def test_links_are_read_when_they_are_made(directory: Path) -> None:
    (directory / "a.txt").write_text(service("a"))
    (directory / "b.txt").write_text(service("b"))

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        await changes()
        os.link(directory / "a.txt", directory / "a.yaml")
        assert ports(await changes()) == {"a": 80}
        (directory / "b.yaml").symlink_to("b.txt")
        assert ports(await changes()) == {"b": 80}

    follow(directory, scenario)


def test_editor_that_moves_the_file_away_first_loses_nothing(directory: Path) -> None:
    path = directory / "a.yaml"
    path.write_text(service("a"))

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        await changes()
        path.rename(directory / "a.yaml~")
        path.write_text(service("a", 81))
        assert await changes() == Changes([parsed(81)], [])
        (directory / "a.yaml~").unlink()
        path.unlink()
        started = trio.current_time()
        assert await changes() == Changes([], [key("a")])
        assert trio.current_time() - started >= GRACE * 0.9

    follow(directory, scenario)


def parsed(port: int) -> Service:
    (found,), _ = parse_file("a.yaml", service("a", port).encode())
    assert isinstance(found, Service)
    return found


def test_faulty_file_keeps_its_objects_and_is_told_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = directory / "a.yaml"
    path.write_text(service("a") + "---\n" + service("b"))
    caplog.set_level(logging.INFO)

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        await changes()
        # One is misspelt, the other good and changed: the good one counts, the other stays.
        put(path, service("a", extra="  selectr: {}\n") + "---\n" + service("b", 81))
        assert ports(await changes()) == {"b": 81}
        (problem,) = manifests.problems["a.yaml"]
        assert str(problem) == "a.yaml:9: spec.selectr: unknown field 'selectr'; did you mean 'selector'?"
        assert manifests.files["a.yaml"].stamp == UNREAD
        put(path, "a: [")  # no YAML at all, then empty: all stay
        put(directory / "z.yaml", service("z"))
        assert ports(await changes()) == {"z": 80}
        assert {resource.key for resource in manifests.files["a.yaml"].objects} == {key("a"), key("b")}
        put(path, "")
        put(directory / "z.yaml", service("z", 81))
        assert ports(await changes()) == {"z": 81}
        assert "no objects" in str(manifests.problems["a.yaml"][0])
        put(path, service("b", 81))
        assert await changes() == Changes([], [key("a")])
        assert manifests.problems == {}

    follow(directory, scenario)
    assert [record.message for record in caplog.records].count(
        "manifests: a.yaml:9: spec.selectr: unknown field 'selectr'; did you mean 'selector'?"
    ) == 1
    assert "manifests: a.yaml is in order again" in caplog.text


def test_problems_have_file_line_and_what_would_be_right(directory: Path) -> None:
    (directory / "a.yaml").write_text(service("a", extra="  clusterIP: 192.0.2.1\n"))
    (directory / "b.yaml").write_text("# x\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\n")
    items = "\n".join(f"  {line}" for line in service("c", 99999).splitlines()).replace("  ", "- ", 1)
    (directory / "c.yaml").write_text(f"kind: List\nitems:\n{items}\n")

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert await changes() == Changes([], [])
        told = [str(problem) for found in manifests.problems.values() for problem in found]
        assert told == [
            "a.yaml:9: spec.clusterIP: 192.0.2.1 is outside the service range 10.96.0.0/12; "
            "an address of 10.96.0.0/12, or no clusterIP: one is given",
            "b.yaml:3: kind: unknown kind 'Deployment'; "
            "one of Namespace, Service, EndpointSlice, Pod, Node, MeshNode, DestinationRule, ConfigMap",
            "c.yaml:10: spec.ports[0].port: 99999 is out of range; a whole number <= 65535",
        ]

    follow(directory, scenario)


def test_object_in_two_files_is_the_firsts_by_name(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    (directory / "b.yaml").write_text(service("x", 2))
    (directory / "c.yaml").write_text("# c\n" + service("x", 3))

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert ports(await changes()) == {"x": 2}
        (problem,) = manifests.problems["c.yaml"]
        assert str(problem).startswith("c.yaml:5: metadata.name: Service shop/x is also in b.yaml")
        put(directory / "a.yaml", service("x", 1))
        assert ports(await changes()) == {"x": 1}
        assert sorted(manifests.problems) == ["b.yaml", "c.yaml"]
        assert "also in a.yaml" in str(manifests.problems["c.yaml"][0])
        (directory / "a.yaml").unlink()
        assert ports(await changes()) == {"x": 2}
        assert sorted(manifests.problems) == ["c.yaml"]
        (directory / "b.yaml").unlink()
        assert ports(await changes()) == {"x": 3}
        assert manifests.problems == {}
        (directory / "c.yaml").unlink()
        assert await changes() == Changes([], [key("x")])

    follow(directory, scenario)


def test_known_files_are_not_read_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (directory / f"{name}.yaml").write_text(service(name))
    known: dict[str, FileState] = {}

    async def first(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        await changes()
        known.update(manifests.files)

    follow(directory, first)
    put(directory / "b.yaml", service("b", 81))
    (directory / "c.yaml").unlink()
    read: list[bytes] = []
    original = document.read

    def reading(text: bytes) -> list[document.Document]:
        read.append(text)
        return original(text)

    monkeypatch.setattr(document, "read", reading)

    async def second(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        found = await changes()
        assert ports(found) == {"b": 81}
        assert found.gone == [key("c")]

    follow(directory, second, known)
    assert read == [service("b", 81).encode()]


def test_directory_that_is_not_there_or_empty_keeps_what_is_known(directory: Path) -> None:
    known = {"a.yaml": FileState((1, 1, 1, 1), (parsed(80),))}
    missing = directory / "later"

    async def absent(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert await changes() == Changes([], [])
        assert "No such file" in str(manifests.problems[""][0])
        missing.mkdir()
        put(missing / "a.yaml", service("a", 81))
        assert ports(await changes()) == {"a": 81}
        assert manifests.problems == {}
        (missing / "a.yaml").unlink()
        with trio.move_on_after(GRACE / 4):
            raise AssertionError(await anext(manifests))
        missing.rmdir()  # the directory goes, with what was in it
        with trio.move_on_after(GRACE * 2):
            raise AssertionError(await anext(manifests))
        missing.mkdir()
        put(missing / "b.yaml", service("b"))
        assert ports(await changes()) == {"b": 80}
        assert await changes() == Changes([], [key("a")])

    follow(missing, absent, known)

    async def empty(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert await changes() == Changes([], [])
        assert "has no manifests" in str(manifests.problems[""][0])
        put(directory / "bare" / "b.yaml", service("b"))
        assert ports(await changes()) == {"b": 80}

    (directory / "bare").mkdir()
    follow(directory / "bare", empty, known)


def test_faulty_file_keeps_its_objects_over_a_restart(directory: Path) -> None:
    (directory / "a.yaml").write_text("a: [")
    known = {"a.yaml": FileState(UNREAD, (parsed(80),))}

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert await changes() == Changes([], [])
        assert manifests.files == known
        assert sorted(manifests.problems) == ["a.yaml"]
        put(directory / "a.yaml", service("a", 81))
        assert ports(await changes()) == {"a": 81}

    follow(directory, scenario, known)


def test_volume_whose_link_is_swapped(directory: Path) -> None:
    """A ConfigMap's volume: the files are links through `..data`, which is renamed over."""
    for version in (1, 2):
        (directory / f"..v{version}").mkdir()
        (directory / f"..v{version}" / "a.yaml").write_text(service("a", version))
    (directory / "..data").symlink_to("..v1")
    (directory / "a.yaml").symlink_to("..data/a.yaml")

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert ports(await changes()) == {"a": 1}
        (directory / "..tmp").symlink_to("..v2")
        (directory / "..tmp").rename(directory / "..data")
        assert ports(await changes()) == {"a": 2}

    follow(directory, scenario)


def test_many_files_at_once(directory: Path) -> None:
    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert await changes() == Changes([], [])
        for i in range(150):
            put(directory / f"{i}.yaml", service(f"s{i}"))
        found: dict[str, int] = {}
        while len(found) < 150:
            found |= ports(await changes())
        assert len(manifests.files) == 150

    follow(directory, scenario)


def test_without_inotify_it_is_looked_at_now_and_then(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Watch, path: str) -> NoReturn:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(Watch, "__init__", refuse)

    async def scenario(manifests: Manifests, changes: Callable[[], Awaitable[Changes]]) -> None:
        assert await changes() == Changes([], [])
        assert "can't be watched" in str(manifests.problems[""][0])
        put(directory / "a.yaml", service("a"))
        assert ports(await changes()) == {"a": 80}

    follow(directory, scenario)


@given(st.text(max_size=80) | st.text(alphabet="kindServceaptao:{}[]-1 \n\t\"'&*", max_size=80))
def test_garbage_is_problems(text: str) -> None:
    objects, problems = parse_file("x.yaml", text.encode("utf-8", "surrogatepass"), RANGE)
    assert objects == ()
    assert problems
    assert all(problem.line >= 1 and str(problem).startswith("x.yaml:") for problem in problems)


@given(st.data())
def test_damaged_manifest_never_raises(data: st.DataObject) -> None:
    text = bytearray((service("a") + "---\n" + service("b")).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4))
    objects, problems = parse_file("x.yaml", bytes(text), RANGE)
    assert all(problem.wrong for problem in problems)
    assert len(objects) <= 2


def test_events_are_parsed() -> None:
    def event(mask: int, name: bytes = b"") -> bytes:
        padded = name + b"\0" * (-len(name) % 16)
        return b"\1\0\0\0" + mask.to_bytes(4, "little") + bytes(4) + len(padded).to_bytes(4, "little") + padded

    assert parse(event(IN_CLOSE_WRITE, b"a.yaml") + event(IN_MOVED_TO, b"b.yaml")) == Event(
        frozenset({"a.yaml", "b.yaml"})
    )
    assert parse(event(IN_CREATE, b"a.yaml")) == Event(made=frozenset({"a.yaml"}))
    assert parse(event(IN_Q_OVERFLOW)).all
    assert parse(event(IN_IGNORED)).lost
    assert parse(event(IN_MOVED_TO, b"..data")).all
    assert parse(b"") == Event()
