"""The agent's side of the resolver's socket: the resolver has the latest names, whatever happens to either.

`set` and `update` say what should be and return at once; `run` brings it there: the whole table after each
connection, then only what changed since, the latest of each name. A connection that ends is made again. Nothing is
sent before the first `set`: an agent that knows nothing yet must not empty a table that serves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import trio
from trio.lowlevel import ParkingLot

from dns.control import Codec, Done, GetStatus, Malformed, Message, Refused, Replace, Status, Update, encode
from dns.records import Name, Zone

RETRY = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between tries to connect; the last repeats."""
ANSWER_WITHIN = 30.0
"""Seconds after which a resolver that doesn't answer is connected to anew."""
STATUS_WITHIN = 2.0
READ = 65536

log = logging.getLogger("edgemesh.agent")


class ResolverClient:
    """See the module. `problem` is what the resolver refused, or why it can't be reached; empty when all is well."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connected = False
        self.problem = ""
        self._zones: tuple[Zone, ...] = ()
        self._names: dict[str, Name] = {}
        self._known = False
        """Whether `set` has been called."""
        self._whole = True
        """Whether the next message must be the whole table."""
        self._dirty: set[str] = set()
        self._wanted = 0
        self._applied = 0
        self._work = trio.Event()
        self._progress = ParkingLot()

    def set(self, zones: Sequence[Zone], names: Mapping[str, Name]) -> None:
        """The table should be this, and no more; names by their `name`."""
        if tuple(zones) != self._zones or not self._known:
            self._whole = True
        gone = self._names.keys() - names.keys()
        changed = {key for key, name in names.items() if self._names.get(key) != name}
        self._zones = tuple(zones)
        self._names = dict(names)
        self._known = True
        self._change(gone | changed)

    def update(self, changed: Iterable[Name] = (), gone: Iterable[str] = ()) -> None:
        """These names should be so, and those should be gone."""
        touched = set()
        for key in gone:
            self._names.pop(key, None)
            touched.add(key)
        for name in changed:
            self._names[name.name] = name
            touched.add(name.name)
        self._change(touched)

    def _change(self, touched: Iterable[str]) -> None:
        self._dirty |= set(touched)
        self._wanted += 1
        self._work.set()

    async def applied(self) -> None:
        """Wait until the resolver has taken everything said so far (what it refused included: see `problem`)."""
        wanted = self._wanted
        while self._applied < wanted:
            await self._progress.park()

    async def status(self) -> Status | None:
        """The resolver's own account, None when it can't be had within two seconds."""
        with trio.move_on_after(STATUS_WITHIN):
            try:
                stream = await trio.open_unix_socket(str(self.path))
            except OSError:
                return None
            async with stream:
                try:
                    await stream.send_all(encode(GetStatus()))
                    codec = Codec()
                    while data := await stream.receive_some(READ):
                        for message in codec.feed(data):
                            return message if isinstance(message, Status) else None
                except (trio.BrokenResourceError, Malformed):
                    return None
        return None

    async def run(self) -> None:
        """Keep the resolver up to date until cancelled."""
        failures = 0
        while True:
            if not self._known:
                await self._wait()
                continue
            try:
                stream = await trio.open_unix_socket(str(self.path))
            except OSError as fault:
                self._lost(f"the resolver is not reachable at {self.path}: {fault.strerror or fault}")
            else:
                failures = 0
                self.connected = True
                self._whole = True
                async with stream:
                    await self._serve(stream)
            await trio.sleep(RETRY[min(failures, len(RETRY) - 1)])
            failures += 1

    def _lost(self, reason: str) -> None:
        self.connected = False
        if not self.problem:
            log.warning("%s; trying again", reason)
        self.problem = reason

    async def _wait(self) -> None:
        await self._work.wait()
        self._work = trio.Event()

    async def _serve(self, stream: trio.SocketStream) -> None:
        """One connection, to its end: a reader that sees at once when the resolver goes, beside the writer."""
        answers_in, answers = trio.open_memory_channel[Message](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, stream, answers_in, nursery.cancel_scope)
            try:
                while True:
                    await self._push(stream, answers)
                    await self._wait()
            except trio.BrokenResourceError:
                self._lost("the resolver closed its connection")
            except trio.TooSlowError:
                self._lost(f"the resolver did not answer within {ANSWER_WITHIN:.0f} s")
            nursery.cancel_scope.cancel()

    async def _read(
        self, stream: trio.SocketStream, answers: trio.MemorySendChannel[Message], scope: trio.CancelScope
    ) -> None:
        codec = Codec()
        try:
            while data := await stream.receive_some(READ):
                for message in codec.feed(data):
                    await answers.send(message)
            self._lost("the resolver closed its connection")
        except trio.BrokenResourceError:
            self._lost("the resolver closed its connection")
        except Malformed as fault:
            self._lost(f"the resolver sent {fault}")
        scope.cancel()

    async def _push(self, stream: trio.SocketStream, answers: trio.MemoryReceiveChannel[Message]) -> None:
        """Send what differs, and wait for the answer."""
        wanted = self._wanted
        if self._whole:
            message: Message = Replace(self._zones, tuple(self._names.values()))
        elif self._dirty:
            changed = tuple(self._names[key] for key in self._dirty if key in self._names)
            gone = tuple(key for key in self._dirty if key not in self._names)
            message = Update(changed, gone)
        else:
            self._note(wanted)
            return
        self._whole = False
        self._dirty = set()
        with trio.fail_after(ANSWER_WITHIN):
            await stream.send_all(encode(message))
            answer = await answers.receive()
        if isinstance(answer, Refused):
            if answer.reason != self.problem:
                log.warning("the resolver skipped names: %s", answer.reason)
            self.problem = answer.reason
        elif isinstance(answer, Done):
            self.problem = ""
        self._note(wanted)

    def _note(self, wanted: int) -> None:
        self._applied = max(self._applied, wanted)
        self._progress.unpark_all()
