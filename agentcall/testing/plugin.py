"""Fixtures of pytest: `fake_server` starts fake servers, `recorded_model` records and plays models.

pytest_plugins = ["agentcall.testing.plugin"]  # in conftest.py

def test_my_agent(fake_server):
    server = fake_server([say("hi")])

def test_the_real_model(recorded_model):
    agent = Agent(recorded_model("ollama:qwen3:8b"))
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import pytest
from pluggy import Result
from typing_extensions import Unpack

from agentcall.models.model import Model
from agentcall.models.resolve import ModelLike
from agentcall.testing.cassette import CassetteMode, cassette
from agentcall.testing.fake_server import FakeServer, ServerProfileOptions
from agentcall.testing.replies import ReplyFunction, Script

_HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, Result[pytest.TestReport], None]:
    """Note whether a test has failed, for its fixtures."""
    outcome = yield
    if outcome.get_result().failed:
        item.stash[_HAS_FAILED] = True


@pytest.fixture
def fake_server() -> Iterator[Callable[..., FakeServer]]:
    """Return a function with the parameters of `FakeServer` that returns a running server."""
    with ExitStack() as stack:

        def open_server(
            script: Script = (),
            *,
            brain: ReplyFunction | None = None,
            **profile: Unpack[ServerProfileOptions],
        ) -> FakeServer:
            return stack.enter_context(FakeServer(script, brain=brain, **profile))

        yield open_server


@pytest.fixture
def recorded_model(request: pytest.FixtureRequest) -> Iterator[Callable[..., Model]]:
    """Return a function with the model and the mode of `cassette`.

    The files are `cassettes/TEST.json` beside the test's file, `TEST-2.json` for a second model.
    """
    name = re.sub(r"[^\w.-]+", "_", request.node.name)
    folder = request.path.parent / "cassettes" / request.path.stem
    count = 0
    with ExitStack() as stack:

        def open_model(model: ModelLike | None = None, *, mode: CassetteMode = "auto") -> Model:
            nonlocal count
            count += 1
            file = folder / (f"{name}-{count}.json" if count > 1 else f"{name}.json")
            return stack.enter_context(cassette(file, model, mode=mode))

        yield open_model
        if request.node.stash.get(_HAS_FAILED, False):
            stack.pop_all()  # the recording of a test that failed is not written
