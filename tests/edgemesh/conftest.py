"""Virtual time for the tests of the program: `trio.testing.trio_test` runs a test on the clock that it takes."""

import pytest
from trio.testing import MockClock


@pytest.fixture
def autojump_clock() -> MockClock:
    """A clock that jumps to the next deadline as soon as nothing else is to be done."""
    return MockClock(autojump_threshold=0)
