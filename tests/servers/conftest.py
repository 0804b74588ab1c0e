"""Real model servers, for the tests of this folder, all of which are marked `servers`."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from environments import (
    InstallationError,
    NoInterpreterError,
    NotInstallableError,
    make_teller,
)
from real_servers import SERVERS, RealServers, RunningServer, StartError

HERE = Path(__file__).parent
UNAVAILABLE = (NoInterpreterError, NotInstallableError)
"""Reasons to skip: the packages cannot be installed on this platform."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def real_servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServers]:
    """The servers; those that the selected tests name are started at once, side by side."""
    running = RealServers(tmp_path_factory.mktemp("servers"), make_teller(request.config))
    try:
        for name in _find_names(request.session.items):
            # reported by the tests that need it, which ask again
            with suppress(NoInterpreterError, InstallationError, StartError):
                running.start(name)
        yield running
    finally:
        running.stop()


def _find_names(items: list[pytest.Item]) -> list[str]:
    """The servers that the tests name as parameters."""
    names = {word for item in items for word in re.split(r"[][-]", item.name)}
    return [name for name in SERVERS if name in names]


@pytest.fixture
def server(request: pytest.FixtureRequest, real_servers: RealServers) -> RunningServer:
    """The server that a test names by its indirect parameter."""
    try:
        return real_servers.start(str(request.param)).wait()
    except UNAVAILABLE as reason:
        pytest.skip(str(reason))
