"""The APIs that the client is tested on, as one fixture: `api` is a running one's kubeconfig.

Put the fixture into a test's module by importing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from bench import apiserver
from tests.sync.api.apis import running_embedded


@contextmanager
def _kube_apiserver(folder: Path) -> Iterator[Path]:
    if problem := apiserver.missing():
        pytest.skip(problem)
    with apiserver.running(folder) as found:
        yield found.kubeconfig


@contextmanager
def _embedded(folder: Path) -> Iterator[Path]:
    with running_embedded(folder) as found:
        yield found.kubeconfig


APIS: dict[str, Callable[[Path], AbstractContextManager[Path]]] = {
    "embedded": _embedded,
    "kube-apiserver": _kube_apiserver,
}


@pytest.fixture(scope="module", params=sorted(APIS))
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig of one that runs as long as the module's tests."""
    with APIS[request.param](tmp_path_factory.mktemp("api")) as kubeconfig:
        yield kubeconfig
