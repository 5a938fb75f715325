"""One bed for all tests that need two nodes behind NATs."""

from collections.abc import Iterator

import pytest

from tests.tunnel.bed import Net, two_nats


@pytest.fixture(scope="session")
def net() -> Iterator[Net]:
    with two_nats() as net:
        yield net
