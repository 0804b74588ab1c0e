"""What tests of an agent need: a real server on loopback that says and does what it is told.

with FakeServer([call("add", a=2, b=3), say("5")]) as server:
    ...  # point the agent at server.url, then look into server.requests

`ScriptedModel` plays the same replies without a server: `Agent(ScriptedModel([say("5")]))`.
"""

from agentcall.testing.fake_server import FakeServer
from agentcall.testing.faults import (
    bad_json,
    cut,
    drop,
    empty_body,
    error_in_stream,
    error_under_200,
    gzipped,
    hang,
    html,
    huge,
    never,
    no_choices,
    no_done,
    null_choices,
    raw,
    reset,
    slow_loris,
    sse,
    status,
    unstreamed,
)
from agentcall.testing.refusals import flat_error, openai_error, overflow
from agentcall.testing.script import (
    MISSING,
    Brain,
    Call,
    Completion,
    Reply,
    Script,
    call,
    calls,
    choices,
    forever,
    say,
    times,
)
from agentcall.testing.scripted import ScriptedModel
from agentcall.testing.wire import Answer, Request

__all__ = [
    "MISSING",
    "Answer",
    "Brain",
    "Call",
    "Completion",
    "FakeServer",
    "Reply",
    "Request",
    "Script",
    "ScriptedModel",
    "bad_json",
    "call",
    "calls",
    "choices",
    "cut",
    "drop",
    "empty_body",
    "error_in_stream",
    "error_under_200",
    "flat_error",
    "forever",
    "gzipped",
    "hang",
    "html",
    "huge",
    "never",
    "no_choices",
    "no_done",
    "null_choices",
    "openai_error",
    "overflow",
    "raw",
    "reset",
    "say",
    "slow_loris",
    "sse",
    "status",
    "times",
    "unstreamed",
]
