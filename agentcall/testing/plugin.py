"""A pytest fixture, `fake_server`, that starts fake servers and stops them after the test.

pytest_plugins = ["agentcall.testing.plugin"]  # in conftest.py

def test_my_agent(fake_server):
    server = fake_server([say("hi")])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from typing_extensions import Unpack

from agentcall.testing.fake_server import FakeServer, ServerProfileOptions
from agentcall.testing.replies import ReplyFunction, Script


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
