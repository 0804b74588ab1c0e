"""Mistakes of a newcomer: each is an error that says what was wrong and what to do."""

from __future__ import annotations

import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from rows import each_row

from agentcall import (
    Agent,
    Inbox,
    Limits,
    RunResult,
    Skill,
    SQLiteSession,
    ToolRegistry,
    tool,
)
from agentcall.durable import durable
from agentcall.errors import (
    AgentCallError,
    MissingExtra,
    ModelUnreachable,
    SchemaError,
    UsageError,
)
from agentcall.evals import Case, answer_contains
from agentcall.mcp import MCPTools
from agentcall.models.code_mode import CodeMode
from agentcall.result import NoOutput
from agentcall.sessions import Summary, Window
from agentcall.testing import ScriptedModel, call, cassette, forever, say

agent: Any = Agent  # Any: the mistakes are what a type checker would report


def double(number: int) -> int:
    "Double a number."
    return 2 * number


def make_model() -> ScriptedModel:
    return ScriptedModel([say("ok")])


def ask(*args: Any, **options: Any) -> Any:
    return Agent(make_model()).run_sync(*args, **options)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a model of another type": (lambda: agent(5), "model=5 is not a model; use a shorthand"),
    "a path as the model": (lambda: agent(Path("m.gguf")), "is not a model; use a shorthand"),
    "a class as the model": (lambda: agent(ScriptedModel), "is not a model; use a shorthand"),
    "no model among several": (lambda: agent(["http://a/v1", 5]), "model=5 is not a model"),
    "the name of a tool": (lambda: agent(make_model(), tools="double"), "add the function itself"),
    "what a tool returned": (lambda: agent(make_model(), tools=[double(1)]), "without ()"),
    "an agent as a tool": (lambda: agent(make_model(), tools=[ask.__class__, Agent(make_model())]),
                           "is an agent; add its as_tool"),
    "instructions of another type": (lambda: agent(make_model(), instructions=["be kind"]),
                                     "Agent(instructions=['be kind']): it has to be a text"),
    "an output type as text": (lambda: agent(make_model(), output_type="Weather"),
                               "output_type='Weather': 'Weather' is not a type or a function"),
    "limits as a dict": (lambda: agent(make_model(), limits={"requests": 3}),
                         "it has to be a Limits, such as Limits(requests=5)"),
    "a limit as text": (lambda: Limits(seconds="5"), "Limits(seconds='5'): it has to be a number"),  # type: ignore[arg-type]
    "a name of another type": (lambda: agent(make_model(), name=5), "Agent(name=5)"),
    "an empty name": (lambda: agent(make_model(), name=""), "Agent(name='')"),
    "the name of an agent as a handoff": (lambda: agent(make_model(), handoffs=["other"]),
                                          "it has to be a list of agents"),
    "one agent as the handoffs": (lambda: agent(make_model(), handoffs=Agent(make_model())),
                                  "it has to be a list of agents"),
    "max_tools as text": (lambda: agent(make_model(), max_tools="5"), "Agent(max_tools='5')"),
    "an option of @tool in another spelling": (lambda: tool(readonly=True)(double),  # type: ignore[call-overload]
                                               "has no option 'readonly'; did you mean read_only?"),
    "an option of @tool that does not exist": (lambda: tool(colour=True)(double),  # type: ignore[call-overload]
                                               "has no option 'colour'. The options are name"),
    "an option of as_tool that does not exist": (lambda: Agent(make_model()).as_tool(readonly=1),  # type: ignore[call-arg]
                                                 "did you mean read_only?"),
    "an option of @tool of another type": (lambda: tool(timeout="5")(double),  # type: ignore[call-overload]
                                           "@tool(timeout='5'): it has to be a number"),
    "a text as a flag": (lambda: tool(requires_approval="no")(double),  # type: ignore[call-overload]
                         "@tool(requires_approval='no'): it has to be True, False, or a function"),
    "a name given to @tool": (lambda: tool("double")(double),  # type: ignore[operator, arg-type]
                              "@tool('double'): it has to be a function"),
    "no tool in a registry": (lambda: ToolRegistry(5), "5 is not a tool"),
    "no prompt": (ask, "a run needs a prompt"),
    "a prompt of another type": (lambda: ask(5), "of the prompt is 5; use a text"),
    "a result as the messages": (lambda: ask("b", messages=ask("a")), "pass result.messages"),
    "a number as a message": (lambda: ask("b", messages=[5]), "5 is not a message"),
    "an unknown role": (lambda: ask("b", messages=[{"role": "bot", "content": "a"}]),
                        "use system, user, assistant or tool"),
    "the id of a session": (lambda: ask("b", session="trip"), "use SQLiteSession(id)"),
    "a decision about a run that has ended": (
        lambda: Agent(make_model()).resume_sync(ask("a"), {"call_1": True}),
        "this run does not wait for approval"),
    "a result that is not JSON": (lambda: RunResult.from_json("abc"), "it is not JSON"),
    "a result that is other JSON": (lambda: RunResult.from_json("{}"), "it has no 'stop_reason'"),
    "a text in a script": (lambda: ScriptedModel(["hello"]), "write a text as say('hello')"),  # type: ignore[list-item]
    "a list in a script": (lambda: ScriptedModel([[call("f")]]), "calls(call(...), "),  # type: ignore[list-item]
    "one reply as a script": (lambda: ScriptedModel(cast("Any", say("a"))), "this is one reply"),
    "no script": (lambda: ScriptedModel(cast("Any", None)), "None is not a script; use a list"),
    "a number as a reply": (lambda: say(cast("Any", 5)), "say(5): it has to be a text"),
    "a tool as the name of a call": (lambda: call(cast("Any", double)), "the name of a tool"),
    "a command as a list": (lambda: MCPTools(cast("Any", ["npx", "me"])), "it has to be one text"),
    "a class as a rule": (lambda: agent(make_model(), compact=Summary), "use Summary(keep=10)"),
    "a text as a count": (lambda: Summary(keep=cast("Any", "10")), "Summary(keep='10')"),
    "no count": (lambda: Window(cast("Any", None)), "Window(None): it has to be a number"),
    "a skill that is not in a list": (lambda: agent(make_model(), skills=Skill("a", "b", "c")),
                                      "it has to be a list of Skill"),
    "a class as a skill": (lambda: agent(make_model(), skills=[Skill]), "to be a list of Skill"),
    "no folder of a skill": (lambda: Skill.read(cast("Any", None)), "None is not the path"),
    "a class as an inbox": (lambda: ask("a", inbox=Inbox), "is not an Inbox: inbox = Inbox()"),
    "a class as a session": (lambda: ask("a", session=SQLiteSession), "use SQLiteSession(id)"),
    "a name in CodeMode": (lambda: CodeMode(cast("Any", "ollama:a")), "use Agent(\"code:NAME\")"),
    "a check that is not in a list": (lambda: Case("a", cast("Any", answer_contains("b"))),
                                      "it has to be a list of checks"),
    "a path as a journal": (lambda: durable(Agent(make_model()), cast("Any", Path("runs.db"))),
                            "use a text such as sqlite:///runs.db"),
    "no path of a cassette": (lambda: cassette(cast("Any", None)).__enter__(), "path of a file"),
}  # fmt: skip


