"""The resolver's own file of its table, so that it starts alone: with it a node that boots without agent has names.

Written a moment after a change, in a thread (a disk may take a second to sync), to a temporary file that is renamed
over the old one. A file that is torn or of another version is moved aside and said; a disk that is full or read-only
is said once, and tried again, while the table is served from memory.

Layout: the magic, CRC-32 and length of the rest, then the MessagePack of (zones, names).
"""

from __future__ import annotations

import logging
import os
import threading
from binascii import crc32
from collections.abc import Callable, Iterable
from pathlib import Path
from struct import Struct

import msgspec

from dns.records import Name, Zone

WRITE_AFTER = 0.2
"""Seconds from a change to its being written: changes come in groups."""
SPACING = 5.0
"""Seconds between two writes at least: flash wears, and the whole file is written each time."""
TRY_AGAIN = 30.0
"""Seconds after a failed write."""
MAGIC = b"EMDNS\0\0\1"

log = logging.getLogger("edgemesh.resolver")

_HEAD = Struct("!8sII")
_decode = msgspec.msgpack.Decoder(tuple[tuple[Zone, ...], tuple[Name, ...]]).decode


class Torn(ValueError):
    """The file is not what was written."""


def pack(zones: Iterable[Zone], names: Iterable[bytes]) -> bytes:
    """The file's bytes; `names` are MessagePack of `Name` already."""
    packed = list(names)
    count = b"\xdd" + len(packed).to_bytes(4, "big")  # array 32
    body = b"\x92" + msgspec.msgpack.encode(tuple(zones)) + count + b"".join(packed)
    return _HEAD.pack(MAGIC, crc32(body), len(body)) + body


def unpack(data: bytes) -> tuple[tuple[Zone, ...], tuple[Name, ...]]:
    """The table in a file's bytes; raises Torn."""
    if len(data) < _HEAD.size:
        raise Torn(f"it has {len(data)} bytes")
    magic, checksum, length = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    if magic != MAGIC:
        raise Torn("it is not a table, or of another version")
    if len(body) != length or crc32(body) != checksum:
        raise Torn("its checksum is wrong")
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise Torn(str(fault)) from None


def load(path: Path) -> tuple[tuple[Zone, ...], tuple[Name, ...]] | None:
    """The table on disk, None when there is none to be had; a bad file is moved aside as `*.bad`."""
    try:
        return unpack(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as fault:
        log.warning("%s can't be read (%s): starting without names until the agent sends them", path, fault.strerror)
        return None
    except Torn as fault:
        aside = path.with_name(path.name + ".bad")
        try:
            os.replace(path, aside)
            where = f"moved to {aside}"
        except OSError as problem:
            where = f"it can't be moved aside ({problem.strerror})"
        log.warning("%s is torn (%s), %s: starting without names until the agent sends them", path, fault, where)
        return None


def write(path: Path, data: bytes) -> None:
    """Put the bytes in the file's place in one step; raises OSError."""
    temporary = path.with_name(path.name + ".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(number, view) :]
        os.fsync(number)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(number)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class TableFile:
    """Keeps the file after the table: `changed` tells of a change, `due` and `save` write it when it is time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """Why the last write failed."""
        self.due: float | None = None
        """When `advance` wants to be called."""
        self._dirty = False
        self._not_before = 0.0
        self._thread: threading.Thread | None = None

    def changed(self, now: float) -> None:
        """The table is no longer what is on disk."""
        self._dirty = True
        if self.due is None:
            self.due = now + WRITE_AFTER

    def advance(self, now: float, pack: Callable[[], bytes]) -> None:
        """See how a write went, or begin one; `pack` gives the bytes."""
        if self._thread is not None:
            if self._thread.is_alive():
                self.due = now + WRITE_AFTER
                return
            self._thread = None
            if self.problem:
                self._dirty = True
                self.due = now + TRY_AGAIN
                return
        if not self._dirty:
            self.due = None
            return
        if now < self._not_before:
            self.due = self._not_before
            return
        self._dirty = False
        self._not_before = now + SPACING
        self._thread = threading.Thread(target=self._write, args=(pack(),), name="table file", daemon=True)
        self._thread.start()
        self.due = now + WRITE_AFTER

    def finish(self, pack: Callable[[], bytes]) -> None:
        """Write what is not written yet, before the end."""
        if self._thread is not None:
            self._thread.join()
        if self._dirty or (self._thread is not None and self.problem):
            self._write(pack())

    def _write(self, data: bytes) -> None:
        try:
            write(self.path, data)
        except OSError as fault:
            if not self.problem:
                log.error(
                    "%s can't be written (%s): names are served from memory, and would be lost by a restart; "
                    "trying again every %d s",
                    self.path,
                    fault.strerror,
                    TRY_AGAIN,
                )
            self.problem = fault.strerror or str(fault)
            return
        if self.problem:
            log.info("%s is written again", self.path)
        self.problem = ""
