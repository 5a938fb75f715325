"""Connections of those who were revoked end; one that is closing already is no obstacle."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sync.api.connections import Connections


class Transport:
    """What is used of asyncio's, which has nothing to tell of its peer once it was closed twice."""

    def __init__(self, serial: int, *, closing: bool = False) -> None:
        self.serial = serial
        self.aborted = False
        self._closing = closing

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str) -> int:
        if self._closing:
            raise AttributeError("'NoneType' object has no attribute '_get_extra_info'")
        return self.serial

    def abort(self) -> None:
        self.aborted = True


def test_a_closing_connection_does_not_keep_others_from_being_cut() -> None:
    async def handle(request: Any) -> Any:
        raise AssertionError("nobody asks")

    async def run() -> list[bool]:
        connections = Connections(handle)
        transports = [Transport(1, closing=True), Transport(1), Transport(2)]
        for transport in transports:
            cast("dict[object, object]", connections._connections)[object()] = transport
        connections.cut(lambda transport: transport.get_extra_info("peercert") == 1)
        return [transport.aborted for transport in transports]

    assert asyncio.run(run()) == [False, True, False]
