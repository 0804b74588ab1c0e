"""Servers that are not installed here, by what their docs, sources and users' reports show.

The fake server sends each server's own shapes: its list of models, its refusal of tools, its calls
(whole and streamed), and its refusals of long prompts and of images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest

from agentcall import Agent, Image, tool
from agentcall.diagnostics.doctor import examine
from agentcall.errors import ContextOverflow, ModelRefused
from agentcall.events import DialectChosen, RunFinished
from agentcall.models.capabilities import clear_dialect_cache
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.result import RunResult
from agentcall.testing import (
    Completion,
    FakeServer,
    Reply,
    ScriptedCall,
    calls,
    forever,
    openai_error,
    say,
    sse,
    status,
)
from agentcall.testing.raw_http import RecordedRequest

Body: TypeAlias = Mapping[str, object]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQ"
    "DwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


@tool
def weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"{city}: 21 C, sunny"


def sglang_error(message: str, kind: str = "BadRequestError", code: int = 400) -> Body:
    """SGLang's and older vLLM's form. Source: sglang, entrypoints/openai/serving_base.py."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def oslo(call_id: str = "call_0", arguments: object = '{"city":"Oslo"}') -> Completion:
    """A call as these servers send it."""
    call = ScriptedCall("weather", arguments, id=call_id)  # type: ignore[arg-type]
    return calls(call).replace(message={"content": ""})


@dataclass(frozen=True, slots=True)
class RecordedServer:
    """What a server sends.

    model, owned_by: what `/v1/models` lists.
    reply: its answer with one call of `weather`.
    overflow: status and body for a prompt beyond the window.
    no_vision: status and body for an image, if the server refuses it.
    no_tools: status and body for a model or launch that does not support tools.
    """

    model: str
    owned_by: str
    reply: Reply
    overflow: tuple[int, Body] | None = None
    no_vision: tuple[int, Body] | None = None
    no_tools: tuple[int, Body] | None = None
    pages: Mapping[str, object] = field(default_factory=dict[str, object])


TEXT_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
RECORDED = {
    # github.com/ollama/ollama: openai/openai.go; issues 6027 and 14795
    "ollama": RecordedServer(
        "qwen3:8b",
        "library",
        oslo("call_gx2h1b7k").replace(quirks=("whole_calls", "index_shared")),
        no_tools=(
            400,
            {
                "error": {
                    "message": "registry.ollama.ai/library/qwen:4b does not support tools",
                    "type": "api_error",
                    "param": None,
                    "code": None,
                }
            },
        ),
    ),
    # docs.vllm.ai: features/tool_calling; before 0.10 errors had no "error" around them
    "vllm": RecordedServer(
        "Qwen/Qwen3-8B",
        "vllm",
        oslo("chatcmpl-tool-b0cfbfac42b0282f"),
        overflow=(
            400,
            sglang_error(
                "This model's maximum context length is 4096 tokens. However, you requested 9000 "
                "tokens (8744 in the messages, 256 in the completion). Please reduce the length "
                "of the messages or completion."
            ),
        ),
        no_vision=(400, openai_error("Qwen3-8B is not a multimodal model", status=400)),
        no_tools=(
            400,
            sglang_error(
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser '
                "to be set"
            ),
        ),
    ),
    # docs.sglang.io: advanced_features/tool_parser; without a parser the calls stay text
    "sglang": RecordedServer(
        "Qwen/Qwen2.5-7B-Instruct",
        "sglang",
        oslo("call_mYQ0mz5sTyW0o2ajjVtVNw"),
        overflow=(
            400,
            sglang_error(
                "The input (9000 tokens) is longer than the model's context length (4096 tokens)."
            ),
        ),
    ),
    "sglang without a parser": RecordedServer("Qwen/Qwen2.5-7B-Instruct", "sglang", say(TEXT_CALL)),
    # huggingface.co/docs/text-generation-inference: guidance, messages_api; before 3.0 the
    # arguments were an object, and its errors are of 422
    "tgi": RecordedServer(
        "meta-llama/Llama-3.1-8B-Instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        oslo("0", {"city": "Oslo"}).replace(quirks=("whole_calls",)),
        overflow=(
            422,
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= "
                "4096. Given: 9000 `inputs` tokens and 100 `max_new_tokens`",
                "error_type": "validation",
            },
        ),
    ),
    # lmstudio.ai/docs: tool use; its errors are a text, or OpenAI's form in newer versions
    "lmstudio": RecordedServer(
        "qwen2.5-7b-instruct",
        "organization_owner",
        oslo("365174485"),
        overflow=(
            400,
            {
                "error": "Trying to keep the first 9000 tokens when context the overflows. "
                "However, the model is loaded with context length of only 4096 tokens, which is "
                "not enough. Try to load the model with a larger context length, or provide a "
                "shorter input"
            },
        ),
        no_vision=(
            400,
            {"error": "Model does not support images. Please use a model that does."},
        ),
    ),
    # github.com/LostRuins/koboldcpp: koboldcpp.py
    "koboldcpp": RecordedServer(
        "koboldcpp/qwen2.5-7b-instruct-q4_k_m",
        "koboldcpp",
        oslo("call_001").replace(quirks=("whole_calls", "finish_merged")),
    ),
    # localai.io: features/openai-functions
    "localai": RecordedServer(
        "qwen3-8b",
        "",
        oslo("2b64d1b5").replace(quirks=("names_repeated", "ids_repeated")),
        overflow=(
            500,
            {
                "error": {
                    "code": 500,
                    "message": "rpc error: code = Internal desc = the request exceeds the "
                    "available context size. try increasing the context size",
                    "type": "",
                }
            },
        ),
    ),
    # github.com/theroyallab/tabbyAPI: issue 479; without tool_format the calls stay text
    "tabbyapi": RecordedServer(
        "Qwen3-8B-exl3",
        "tabbyAPI",
        say(TEXT_CALL),
        overflow=(
            400,
            {
                "error": {
                    "message": "Prompt length 9000 is greater than max_seq_len 4096",
                    "trace": None,
                }
            },
        ),
    ),
    # openrouter.ai/docs: streaming (comments), errors, provider routing
    "openrouter": RecordedServer(
        "qwen/qwen3-8b",
        "",
        sse(oslo("call_9pw1qnYScqvGrCH58HWCvFH6"), "comments"),
        overflow=(
            400,
            {
                "error": {
                    "message": "This endpoint's maximum context length is 4096 tokens. However, "
                    "you requested about 9000 tokens. Please reduce the length of either one.",
                    "code": 400,
                    "metadata": {"provider_name": None},
                }
            },
        ),
        no_tools=(
            404,
            {
                "error": {
                    "message": "No endpoints found that support tool use. To learn more about "
                    "provider routing, visit: https://openrouter.ai/docs/provider-routing",
                    "code": 404,
                }
            },
        ),
        no_vision=(
            404,
            {"error": {"message": "No endpoints found that support image input", "code": 404}},
        ),
    ),
    # ericlbuehler.github.io/mistral.rs: HTTP API; ids are UUIDs
    "mistral.rs": RecordedServer(
        "default",
        "local",
        oslo("call-5a3b2f6e-5c9e-4d6d-8b57-1d1b0c6a8f0e").replace(quirks=("one_chunk",)),
    ),
}
HAVING_OVERFLOW = [name for name, server in RECORDED.items() if server.overflow]
REFUSING_TOOLS = [name for name, server in RECORDED.items() if server.no_tools]
REFUSING_IMAGES = [name for name, server in RECORDED.items() if server.no_vision]


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    """Forget the servers of other tests: ports are used again."""
    clear_dialect_cache()