@each_row("name", MISTAKES)
def test_a_mistake_is_an_error_that_says_what_to_do(name: str) -> None:
    provoke, words = MISTAKES[name]
    with pytest.raises(UsageError) as raised:
        provoke()
    assert words in str(raised.value)


def test_a_run_without_output_says_why_in_words_for_the_developer() -> None:
    model = ScriptedModel([forever(say('{"city": [5]}'))])
    result = Agent(model, output_type=dict[str, str]).run_sync("Which city?")
    with pytest.raises(NoOutput) as raised:
        _ = result.output
    assert "3 answers in a row were rejected; the last one did not fit the output type" in str(
        raised.value
    )
    assert "city is [5], expected a string" in str(raised.value)
    assert "Answer again" not in str(raised.value)


@pytest.mark.parametrize(
    ("provoke", "error"),
    [
        (lambda: Agent("http://127.0.0.1:1/v1").run_sync("hi"), ModelUnreachable),
        (lambda: ask(5), UsageError),
        (lambda: ask("hi", session=SQLiteSession("a", __file__)), AgentCallError),
    ],
)
def test_a_traceback_of_run_sync_has_no_frames_of_other_threads(
    provoke: Callable[[], object], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        provoke()
    printed = "".join(traceback.format_exception(raised.value))
    assert printed.count("Traceback") == 1
    assert printed.count("  File ") <= 10
    assert "asyncio" not in printed


def test_a_traceback_of_run_sync_keeps_the_frames_of_other_code() -> None:
    class OwnModel:
        def ask(self, request: object) -> Any:
            raise UsageError("not configured")

    with pytest.raises(UsageError) as raised:
        Agent(OwnModel()).run_sync("hi")
    assert "in ask" in "".join(traceback.format_exception(raised.value))


def test_a_server_that_is_down_is_named_with_the_reason() -> None:
    with pytest.raises(ModelUnreachable, match=r"127\.0\.0\.1:1/v1 \(Connection refused\)"):
        Agent("http://127.0.0.1:1/v1").run_sync("hi")


NO_MODEL = """
import sys, agentcall.models.resolve as resolve
resolve.LMDEPLOY = ("127.0.0.1", 1)
sys.modules["xllamacpp"] = None
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "xllamacpp" else find_spec(name)
from agentcall import Agent
Agent().run_sync("hi")
"""


@pytest.mark.processes
def test_without_any_model_a_few_lines_say_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_MODEL],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    report = done.stderr.partition("MissingExtra: ")[2].splitlines()
    assert report[0] == "no model was named, and none was found:"
    assert "AGENTCALL_MODEL is not set" in report[1]
    assert "no LMDeploy answers at 127.0.0.1:1" in report[2]
    assert "the embedded model needs xllamacpp" in report[3]
    assert "[embedded]" in report[3]
    assert done.stderr.count("Traceback") == 1
    assert len(done.stderr.splitlines()) <= 20


