"""The file: a log of writes by revision, in SQLite. Blocking; used by one thread at a time.

The newest row of a key is its state; a row that a newer one made obsolete stays while a watch may ask for it. There is
no index beside the primary key: all is read once, in order, when the store is opened, and obsolete rows are named by
their revision.

WAL with synchronous FULL: a commit is one fsync of the -wal file. Checkpoints are not left to SQLite, which would make
the commit that fills the WAL wait for one: `tidy` makes them, after 4 MiB, and the WAL starts anew from its beginning.
auto_vacuum is INCREMENTAL: room of obsolete rows is used again, and when more than a quarter of the file is free,
`tidy` gives pages back. locking_mode is EXCLUSIVE: one process at a time, and no -shm file.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sync.store.entry import Event, StoreFault

APPLICATION_ID = 0x65_6D_73_74
"""In the file's header: it is ours ("emst")."""
FORMAT = 1
CHECKPOINT_BYTES = 4 << 20
VACUUM_PAGES = 256
"""Pages given back at a time."""
ROWS = 64
"""The most rows a statement inserts. sqlite3 lets go of Python's lock for each statement, and a busy event loop takes
5 ms to give it back: a statement a row would be slow where it must be fast."""


class Row(NamedTuple):
    """A write, as it is in the file."""

    revision: int
    resource: str
    namespace: str
    name: str
    created: int
    deleted: int
    data: bytes


