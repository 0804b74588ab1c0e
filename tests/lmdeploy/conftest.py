"""Servers for the tests of this folder, all of which are marked `lmdeploy`."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from environments import NoInterpreterError, make_teller
from launch import LAUNCHES, SEEING, Launch, Servers
from stand import Stand

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lmdeploy)


@pytest.fixture(scope="session")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """LMDeploy servers; those that the selected tests name are started at once, side by side."""
    running = Servers(tmp_path_factory.mktemp("lmdeploy"), make_teller(request.config))
    try:
        for name in _wanted(request.session.items):
            # told by the tests that need it, which ask again
            with suppress(NoInterpreterError):
                running.start(LAUNCHES[name])
        yield running
    finally:
        running.stop()


def _wanted(items: list[pytest.Item]) -> list[str]:
    """The launches that the tests name, as fixtures or as parameters."""
    names = {name for item in items for name in getattr(item, "fixturenames", ())}
    names |= {word for item in items for word in re.split(r"[][-]", item.name)}
    return [name for name in LAUNCHES if name in names]


def _fresh(servers: Servers, launch: Launch) -> Stand:
    try:
        stand = servers.ready(launch)
    except NoInterpreterError as reason:
        pytest.skip(str(reason))
    stand.reset()
    return stand


@pytest.fixture
def stock(servers: Servers) -> Stand:
    """0.18.0 with the `internlm` parser and the published template, which drops tools."""
    return _fresh(servers, LAUNCHES["stock"])


@pytest.fixture
def noparser(servers: Servers) -> Stand:
    """0.18.0 without a tool-call parser, which refuses tools."""
    return _fresh(servers, LAUNCHES["noparser"])


@pytest.fixture
def tools_template(servers: Servers) -> Stand:
    """0.18.0 with the `internlm` parser and a template that knows tools."""
    return _fresh(servers, LAUNCHES["tools_template"])


@pytest.fixture
def old(servers: Servers) -> Stand:
    """0.5.3, whose built-in template knows tools."""
    return _fresh(servers, LAUNCHES["old"])


@pytest.fixture
def seeing(servers: Servers) -> Stand:
    """0.18.0 with an InternVL2."""
    return _fresh(servers, SEEING)


@pytest.fixture(params=list(LAUNCHES))
def stand(request: pytest.FixtureRequest, servers: Servers) -> Stand:
    """Each of the four in turn."""
    return _fresh(servers, LAUNCHES[str(request.param)])
