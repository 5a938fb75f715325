"""The APIs under test."""

from collections.abc import Iterator

import pytest

from tests.sync.api.apis import Api, running_embedded, running_kubernetes


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The embedded API."""
    with running_embedded(tmp_path_factory.mktemp("embedded")) as api:
        yield api


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Kubernetes' own."""
    with running_kubernetes(tmp_path_factory.mktemp("kubernetes")) as api:
        yield api


@pytest.fixture(params=["embedded", "kubernetes"])
def api(request: pytest.FixtureRequest) -> Api:
    """Both, one after the other."""
    found: Api = request.getfixturevalue(request.param)
    return found