class Log:
    """The file. Every method raises StoreFault, with what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compacted = 0
        """What the file says; the store's may be further on."""
        self.last = 0
        """The last row's revision, or `compacted`."""
        self._connection: sqlite3.Connection | None = None
        self._unchecked = 0  # bytes in the WAL, roughly
        self._airy = False  # much of the file was free when last looked at
        self._doubt = False  # a commit failed: are its rows in the file?

    def open(self) -> None:
        """Make the file, or take it as it is: never overwritten, one process at a time."""
        try:
            self._make_file()
            self._connection = connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._take()
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreFault(self._explain(error)) from error
        except StoreFault:
            self.close()
            raise

    def _make_file(self) -> None:
        """Secrets are in it: nobody else reads it. SQLite gives the -wal file the mode of the main one."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            # by name only: closing a descriptor would drop the locks of a store that this process has open
            for path in (self.path, self.wal):
                if path.exists() and path.stat().st_mode & 0o077:
                    path.chmod(0o600)

    def _take(self) -> None:
        database = self._database
        ours = _number(database.execute("PRAGMA application_id")) == APPLICATION_ID
        tables = _number(database.execute("SELECT count(*) FROM sqlite_master"))
        if not ours and tables:
            raise StoreFault(
                f"{self.path} is a database of another program: nothing was changed. Name another file for the store"
            )
        if ours and (version := _number(database.execute("PRAGMA user_version"))) != FORMAT:
            raise StoreFault(
                f"{self.path} has format {version}, this version reads {FORMAT}: nothing was changed. "
                "Run the version that wrote it, or name another file"
            )
        if not ours:
            database.execute("PRAGMA auto_vacuum=INCREMENTAL")
        if database.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise StoreFault(f"{self.path}: its file system has no write-ahead log for SQLite; use a local disk")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("PRAGMA cache_size=-256")  # KiB; writes are at the end, and all is read once
        database.execute(f"PRAGMA journal_size_limit={4 * CHECKPOINT_BYTES}")
        database.execute("BEGIN IMMEDIATE")
        if not ours:
            database.execute(
                "CREATE TABLE log (revision INTEGER PRIMARY KEY, resource TEXT NOT NULL, namespace TEXT NOT NULL, "
                "name TEXT NOT NULL, created INTEGER NOT NULL, deleted INTEGER NOT NULL, data BLOB NOT NULL)"
            )
            database.execute("CREATE TABLE compaction (revision INTEGER NOT NULL)")
            database.execute("INSERT INTO compaction VALUES (0)")
            database.execute(f"PRAGMA application_id={APPLICATION_ID}")
            database.execute(f"PRAGMA user_version={FORMAT}")
        database.execute("COMMIT")
        self.compacted = _number(database.execute("SELECT revision FROM compaction"))
        self.last = max(self.compacted, _number(database.execute("SELECT max(revision) FROM log")))

    def rows(self) -> Iterator[Row]:
        """All that is in the file, by revision."""
        try:
            yield from map(Row._make, self._database.execute("SELECT * FROM log ORDER BY revision"))
        except sqlite3.Error as error:
            raise StoreFault(self._explain(error)) from error

    def append(self, events: Sequence[Event]) -> None:
        """Make writes durable: all of them or none. Revisions rise."""
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            if self._doubt:
                database.execute("DELETE FROM log WHERE revision > ?", (self.last,))
            start = 0
            while start < len(events):
                # powers of two: seven statements, which stay compiled, make any number
                count = min(ROWS, 1 << (len(events) - start).bit_length() - 1)
                values: list[object] = []
                for event in events[start : start + count]:
                    entry = event.entry
                    values += (event.revision, *entry.key, entry.created, event.type == "DELETED", entry.data)
                places = ",".join(["(?,?,?,?,?,?,?)"] * count)
                database.execute(f"INSERT INTO log VALUES {places}", values)
                start += count
            database.execute("COMMIT")
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            # when the fsync failed the rows may be in the file all the same; the next commit takes them out
            self._doubt = True
            self._roll_back()
            raise StoreFault(self._explain(error)) from error
        self._doubt = False
        self.last = events[-1].revision
        self._unchecked += sum(len(event.entry.data) for event in events) + 4096 * 3

    def tidy(self, rows: Sequence[int], compacted: int) -> None:
        """Delete those rows, and note what is compacted with it. Then a checkpoint and free pages, where due."""
        database = self._database
        try:
            if rows or compacted != self.compacted:
                database.execute("BEGIN IMMEDIATE")
                database.execute(
                    "DELETE FROM log WHERE revision IN (SELECT value FROM json_each(?))", (json.dumps(rows),)
                )
                database.execute("UPDATE compaction SET revision=?", (compacted,))
                database.execute("COMMIT")
                self.compacted = compacted
                self._unchecked += 4096 * (2 + len(rows))
            free = _number(database.execute("PRAGMA freelist_count"))
            self._airy = free > VACUUM_PAGES and free * 4 > _number(database.execute("PRAGMA page_count"))
            if self._airy:
                database.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
                self._airy = _number(database.execute("PRAGMA freelist_count")) < free  # a file that can't: no more
                self._unchecked += 4096 * VACUUM_PAGES
            if self._unchecked > CHECKPOINT_BYTES:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._unchecked = 0
        except sqlite3.Error as error:
            self._roll_back()
            raise StoreFault(self._explain(error)) from error

    @property
    def tidy_due(self) -> bool:
        """Whether the WAL is long, or much of the file free."""
        return self._unchecked > CHECKPOINT_BYTES or self._airy

    @property
    def wal(self) -> Path:
        """The write-ahead log's file."""
        return self.path.with_name(self.path.name + "-wal")

    def close(self) -> None:
        """Let go of the file; SQLite makes a last checkpoint."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    @property
    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreFault(f"{self.path} is not open")
        return self._connection

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            with suppress(sqlite3.Error):  # the error before it is the one to tell
                self._database.execute("ROLLBACK")

    def _explain(self, error: Exception) -> str:
        """What happened, where, and what to do."""
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        for prefix, advice in _ADVICE:
            if name.startswith(prefix):
                return f"{self.path}: {error}: {advice}"
        return f"{self.path}: {error}: see whether its disk and its folder can be written"


_ADVICE = (
    ("SQLITE_BUSY", "another process has it open. Stop that one first, or name another file"),
    ("SQLITE_LOCKED", "another process has it open. Stop that one first, or name another file"),
    ("SQLITE_NOTADB", "nothing was changed. Put a copy of the store in its place, or move it away to begin empty"),
    ("SQLITE_CORRUPT", "it is damaged. Put a copy of the store in its place, or move it away to begin empty"),
    ("SQLITE_FULL", "nothing was written. Make room on its disk; writing then goes on by itself"),
    ("SQLITE_READONLY", "nothing was written. Let this user write the file and its folder"),
    ("SQLITE_CANTOPEN", "its folder must exist, and this user may write there"),
    ("FileNotFoundError", "its folder must exist"),
    ("PermissionError", "let this user write the file and its folder"),
)


def _number(cursor: sqlite3.Cursor) -> int:
    found = cursor.fetchone()[0]
    return int(found or 0)
