"""Tools for tests of agents: a fake server on loopback, and a scripted model.

with FakeServer([call("add", a=2, b=3), say("5")]) as server:
    ...  # run an agent with the model server.url, then check server.requests

`ScriptedModel` plays the same replies without a server: `Agent(ScriptedModel([say("5")]))`.
`cassette` records the answers of a real model, and plays them.
"""

from agentcall.testing.cassette import cassette, load_replies
from agentcall.testing.fake_server import FakeServer
from agentcall.testing.faults import (
    bad_json,
    cut,
    drop,
    empty_body,
    error_in_stream,
    error_under_200,
    flat_error,
    gzip_body,
    hang,
    html,
    huge,
    ignore_stream,
    never,
    no_choices,
    no_done,
    null_choices,
    openai_error,
    overflow,
    raw,
    reset,
    slow_loris,
    sse,
    status,
)
from agentcall.testing.raw_http import FakeResponse, RecordedRequest
from agentcall.testing.replies import (
    MISSING,
    Completion,
    Reply,
    ReplyFunction,
    Script,
    ScriptedCall,
    call,
    calls,
    choices,
    forever,
    say,
    times,
)
from agentcall.testing.scripted_model import ScriptedModel

__all__ = [
    "MISSING",
    "Completion",
    "FakeResponse",
    "FakeServer",
    "RecordedRequest",
    "Reply",
    "ReplyFunction",
    "Script",
    "ScriptedCall",
    "ScriptedModel",
    "bad_json",
    "call",
    "calls",
    "cassette",
    "choices",
    "cut",
    "drop",
    "empty_body",
    "error_in_stream",
    "error_under_200",
    "flat_error",
    "forever",
    "gzip_body",
    "hang",
    "html",
    "huge",
    "ignore_stream",
    "load_replies",
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
]
