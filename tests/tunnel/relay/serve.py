"""Run a relay inside a bed: prints a line when it is there, and its status for each line on standard input."""

import sys

import trio

from tests.tunnel.bed import PUBLIC
from tests.tunnel.relay.station import key_of
from tunnel.endpoint import Address
from tunnel.relay.forward import Relay


async def main(admitted: list[str]) -> None:
    relay = Relay()
    keys = {key_of(number) for number in map(int, admitted)}
    async with trio.open_nursery() as nursery:
        admit = keys.__contains__ if keys else None
        run = lambda task_status: relay.run(Address(PUBLIC, 20006), admit=admit, task_status=task_status)  # noqa: E731
        print(await nursery.start(run), flush=True)
        while True:
            await trio.sleep(0.2)
            print(relay.status(), flush=True)


trio.run(main, sys.argv[1:])