@pytest.mark.processes
@each_row(
    ("blocked", "statement", "words"),
    [
        ("starlette", "from agentcall.serving.openai_api import OpenAIEndpoint", "extra 'serve'"),
        ("prometheus_client", "import agentcall.serving.openai_api", "extra 'serve'"),
        ("gradio", "from agentcall.serving.web.app import WebChat", "extra 'web'"),
        ("openai", "from agentcall.models.openai_client import OpenAIChat", "extra 'openai'"),
        ("mcp", "from agentcall.mcp.transport import *; import_optional('mcp')", "extra 'mcp'"),
    ],
)
def test_without_an_extra_one_message_names_it(blocked: str, statement: str, words: str) -> None:
    code = f"import sys; sys.modules[{blocked!r}] = None\n{statement}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert re.search(rf"needs .*{blocked}.* not installed", done.stderr)
    assert words in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert "ModuleNotFoundError" not in done.stderr


def test_the_error_of_a_missing_extra_is_an_import_error() -> None:
    error = MissingExtra.for_feature("the page", "web")
    assert isinstance(error, ImportError)
    assert isinstance(error, UsageError)


def test_a_schema_error_is_still_a_type_error() -> None:
    with pytest.raises(TypeError):
        tool(readonly=True)(double)  # type: ignore[call-overload]
    assert issubclass(SchemaError, TypeError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"egress": 5}, "egress=5"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": "5"}, "seconds above 0"),
        ({"retries": 1.5}, "retries=1.5"),
        ({"retries": None}, "retries=None"),
        ({"isolated": True, "variables": [5]}, "a list of names"),
        ({"isolated": True, "memory": "1g"}, "bytes above 0"),
        ({"after_crash": None}, "'tell' or 'ask'"),
        ({"name": 5}, "name=5"),
        ({"description": 5}, "description=5"),
    ],
)
def test_a_wrong_value_for_an_option_is_refused_where_the_tool_is_made(
    options: Any, said: str
) -> None:
    def look(city: str) -> str:
        """Look."""
        return city

    with pytest.raises(SchemaError, match=re.escape(said)):
        tool(**options)(look)


def test_wrong_values_are_refused_where_agents_limits_and_sessions_are_made() -> None:
    model: Any = ScriptedModel([])
    wrong: Any = 5
    for make, said in (
        (lambda: Agent(model, required_tools=wrong), "required_tools=5"),
        (lambda: Agent(model, required_tools=[wrong]), "'5'"),
        (lambda: Agent(model, deps_type=wrong), "deps_type=5"),
        (lambda: Agent(model, max_tools=True), "max_tools=True"),
        (lambda: Limits(requests=True), "requests=True"),
        (lambda: Limits(tool_calls=cast("Any", 1.5)), "an integer above 0"),
        (lambda: SQLiteSession(wrong), "session id 5"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            make()
    assert Agent(model, tools=None, instructions=None).registry.names == ()
