"""Every example runs as a user starts it, against a fake server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from command_line import model_of
from fastapi.testclient import TestClient

from agentcall import Agent
from agentcall.errors import SessionBusy
from agentcall.testing import FakeServer, Reply, ScriptedModel, call, calls, forever, say, status

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[2] / "examples"
PLACES = {"results": [{"name": "Oslo", "latitude": 59.9, "longitude": 10.7, "country": "Norway"}]}
FORECAST = {
    "timezone": "Europe/Oslo",
    "current": {"time": "2026-01-02T12:00", "temperature_2m": -3.5, "weather_code": 71},
    "daily": {
        "time": ["2026-01-02"],
        "weather_code": [71],
        "temperature_2m_max": [-1.0],
        "temperature_2m_min": [-8.0],
        "precipitation_sum": [2.0],
        "precipitation_probability_max": [80.0],
        "wind_speed_10m_max": [12.0],
    },
}


def example(
    name: str, *words: str, folder: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AGENTCALL")}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        capture_output=True,
        text=True,
        env={**kept, **env},
        cwd=folder,
        timeout=60,
        check=False,
    )


def test_three_plus_five_shows_both_calls_and_16() -> None:
    with model_of(call("add", a=3, b=5), call("mul", a=8, b=2), say("It is 16.")) as server:
        done = example("three_plus_five.py", AGENTCALL_MODEL=server.url)
    first, second, answer = done.stdout.splitlines()
    assert (first[:4], first[-5:]) == ("add(", " -> 8")
    assert (second[:4], second[-6:]) == ("mul(", " -> 16")
    assert answer == "It is 16."


def test_the_calculator_agent_computes() -> None:
    with model_of(call("calculator", expression="e^8/12345"), say("About 0.241471.")) as server:
        done = example("calculator_agent.py", AGENTCALL_MODEL=server.url)
        result = server.requests[-1].messages[-1]["content"]
    assert done.stdout == "About 0.241471.\n"
    assert result.startswith("0.24147")


def test_the_weather_agent_streams_the_weather_of_the_service() -> None:
    pages = {"/v1/search": PLACES, "/v1/forecast": FORECAST}
    service = FakeServer([], pages=pages)
    with service, model_of(call("weather", city="Oslo"), say("Yes, it snows.")) as server:
        root = service.url.removesuffix("/v1")
        done = example(
            "weather_agent.py",
            AGENTCALL_MODEL=server.url,
            AGENTCALL_WEATHER_URL=root,
            AGENTCALL_GEOCODING_URL=root,
        )
    assert done.returncode == 0, done.stderr
    assert "-3.5°C" in done.stdout
    assert done.stdout.endswith("Yes, it snows.\n")


def test_structured_output_is_a_value() -> None:
    order = {
        "items": [
            {"name": "coffee", "count": 2, "price": 3.2},
            {"name": "cake", "count": 1, "price": 4.5},
        ]
    }
    unfit = {"items": [{"name": "coffee", "count": 0, "price": 3.2}]}
    with model_of(say(json.dumps(unfit)), say(json.dumps(order))) as server:
        done = example("structured_output.py", AGENTCALL_MODEL=server.url)
    assert done.stdout.splitlines() == ["2 x coffee at 3.20", "1 x cake at 4.50", "total 10.90"]


def test_a_session_in_a_file_remembers(tmp_path: Path) -> None:
    with model_of(say("Hello, Ann."), say("You are Ann.")) as server:
        for question in ("I am Ann.", "Who am I?"):
            done = example(
                "session_in_a_file.py", question, folder=tmp_path, AGENTCALL_MODEL=server.url
            )
        asked = server.requests[-1].messages
    assert done.stdout.splitlines() == ["You are Ann.", "[2 questions so far]"], done.stderr
    assert [message["content"] for message in asked] == ["I am Ann.", "Hello, Ann.", "Who am I?"]
    assert [path.name for path in (tmp_path / "sessions").iterdir()] == ["chat.json"]


async def test_a_session_in_a_file_is_listed_undone_and_used_by_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = loaded(monkeypatch, "session_in_a_file")
    session = module.FileSession(tmp_path / "sessions", "a/b")
    agent = Agent(ScriptedModel([say("one"), say("two"), say("three")]))
    await agent.run("1", session=session)
    await agent.run("2", session=session.open("other"))
    assert [each.id for each in session.list_sessions()] == ["other", "a/b"]
    async with session.acquire("x"):
        with pytest.raises(SessionBusy):
            await agent.run("3", session=session)
    assert [run.messages[0].text for run in await session.undo()] == ["1"]
    assert session.snapshot.messages == ()


def test_an_openai_client_of_ones_own_works() -> None:
    with model_of(call("calculator", expression="360*0.125"), say("It is 45.")) as server:
        done = example(
            "with_openai_client.py", "m", OPENAI_BASE_URL=server.url, OPENAI_API_KEY="none"
        )
    assert (done.returncode, done.stdout) == (0, "It is 45.\n"), done.stderr


def loaded(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@contextmanager
def service(monkeypatch: pytest.MonkeyPatch, *replies: Reply) -> Generator[TestClient, None, None]:
    with model_of(*replies) as server:
        monkeypatch.setenv("AGENTCALL_MODEL", server.url)
        module = loaded(monkeypatch, "embed_in_fastapi")
        with TestClient(module.app) as client:  # pyright: ignore[reportUnknownVariableType]
            yield client


def test_fastapi_answers_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = (call("calculator", expression="2340*0.17"), say("397.8"))
    with service(monkeypatch, *replies) as client:
        answer = client.post("/ask", json={"question": "17% of 2340?"})
    assert answer.json() == {"answer": "397.8", "stop_reason": "final"}


def test_fastapi_streams_the_events_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = (call("calculator", expression="2340*0.17"), say("397.8"))
    with service(monkeypatch, *replies) as client:
        answer = client.post("/ask/stream", json={"question": "17% of 2340?"})
    lines = [line for line in answer.text.split("\n\n") if line]
    types = [json.loads(line.removeprefix("data: "))["type"] for line in lines]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert {"ToolCallFinished", "TextDelta"} <= set(types)
    assert types[-1] == "RunFinished"


def test_fastapi_says_502_when_the_model_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, forever(status(401))) as client:
        assert client.post("/ask", json={"question": "?"}).status_code == 502


WEATHER_TURNS = (
    call("temperature", city="Shanghai"),
    call("convert_units", value=18.5, from_unit="celsius", to_unit="fahrenheit"),
    say("It is 65.3 degrees Fahrenheit."),
)


def test_the_demo_exits_with_0_when_the_tools_were_called() -> None:
    sums = (call("add", a=3, b=5), call("mul", a=8, b=2), say("It is 16."))
    with model_of(*sums, *WEATHER_TURNS) as server:
        done = example("demo.py", AGENTCALL_MODEL=server.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ") -> 16\n" in done.stdout
    assert "All tools were called and both answers are right." in done.stdout


@pytest.mark.parametrize(
    ("sums", "fault"),
    [
        ((calls(call("add", a=3, b=5)), say("It is 16.")), "mul was not called"),
        (
            (call("add", a=3, b=5), call("mul", a=8, b=2), say("It is 15.")),
            "the answer does not contain 16",
        ),
    ],
)
def test_the_demo_exits_with_1_when_a_tool_or_an_answer_is_missing(
    sums: tuple[Reply, ...], fault: str
) -> None:
    with model_of(*sums, *WEATHER_TURNS) as server:
        done = example("demo.py", AGENTCALL_MODEL=server.url)
    assert done.returncode == 1
    assert fault in done.stdout
