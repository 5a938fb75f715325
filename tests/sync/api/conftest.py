"""The APIs under test."""

import contextlib
from collections.abc import Iterator

import pytest

from bench import apiserver
from tests.sync.api.apis import Api, kubernetes_of, running_embedded


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The embedded API."""
    with running_embedded(tmp_path_factory.mktemp("embedded")) as api:
        yield api


@pytest.fixture(scope="session")
def kube_apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apiserver.ApiServer]:
    """kube-apiserver and etcd; skips the test if they are not built."""
    if problem := apiserver.missing():
        pytest.skip(problem)
    with apiserver.running(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.fixture(scope="session")
def kubernetes(kube_apiserver: apiserver.ApiServer) -> Iterator[Api]:
    """Kubernetes' own."""
    with contextlib.closing(kubernetes_of(kube_apiserver)) as api:
        yield api


@pytest.fixture(params=["embedded", "kubernetes"])
def api(request: pytest.FixtureRequest) -> Api:
    """Both, one after the other."""
    found: Api = request.getfixturevalue(request.param)
    return found
