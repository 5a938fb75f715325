"""The snapshot on disk, so that a node that boots without the cloud serves names and services at once.

One file: a header (magic, version, length, BLAKE2b of the body) and a MessagePack body with all objects, and for each
file of manifests what it was when it was read and which objects it held. It is replaced whole, by renaming; a file
that is torn, corrupt or of another version is moved aside and said, never fatal. A disk that is full is said once,
and what is on it stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from edgemesh.snapshot import Snapshot
from sync.client.manifests import UNREAD, FileState, Stamp
from sync.resources.kinds import Resource

VERSION = 1
"""Of the body. Any change of the types in `sync.resources.kinds` that an old body would not decode as raises it."""

_MAGIC = b"EMSN"
_DIGEST = 16
_HEADER = struct.Struct(f">4sHxxQ{_DIGEST}s")

log = logging.getLogger(__name__)


class _Body(msgspec.Struct, array_like=True):
    service_range: str
    objects: list[Resource]
    files: dict[str, tuple[Stamp, list[int]]]
    serials: dict[str, int] = {}


class Loaded(NamedTuple):
    """What was on disk, empty where nothing (usable) was; `message` says why where the file had to be moved aside.

    `serials` are the highest of nodes' proofs that were ever accepted.
    """

    snapshot: Snapshot
    files: dict[str, FileState]
    message: str = ""
    serials: Mapping[str, int] = MappingProxyType({})


class SnapshotError(Exception):
    """The bytes are no snapshot; the message says why."""


def encode(
    snapshot: Snapshot, files: Mapping[str, FileState], service_range: str, serials: Mapping[str, int] | None = None
) -> bytes:
    """The file's content. Objects that only files hold (of two of one name the second) are not kept."""
    objects = list(snapshot.objects.values())
    index = {key: i for i, key in enumerate(snapshot.objects)}
    states: dict[str, tuple[Stamp, list[int]]] = {}
    for name, state in files.items():
        held = [index[item.key] for item in state.objects if snapshot.objects.get(item.key) == item]
        states[name] = (state.stamp if len(held) == len(state.objects) else UNREAD, held)
    body = msgspec.msgpack.encode(_Body(service_range, objects, states, dict(serials or {})))
    return _HEADER.pack(_MAGIC, VERSION, len(body), blake2b(body, digest_size=_DIGEST).digest()) + body


def decode(data: bytes, service_range: str) -> Loaded:
    """Read a file's content. Raises SnapshotError.

    Manifests that were checked against another service range are to be read again.
    """
    if len(data) < _HEADER.size:
        raise SnapshotError(f"it has only {len(data)} bytes")
    magic, version, length, digest = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if magic != _MAGIC:
        raise SnapshotError("it is no snapshot")
    if version != VERSION:
        raise SnapshotError(f"it is of version {version}, this program writes {VERSION}")
    if len(body) != length or blake2b(body, digest_size=_DIGEST).digest() != digest:
        raise SnapshotError("it is torn or corrupt")
    try:
        read = msgspec.msgpack.decode(body, type=_Body)
        files = {
            name: FileState(
                stamp if read.service_range == service_range else UNREAD, tuple(read.objects[i] for i in held)
            )
            for name, (stamp, held) in read.files.items()
        }
    except (msgspec.DecodeError, IndexError) as error:
        raise SnapshotError(f"it can't be understood ({error})") from None
    snapshot = Snapshot()
    snapshot.apply(read.objects)
    return Loaded(snapshot, files, serials=read.serials)


class SnapshotFile:
    """The file at `path`. `load` once, then `write` what `encode` gave, as often as there are changes.

    `write` may be called from another thread, one at a time.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.trouble = ""
        """Why the last write failed, for the status; empty if it did not."""

    def load(self, service_range: str) -> Loaded:
        """What is known from last time."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return Loaded(Snapshot(), {})
        except OSError as error:
            return Loaded(Snapshot(), {}, self._say(f"{self.path} can't be read: {error.strerror}"))
        try:
            return decode(data, service_range)
        except SnapshotError as error:
            aside = f"{self.path}.bad"
            try:
                os.replace(self.path, aside)
                moved = f"it is now {aside}"
            except OSError as failure:
                moved = f"it could not be moved aside: {failure.strerror}"
            text = f"{self.path} can't be used: {error}; {moved}, all is learned anew"
            return Loaded(Snapshot(), {}, self._say(text))

    def write(self, data: bytes) -> bool:
        """Replace the file. False if that failed: the old one is still there, and the first failure was logged."""
        draft = f"{self.path}.new"
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.replace(draft, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            trouble = f"{self.path} can't be written: {error.strerror}; a restart would begin from an older one"
            if trouble != self.trouble:
                log.error("snapshot: %s", trouble)
            self.trouble = trouble
            return False
        if self.trouble:
            log.info("snapshot: %s is written again", self.path)
        self.trouble = ""
        return True

    def _say(self, text: str) -> str:
        log.warning("snapshot: %s", text)
        return text
