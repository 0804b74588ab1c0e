"""The browser and the servers of the tests of this folder, all of which are marked `web`.

They need the extra `webtest` and Debian's package `chromium`. Without these this folder holds no
tests, which is an error where it was asked for (`make test-web`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

collect_ignore_glob = [] if find_spec("gradio") and find_spec("playwright") else ["test_*.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.web)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium."""
    from browsing import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`agentcall web` for all tests; each is another person there."""
    from browsing import standing

    people = [f"key{number}" for number in range(100)]
    with standing(tmp_path_factory.mktemp("web"), keys=people) as found:
        yield found


@pytest.fixture
def visit(chromium: Any, stand: Any) -> Iterator[Any]:
    """Opens a page on a model that plays replies, of the common server or another `stand`."""
    from browsing import Visit

    with ExitStack() as stack:
        made: list[Visit] = []

        def opened(*replies: Any, stand: Any = stand) -> Visit:
            made.append(stack.enter_context(Visit(chromium, stand, replies)))
            return made[-1]

        yield opened
        for one in made:
            one.check()