def serve(recorded: RecordedServer, *replies: Reply) -> FakeServer:
    return FakeServer(
        replies, models=(recorded.model,), owned_by=recorded.owned_by, pages=recorded.pages
    )


def connect(server: FakeServer) -> HTTPChat:
    return HTTPChat(HTTPEndpoint(server.url, tries=1))


async def ask(agent: Agent[str], how: str) -> RunResult[str]:
    if how == "plain":
        return await agent.run("Oslo?")
    finished = [event async for event in agent.run_stream("Oslo?")][-1]
    assert isinstance(finished, RunFinished)
    return finished.result


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("how", ["plain", "streamed"])
async def test_a_call_of_each_server_is_executed_and_answered(name: str, how: str) -> None:
    recorded = RECORDED[name]
    with serve(recorded, recorded.reply, say("21 C in Oslo.")) as server:
        agent = Agent(connect(server), tools=[weather])
        result = await ask(agent, how)
        bodies = [request.body for request in server.requests]
    calls = [(call.name, json.loads(call.arguments)) for call, _ in result.tool_calls]
    assert calls == [("weather", {"city": "Oslo"})]
    assert result.output == "21 C in Oslo."
    assert {body["model"] for body in bodies} == {recorded.model}


@pytest.mark.parametrize("name", HAVING_OVERFLOW)
@pytest.mark.parametrize("how", ["plain", "streamed"])
async def test_a_prompt_that_is_too_long_is_a_context_overflow(name: str, how: str) -> None:
    recorded = RECORDED[name]
    assert recorded.overflow is not None
    code, body = recorded.overflow
    with (
        serve(recorded, forever(status(code, body=body))) as server,
        pytest.raises(ContextOverflow),
    ):
        await ask(Agent(connect(server)), how)


@pytest.mark.parametrize("name", REFUSING_IMAGES)
async def test_a_refused_image_is_an_error_that_says_what_to_do(name: str) -> None:
    recorded = RECORDED[name]
    assert recorded.no_vision is not None
    code, body = recorded.no_vision
    with (
        serve(recorded, forever(status(code, body=body))) as server,
        pytest.raises(ModelRefused, match="does not accept images"),
    ):
        await Agent(connect(server)).run(["What is this?", Image(PIXEL)])


@pytest.mark.parametrize("name", REFUSING_TOOLS)
async def test_a_server_that_refuses_tools_is_spoken_to_in_the_constrained_dialect(
    name: str,
) -> None:
    recorded = RECORDED[name]
    assert recorded.no_tools is not None
    code, body = recorded.no_tools

    def answer(request: RecordedRequest) -> Reply:
        if request.tools:
            return status(code, body=body)
        if "21 C" in str(request.messages[-1]):
            return say('{"answer": "21 C in Oslo."}')
        return say('{"name": "weather", "arguments": {"city": "Oslo"}}')

    with FakeServer(answer, models=(recorded.model,), owned_by=recorded.owned_by) as server:
        events = [e async for e in Agent(connect(server), tools=[weather]).run_stream("Oslo?")]
        report = await examine(HTTPEndpoint(server.url, tries=1))
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert finished.result.output == "21 C in Oslo."
    chosen = [event for event in events if isinstance(event, DialectChosen)]
    assert chosen[-1].dialect == "constrained"
    assert report.tools == "refused"
