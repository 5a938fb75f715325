"""An endpoint moves between two pods: from the change of its slice to new connections that reach the new one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from bench.sites import NAMESPACE, WORD_PORT, Sites
from e2e.lab.api import Object
from e2e.lab.namespaces import BedError

SETTLE = 0.2
"""Seconds between an endpoint's arrival and its next move."""


def moves(sites: Sites, slices: Mapping[str, Object], change: Callable[[Object], float], count: int) -> list[float]:
    """Milliseconds of each move of the service `moving`, as a pod of site B sees it.

    `slices` are the two states of its EndpointSlice by the word that then answers, the present one first; `change`
    brings one about and gives the time of CLOCK_MONOTONIC from which is counted.
    """
    address = sites.address(f"moving.{NAMESPACE}.svc.cluster.local")
    words = list(slices)
    times: list[float] = []
    with sites.telling("follow", sites.pod_of("call"), address=address, port=WORD_PORT) as told:
        told()
        for number in range(count):
            time.sleep(SETTLE)
            word = words[(number + 1) % 2]
            began = change(slices[word])
            said = told()
            if not said or said["word"] != word:
                raise BedError(f"{said['word'] if said else 'nobody'} answers after a move, not {word}")
            times.append((said["at"] - began) * 1e3)
    return times
