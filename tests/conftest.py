"""What holds for all tests: a busy machine is no fault, so hypothesis has no deadlines."""

from collections.abc import Iterator

import pytest
from command_line import Terminal
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    """The terminals that a test has opened, which are closed at its end."""
    made: list[Terminal] = []
    yield made
    for each in made:
        each.close()
