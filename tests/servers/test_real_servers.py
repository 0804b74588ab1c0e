"""An agent on real model servers over the tiny model: each server in each way that it is used."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
from real_servers import RunningServer
from tiny_model import CONTEXT

from agentcall import Agent, Image, Limits, ModelSettings, tool
from agentcall.diagnostics.doctor import examine
from agentcall.errors import BadAnswer, ContextOverflow, ModelRefused, UnknownModel
from agentcall.events import DialectChosen, Event, RunFinished, TextDelta
from agentcall.models.capabilities import clear_dialect_cache
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.result import RunResult
from agentcall.sessions.sqlite_session import SQLiteSession


def on(*names: str) -> pytest.MarkDecorator:
    """Run a test on each of these servers."""
    return pytest.mark.parametrize("server", names, indirect=True)


STRICT = ("llama_cpp", "llama_cpp_roles", "vllm", "litellm")
"""Those that refuse images for a text model, and a prompt beyond the window."""

on_every_server = on(*STRICT, "transformers")
BadEnd: TypeAlias = Callable[[RunningServer, str, SQLiteSession], Awaitable[None]]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQ"
    "DwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
in_both_ways = pytest.mark.parametrize("how", ["plain", "streamed"])


@tool
def weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"{city}: 21 C, sunny"


@dataclasses.dataclass
class CityWeather:
    """The weather of a city."""

    city: str
    degrees: int


def connect(server: RunningServer, settings: ModelSettings | None = None) -> HTTPChat:
    clear_dialect_cache()
    endpoint = HTTPEndpoint(server.url, server.server.api_key, timeout=300, tries=2)
    return HTTPChat(endpoint, server.server.model, settings=settings)


async def run(
    agent: Agent[str], prompt: str, how: str, session: SQLiteSession | None = None
) -> RunResult[str]:
    if how == "plain":
        return await agent.run(prompt, session=session)
    events = [event async for event in agent.run_stream(prompt, session=session)]
    return get_result(events)


def get_result(events: list[Event]) -> RunResult[str]:
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    return finished.result


def list_calls(result: RunResult[str]) -> list[tuple[str, str]]:
    return [(call.name, call.arguments.replace(" ", "")) for call, _ in result.tool_calls]


@on_every_server
@in_both_ways
async def test_a_tool_is_called_and_its_result_is_answered(server: RunningServer, how: str) -> None:
    result = await run(Agent(connect(server), tools=[weather]), "[one] Oslo?", how)
    assert list_calls(result) == [("weather", '{"city":"Oslo"}')]
    assert result.output == "Oslo has 21 C and sun."
    assert result.usage.input_tokens > 0 < result.usage.output_tokens


@on_every_server
@in_both_ways
async def test_two_calls_of_one_answer_are_both_executed(server: RunningServer, how: str) -> None:
    result = await run(Agent(connect(server), tools=[weather]), "[both] Where is it warm?", how)
    assert list_calls(result) == [("weather", '{"city":"Lima"}'), ("weather", '{"city":"Kyiv"}')]
    assert result.output == "Both cities are warm: 21 C each."


@on_every_server
@in_both_ways
async def test_one_call_after_the_other_is_executed(server: RunningServer, how: str) -> None:
    result = await run(Agent(connect(server), tools=[weather]), "[steps] Where is it warm?", how)
    assert list_calls(result) == [("weather", '{"city":"Oslo"}'), ("weather", '{"city":"Rome"}')]
    assert result.output == "Both cities are warm: 21 C each."


# --- runs that end badly, and the next question in their session ---


@tool(requires_approval=True, name="weather")
def guarded_weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"{city}: 21 C, sunny"


async def end_by_cancellation(server: RunningServer, how: str, session: SQLiteSession) -> None:
    """The program leaves the run when its call has its result."""
    finished = asyncio.Event()

    @tool(name="weather")
    async def hanging_weather(city: str) -> str:
        """Get the current weather of a city."""
        finished.set()
        await asyncio.sleep(600)
        return city

    agent = Agent(connect(server), tools=[hanging_weather])
    running = asyncio.ensure_future(run(agent, "[one] Oslo?", how, session))
    await asyncio.wait_for(finished.wait(), 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def end_by_a_limit(server: RunningServer, how: str, session: SQLiteSession) -> None:
    """A limit ends the run after the result of a call: no answer of the model follows it."""
    agent = Agent(connect(server), tools=[weather], limits=Limits(tokens=100))
    result = await run(agent, "[one] Oslo?", how, session)
    assert result.stop_reason == "max_tokens"


async def end_by_waiting(server: RunningServer, how: str, session: SQLiteSession) -> None:
    """A call waits for an approval that nobody gives."""
    agent = Agent(connect(server), tools=[guarded_weather])
    result = await run(agent, "[one] Oslo?", how, session)
    assert [pending.call.name for pending in result.pending] == ["weather"]


async def end_by_empty_answers(server: RunningServer, how: str, session: SQLiteSession) -> None:
    """The model says nothing at all."""
    with suppress(BadAnswer):  # unless the note about it is another message, and answered
        await run(Agent(connect(server)), "[empty]", how, session)


BAD_ENDS = [end_by_cancellation, end_by_a_limit, end_by_waiting, end_by_empty_answers]


@on_every_server
@in_both_ways
@pytest.mark.parametrize("end", BAD_ENDS)
async def test_a_session_continues_after_a_bad_end(
    server: RunningServer, how: str, end: BadEnd, tmp_path: Path
) -> None:
    session = SQLiteSession("one", path=tmp_path / "sessions.db")
    await end(server, how, session)
    agent = Agent(connect(server), tools=[weather], instructions="Be brief.")
    result = await run(agent, "[one] And now?", how, session)
    assert result.output == "Oslo has 21 C and sun."


@on_every_server
async def test_a_stream_that_is_left_is_continued(server: RunningServer, tmp_path: Path) -> None:
    session = SQLiteSession("one", path=tmp_path / "sessions.db")
    agent = Agent(connect(server), tools=[weather])
    async for event in agent.run_stream("[long]", session=session):
        if isinstance(event, TextDelta):
            break
    result = await agent.run("[one] And now?", session=session)
    assert result.output == "Oslo has 21 C and sun."


@on("llama_cpp_roles", "vllm_plain")
async def test_rules_for_roles_are_learned_from_the_words_of_each_server(
    server: RunningServer, tmp_path: Path
) -> None:
    session = SQLiteSession("one", path=tmp_path / "sessions.db")
    agent = Agent(connect(server))
    async for event in agent.run_stream("[long]", session=session):
        if isinstance(event, TextDelta):
            break
    result = await agent.run("[text] And now?", session=session)
    assert result.output == "Hello from the tiny model."


@on("litellm")
@in_both_ways
@pytest.mark.parametrize("end", BAD_ENDS)
async def test_rules_for_roles_are_learned_through_a_proxy(
    server: RunningServer, how: str, end: BadEnd, tmp_path: Path
) -> None:
    counting = dataclasses.replace(server.server, model="llama_cpp_roles")
    server = dataclasses.replace(server, server=counting)
    session = SQLiteSession("one", path=tmp_path / "sessions.db")
    await end(server, how, session)
    agent = Agent(connect(server), tools=[weather], instructions="Be brief.")
    result = await run(agent, "[one] And now?", how, session)
    assert result.output == "Oslo has 21 C and sun."


# --- what a request may ask for, and what is refused ---


@on_every_server
@in_both_ways
async def test_an_output_of_a_type_is_read(server: RunningServer, how: str) -> None:
    agent = Agent(connect(server), output_type=CityWeather)
    if how == "plain":
        output = (await agent.run("[json] Oslo?")).output
    else:
        finished = [event async for event in agent.run_stream("[json] Oslo?")][-1]
        assert isinstance(finished, RunFinished)
        output = finished.result.output
    assert output == CityWeather("Oslo", 21)


@on_every_server
@in_both_ways
async def test_settings_reach_the_server(server: RunningServer, how: str) -> None:
    settings = ModelSettings(temperature=0.2, top_p=0.9, seed=7, max_tokens=3)
    result = await run(Agent(connect(server, settings)), "[text] Hello?", how)
    assert result.stop_reason == "max_tokens"
    assert result.output == "Hello from t"


@on(*STRICT)
async def test_an_image_is_refused_with_what_to_do(server: RunningServer) -> None:
    with pytest.raises(ModelRefused, match="the model does not accept images"):
        await Agent(connect(server)).run(["[text] What is this?", Image(PIXEL)])


@on(*STRICT)
async def test_a_prompt_beyond_the_window_is_a_context_overflow(server: RunningServer) -> None:
    with pytest.raises(ContextOverflow):
        await Agent(connect(server)).run("[text]" + "x" * 2 * CONTEXT)


@on_every_server
async def test_the_dialect_is_native_and_the_event_says_why(server: RunningServer) -> None:
    agent = Agent(connect(server), tools=[weather])
    events = [event async for event in agent.run_stream("[text] Hello?")]
    chosen = next(event for event in events if isinstance(event, DialectChosen))
    assert chosen.dialect == server.dialect
    assert chosen.reason


@on_every_server
async def test_the_doctor_finds_nothing_to_change(server: RunningServer) -> None:
    clear_dialect_cache()
    endpoint = HTTPEndpoint(server.url, server.server.api_key, timeout=60)
    report = await examine(endpoint, server.server.model)
    assert report.healthy, report.findings
    assert report.tools == "reach"
    assert report.streams_with_tools is True
    assert report.dialect == server.dialect


# --- each server's own ---


@on("vllm", "litellm")
async def test_a_model_that_is_not_served_is_refused_with_those_that_are(
    server: RunningServer,
) -> None:
    endpoint = HTTPEndpoint(server.url, server.server.api_key, timeout=60)
    with pytest.raises((UnknownModel, ModelRefused), match="nosuch"):
        await Agent(HTTPChat(endpoint, "nosuch")).run("Hello?")


@on("litellm")
async def test_a_wrong_key_of_a_proxy_is_refused_and_not_shown(server: RunningServer) -> None:
    endpoint = HTTPEndpoint(server.url, "sk-wrong-key", timeout=60)
    # what LiteLLM says of a key that it would have to look up
    with pytest.raises(ModelRefused, match="No connected db") as caught:
        await Agent(HTTPChat(endpoint, server.server.model)).run("Hello?")
    assert "sk-wrong-key" not in str(caught.value)


@on("vllm_plain")
async def test_a_vllm_without_a_parser_is_spoken_to_in_the_constrained_dialect(
    server: RunningServer,
) -> None:
    settings = ModelSettings(temperature=0, max_tokens=64)
    agent = Agent(connect(server, settings), tools=[weather], limits=Limits(requests=2))
    choices: list[DialectChosen] = []
    with suppress(BadAnswer):  # the tiny model can't write this dialect
        async for event in agent.run_stream("[one] Oslo?"):
            if isinstance(event, DialectChosen):
                choices.append(event)  # noqa: PERF401 - those before an error count
    assert choices[-1].dialect == "constrained"
    assert "--enable-auto-tool-choice" in choices[-1].reason


@on("llama_cpp_plain")
@in_both_ways
async def test_llama_cpp_without_jinja_is_spoken_to_in_the_constrained_dialect(
    server: RunningServer, how: str, tmp_path: Path
) -> None:
    session = SQLiteSession("one", path=tmp_path / "sessions.db")
    agent = Agent(connect(server, ModelSettings(temperature=0)), tools=[weather])
    result = await run(agent, "What is the weather in Oslo?", how, session)
    assert list_calls(result) == [("weather", '{"city":"Oslo"}')]
    assert "21" in result.output
    again = await run(agent, "And in Rome?", how, session)
    assert "Rome" in again.output
