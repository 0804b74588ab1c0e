"""For all tests: no deadlines of hypothesis, Ctrl-C reaches programs, servers are forgotten."""

import signal
import threading
from collections.abc import Iterator

import pytest
from command_line import Terminal
from hypothesis import HealthCheck, settings
from rows import forget_learned

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and (
    threading.current_thread() is threading.main_thread()
):
    # In the background (`make test &`, nohup) the shell ignores Ctrl-C, and so would every program
    # that a test starts and stops with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def forget_servers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget what was learned of a server: the next one may listen at the same port."""
    yield
    if not any(map(request.node.get_closest_marker, ("lmdeploy", "embedded", "servers"))):
        forget_learned()


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    """The terminals that a test has opened, which are closed at its end."""
    made: list[Terminal] = []
    yield made
    for each in made:
        each.close()
