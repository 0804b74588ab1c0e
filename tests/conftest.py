"""For all tests: hypothesis has no deadlines on a busy machine, and Ctrl-C reaches programs."""

import signal
import threading
from collections.abc import Iterator

import pytest
from command_line import Terminal
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and (
    threading.current_thread() is threading.main_thread()
):
    # In the background (`make test &`, nohup) the shell ignores Ctrl-C, and so would every program
    # that a test starts and stops with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    """The terminals that a test has opened, which are closed at its end."""
    made: list[Terminal] = []
    yield made
    for each in made:
        each.close()
