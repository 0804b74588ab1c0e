"""Find out which forms of request a model server refuses, as `agentcall doctor` lists them.

The requests are those of an ordinary client, so that a refusal is recognized and answered exactly
as in a run. They provoke the refusals: one conversation has instructions, a call, its result, and
messages of the user one after another, once in one piece and once as a stream; another has an
image. A server that refuses nothing gets three requests for one token each. Nothing is kept in a
file: a server may be launched with another template at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentcall.dialects.dialect import Dialect, PromptSpec
from agentcall.errors import ModelError
from agentcall.messages import (
    Assistant,
    Image,
    System,
    Text,
    ToolCall,
    ToolResult,
    Transcript,
    User,
)
from agentcall.models.adaptations import LearnedAdaptation
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import ModelRequest
from agentcall.settings import ModelSettings
from agentcall.tools.tool import Tool, tool

_GRAY_SQUARE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAEklEQVR42mNogAKGUcYog3QG"
    "ABMgABCh6E2pAAAAAElFTkSuQmCC"
)
"""A square of 64 pixels; smaller ones are refused by some models that see."""


@tool(read_only=True)
def look_up_a_word(word: str) -> str:
    """Look up the meaning of a word.

    Args:
        word: The word to look up.
    """
    return word


class RefusalReport(NamedTuple):
    """What a server refuses and accepts instead, and the error of a request that it never accepts.

    learned: also from requests of this process to the server before.
    """

    learned: Sequence[LearnedAdaptation] = ()
    failure: str = ""


async def probe_refusals(endpoint: HTTPEndpoint, model: str, dialect: Dialect) -> RefusalReport:
    """Provoke the refusals of a server; does not raise ModelError."""
    settings = ModelSettings(temperature=0.0, max_tokens=1)
    chat = HTTPChat(endpoint, model, dialect=dialect, settings=settings)
    failure = ""
    for request in _create_requests(look_up_a_word):
        try:
            async for _ in chat.ask(request):
                pass
        except ModelError as error:
            failure = failure or str(error)
    return RefusalReport(chat.learned, failure)


def _create_requests(offered: Tool) -> tuple[ModelRequest, ...]:
    call = ToolCall("call00100", offered.name, '{"word": "hello"}')
    conversation = (
        System("The user is learning English."),
        User("What does hello mean?"),
        Assistant("", (call,)),
        ToolResult(call.id, call.name, "A greeting."),
        User("Thank you."),
        User("Hi"),
    )
    seen = (
        User((Text("Here is a picture."), Image(_GRAY_SQUARE))),
        Assistant("I see."),
        User("Hi"),
    )
    prompt = PromptSpec("Answer briefly.", (offered,))
    return (
        ModelRequest(Transcript(conversation), prompt),
        ModelRequest(Transcript(conversation), prompt, stream=True),
        ModelRequest(Transcript(seen), PromptSpec("Answer briefly.")),
    )
