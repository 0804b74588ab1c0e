"""What a developer sees of a tool's exception: the log, the events, the result, `on_tool_error`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import isolated_tools
import pytest

from agentcall import Agent, ModelRetry, SQLiteSession
from agentcall.durable import durable
from agentcall.errors import IsolatedToolFailed, ToolError, ToolTimeout, UsageError
from agentcall.events import Event, Nested, RunFinished, ToolCallFinished, event_to_json
from agentcall.result import RunResult, ToolFailure, result_of
from agentcall.testing import ScriptedModel, call, calls, say
from agentcall.tools.tool import make_tool


def misspelled() -> str:
    "Has a mistake."
    return undefined_name  # type: ignore[name-defined]  # noqa: F821


def asks_again() -> str:
    "Asks the model for other arguments."
    raise ModelRetry("give a city")


def refuses() -> str:
    "Reports an error to the model."
    raise ToolError("no such city")


async def leaves() -> None:
    "Tries to end the process."
    raise SystemExit(3)


def fine() -> str:
    "Works."
    return "fine"


def make_agent(*names: str, **options: Any) -> Agent[str, None]:
    tools = [misspelled, asks_again, refuses, leaves, fine]
    script = [*(call(name) for name in names), say("done")]
    return Agent(ScriptedModel(script), tools=tools, **options)


def get_tool_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "agentcall.tools"]


def test_a_mistake_in_a_tool_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_agent("misspelled").run_sync("go")
    [record] = get_tool_records(caplog)
    assert record.levelno == logging.ERROR
    assert "misspelled" in record.getMessage()
    assert "return undefined_name" in caplog.text
    assert "NameError" in caplog.text


@pytest.mark.parametrize(
    ("name", "level"), [("asks_again", logging.INFO), ("refuses", logging.INFO)]
)
def test_a_message_to_the_model_is_logged_without_a_traceback(
    name: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "agentcall")
    make_agent(name).run_sync("go")
    [record] = get_tool_records(caplog)
    assert (record.levelno, record.exc_info) == (level, None)


def test_a_timeout_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def hangs() -> None:
        "Never ends."
        await asyncio.Event().wait()

    tool = make_tool(hangs, timeout=0.01)
    result = Agent(ScriptedModel([call("hangs"), say("done")]), tools=[tool]).run_sync("go")
    [record] = get_tool_records(caplog)
    assert record.levelno == logging.WARNING
    assert isinstance(result.tool_errors[0].exception, ToolTimeout)


def test_the_log_is_silent_until_it_is_configured() -> None:
    assert any(
        isinstance(handler, logging.NullHandler)
        for handler in logging.getLogger("agentcall").handlers
    )


def test_a_run_without_exceptions_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agentcall")
    result = make_agent("fine").run_sync("go")
    assert (get_tool_records(caplog), result.tool_errors) == ([], ())


def test_the_exceptions_of_tools_are_in_the_result() -> None:
    result = make_agent("fine", "misspelled", "asks_again").run_sync("go")
    assert [(error.call.name, type(error.exception)) for error in result.tool_errors] == [
        ("misspelled", NameError),
        ("asks_again", ModelRetry),
    ]
    assert result.output == "done"
    assert RunResult.from_json(result.to_json()).tool_errors == ()


async def test_the_exception_is_in_the_event() -> None:
    events = [event async for event in make_agent("fine", "misspelled").run_stream("go")]
    fine_event, error_event = (e for e in events if isinstance(e, ToolCallFinished))
    assert fine_event.exception is None
    assert isinstance(error_event.exception, NameError)
    assert event_to_json(fine_event)["exception"] is None
    assert event_to_json(error_event)["exception"] == "NameError"


def test_an_agent_may_raise_the_exception_of_a_tool() -> None:
    agent = make_agent("misspelled", on_tool_error="raise")
    with pytest.raises(NameError, match="undefined_name") as raised:
        agent.run_sync("go")
    assert any(entry.name == "misspelled" for entry in raised.traceback)
    result = result_of(raised.value)
    assert result is not None
    assert result.stop_reason == "error"
    assert [output.text for _, output in result.tool_calls if output] == [
        "NameError: name 'undefined_name' is not defined"
    ]


async def test_a_stream_ends_with_the_result_before_the_exception_is_raised() -> None:
    events: list[Event] = []

    async def read() -> None:
        async for event in make_agent("misspelled", on_tool_error="raise").run_stream("go"):
            events.append(event)  # noqa: PERF401 - a comprehension would lose them

    with pytest.raises(NameError):
        await read()
    assert isinstance(events[-1], RunFinished)


@pytest.mark.parametrize("name", ["asks_again", "refuses"])
def test_a_message_to_the_model_is_never_raised(name: str) -> None:
    assert make_agent(name, on_tool_error="raise").run_sync("go").output == "done"


def test_a_tool_that_exits_ends_the_run_and_not_the_process() -> None:
    with pytest.raises(ToolError, match="leaves raised SystemExit"):
        make_agent("leaves", on_tool_error="raise").run_sync("go")


def test_the_other_calls_of_the_turn_are_cancelled() -> None:
    cancelled: list[str] = []

    async def waits() -> None:
        "Waits until it is cancelled."
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("waits")
            raise

    async def fails() -> None:
        "Fails when the other call runs."
        raise ValueError("no")

    model = ScriptedModel([calls(call("waits"), call("fails")), say("done")])
    with pytest.raises(ValueError, match="no"):
        Agent(model, tools=[waits, fails], on_tool_error="raise").run_sync("go")
    assert cancelled == ["waits"]


def test_a_function_may_choose_the_text_for_the_model() -> None:
    failures: list[ToolFailure] = []

    def explain(failure: ToolFailure) -> str | None:
        failures.append(failure)
        return f"{failure.call.name} is broken today"

    result = make_agent("misspelled", "refuses", on_tool_error=explain).run_sync("go")
    assert [output.text for _, output in result.tool_calls if output] == [
        "misspelled is broken today",
        "no such city",
    ]
    assert [failure.call.name for failure in failures] == ["misspelled"]


def test_a_function_that_returns_none_keeps_the_usual_text() -> None:
    result = make_agent("misspelled", on_tool_error=lambda failure: None).run_sync("go")
    assert "NameError" in str(result.tool_calls[0][1])


def test_a_function_may_raise_another_exception() -> None:
    def escalate(failure: ToolFailure) -> None:
        raise LookupError("escalated") from failure.exception

    with pytest.raises(LookupError, match="escalated"):
        make_agent("misspelled", on_tool_error=escalate).run_sync("go")


def test_a_function_that_returns_something_else_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="on_tool_error returned 7; return a text or None"):
        make_agent("misspelled", on_tool_error=lambda failure: 7).run_sync("go")


async def decide_later(failure: ToolFailure) -> None:
    pass


@pytest.mark.parametrize("handler", ["ignore", 3, ValueError, decide_later])
def test_an_unknown_way_to_handle_exceptions_is_refused(handler: object) -> None:
    with pytest.raises(UsageError, match="on_tool_error="):
        make_agent(on_tool_error=handler)


@pytest.mark.parametrize("inner_mode", [None, "raise"])
async def test_the_exceptions_of_agents_as_tools_are_in_the_result(inner_mode: Any) -> None:
    inner = make_agent("misspelled", name="helper", on_tool_error=inner_mode)
    outer = Agent(ScriptedModel([call("helper", task="go"), say("done")]), tools=[inner.as_tool()])
    if inner_mode is None:
        events = [event async for event in outer.run_stream("go")]
        last = events[-1]
        assert isinstance(last, RunFinished)
        [failure] = last.result.tool_errors
        assert (failure.call.name, failure.agent) == ("misspelled", "helper")
        assert any(
            isinstance(e, Nested)
            and isinstance(e.event, ToolCallFinished)
            and isinstance(e.event.exception, NameError)
            for e in events
        )
    else:
        with pytest.raises(NameError) as raised:
            await outer.run("go")
        result = result_of(raised.value)
        assert result is not None
        assert result.agent == "agent"


def test_the_exception_of_an_isolated_tool_has_its_type_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = ScriptedModel([call("failing", how="error"), say("done")])
    result = Agent(model, tools=[isolated_tools.failing]).run_sync("go")
    [failure] = result.tool_errors
    assert isinstance(failure.exception, IsolatedToolFailed)
    assert str(failure.exception) == "ValueError: bad"
    assert "isolated_tools.py" in str(failure.exception.__cause__)
    assert "isolated_tools.py" in caplog.text


def test_a_worker_that_crashes_is_in_the_result() -> None:
    model = ScriptedModel([call("dying", how="abort"), say("done")])
    with pytest.raises(IsolatedToolFailed, match="its process was ended by"):
        Agent(model, tools=[isolated_tools.dying], on_tool_error="raise").run_sync("go")


def test_a_session_keeps_a_run_that_a_tool_ended(tmp_path: Path) -> None:
    session = SQLiteSession("trip", tmp_path / "sessions.db")
    agent = make_agent("misspelled", on_tool_error="raise")
    with pytest.raises(NameError):
        agent.run_sync("go", session=session)
    again = Agent(ScriptedModel([say("welcome back")]))
    assert again.run_sync("and now?", session=session).output == "welcome back"
    assert "NameError" in str(session.messages)


def test_a_durable_run_continues_after_the_exception_of_a_tool(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    agent = make_agent("misspelled", on_tool_error="raise")
    with durable(agent, url) as runs, pytest.raises(NameError):
        runs.run_sync("go", run_id="r1")
    with durable(make_agent("misspelled"), url) as runs:
        result = runs.run_sync(run_id="r1")
    assert result.output == "done"
    assert "NameError" in str(result.tool_calls[0][1])
