"""Cassettes: a model is recorded once, and played by the same code without it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from agentcall import Agent, ModelSettings, tool
from agentcall.durable import durable
from agentcall.errors import ContextOverflow, ModelUnreachable, UsageError
from agentcall.events import Event, TextDelta, ThinkingDelta
from agentcall.models import Fallback, HTTPChat, HTTPEndpoint, Model, OpenAIChat
from agentcall.models.model import ModelRequest, ResponseEvent
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    Reply,
    ScriptedModel,
    call,
    calls,
    cassette,
    cut,
    forever,
    load_replies,
    openai_error,
    overflow,
    raw,
    say,
    status,
)
from agentcall.testing.recording import redact

pytest_plugins = ["pytester"]

QUESTION = "What is 2 + 3?"
SCRIPT = [call("add", a=2, b=3).replace(thinking="I add."), say("It is 5 – fünf 🙂.")]
NOWHERE = "http://127.0.0.1:9/v1"


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTCALL_CASSETTE", raising=False)


def ask(model: Model, prompt: str = QUESTION, **options: Any) -> str:
    return Agent(model, tools=[add], **options).run_sync(prompt).output


def record(file: Path, *script: Reply, **options: Any) -> str:
    with FakeServer(script or SCRIPT, **options) as server, cassette(file, server.url) as model:
        return ask(model)


def test_the_first_use_records_and_later_ones_play_without_the_server(tmp_path: Path) -> None:
    file = tmp_path / "below" / "t.json"
    assert record(file) == "It is 5 – fünf 🙂."
    with cassette(file, NOWHERE) as model:
        result = Agent(model, tools=[add]).run_sync(QUESTION)
    assert result.output == "It is 5 – fünf 🙂."
    assert [(one.name, one.args, one.result.text) for one in result.tool_calls if one.result] == [
        ("add", {"a": 2, "b": 3}, "5")
    ]
    assert "fünf 🙂" in file.read_text("utf-8")


async def test_a_stream_is_played_in_its_pieces_and_either_form_is_played_as_the_other(
    tmp_path: Path,
) -> None:
    async def stream(model: Model) -> list[Event]:
        return [event async for event in Agent(model, tools=[add]).run_stream(QUESTION)]

    def texts(events: list[Event]) -> list[str]:
        return [one.text for one in events if isinstance(one, (TextDelta, ThinkingDelta))]

    streamed, plain = tmp_path / "streamed.json", tmp_path / "plain.json"
    async with FakeServer([*SCRIPT, *SCRIPT]) as server:
        with cassette(streamed, server.url) as model:
            recorded = await stream(model)
        with cassette(plain, server.url) as model:
            await Agent(model, tools=[add]).run(QUESTION)
    with cassette(streamed) as model:
        assert texts(await stream(model)) == texts(recorded)
    assert len(texts(recorded)) > 3
    with cassette(streamed) as model:
        assert (await Agent(model, tools=[add]).run(QUESTION)).output == "It is 5 – fünf 🙂."
    with cassette(plain) as model:
        assert "".join(texts(await stream(model))).endswith("It is 5 – fünf 🙂.")


def test_a_request_that_differs_is_an_error_that_says_in_what(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    record(file)
    with pytest.raises(UsageError) as caught, cassette(file) as model:
        ask(model, "What is 2 + 4?", settings=ModelSettings(temperature=0))
    said = str(caught.value)
    assert "from its request 1 of 2 it differs in" in said
    assert 'messages[0].content:\n    recorded "What is 2 + 3?"' in said
    assert "temperature: sent 0, not recorded" in said
    assert "AGENTCALL_CASSETTE=record" in said

    with cassette(file) as model:
        ask(model)
        with pytest.raises(UsageError, match="has 2 answers, and all were played"):
            ask(model)


def test_the_mode_decides_whether_the_model_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "t.json"
    missing = pytest.raises(UsageError, match=r"no recording .*t\.json; record it")
    with missing, cassette(file, mode="play"):
        pass
    monkeypatch.setenv("AGENTCALL_CASSETTE", "play")
    with pytest.raises(UsageError, match="no recording"), cassette(file, NOWHERE):
        pass
    monkeypatch.setenv("AGENTCALL_CASSETTE", "record")
    record(file)
    assert record(file, say("Six.")) == "Six."
    monkeypatch.setenv("AGENTCALL_CASSETTE", "off")
    assert record(file, say("Seven.")) == "Seven."
    monkeypatch.delenv("AGENTCALL_CASSETTE")
    assert record(file) == "Six."
    monkeypatch.setenv("AGENTCALL_CASSETTE", "often")
    with pytest.raises(UsageError, match="AGENTCALL_CASSETTE='often': it has to be one of auto,"):
        record(file)


def test_nothing_is_written_if_the_block_fails_or_asks_nothing(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    with cassette(file, NOWHERE):
        pass
    failing = pytest.raises(AssertionError)
    with FakeServer(SCRIPT) as server, failing, cassette(file, server.url) as model:
        assert ask(model) == "Six."
    nobody = HTTPChat(HTTPEndpoint(NOWHERE, tries=1), "m")
    with pytest.raises(ModelUnreachable), cassette(file, nobody) as model:
        ask(model)
    assert not list(tmp_path.iterdir())
    file.write_text("[]")
    with pytest.raises(UsageError, match="is not a recording"), cassette(file):
        pass


def test_no_key_header_or_secret_reaches_the_file(tmp_path: Path) -> None:
    secrets = [
        "sk-live-0123456789abcdef",
        "x-tenant-secret-42",
        "hunter2hunter2",
        "hf_abcdefghijklmnopqrstuv",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9mLWl0",
        "admin:letmein123",
    ]

    @tool
    def read() -> str:
        """Read the settings."""
        return (
            f'{{"password": "{secrets[2]}"}} token {secrets[3]} Bearer {secrets[4]} '
            f"https://{secrets[5]}@host/ {secrets[0]}"
        )

    file = tmp_path / "t.json"
    script = [call("read"), say(f"The key is {secrets[0]}.")]
    with FakeServer(script) as server:
        model: Model = HTTPChat(
            server.url, api_key=secrets[0], headers={"X-Tenant-Key": secrets[1]}
        )
        with cassette(file, model) as recorded:
            Agent(recorded, tools=[read]).run_sync("Read")
        assert secrets[0] in server.requests[0].headers["authorization"]
    text = file.read_text("utf-8")
    assert not [secret for secret in secrets if secret in text]
    assert "authorization" not in text.lower()
    with cassette(file) as recorded:
        played = Agent(recorded, tools=[read]).run_sync("Read")
    assert played.output == "The key is ***."


def overflow_once(model: Model) -> None:
    with pytest.raises(ContextOverflow):
        ask(model)


def test_only_secrets_are_taken_for_some() -> None:
    kept = [
        "password: at least eight characters",
        "sk-learn-predictions-of-a-model",
        "pk_generate_invoice_identifier",
        'data: {"a":"http://h:1/x","b":"x@y.z"}',
    ]
    assert [redact(text) for text in kept] == kept
    assert redact('data: {"c":"-----BEGIN PRIVATE KEY-----\\nabc"}}') == 'data: {"c":"***"}}'
    assert redact('{\\"api_key\\": \\"abc12345678\\"}') == '{\\"api_key\\": \\"***\\"}'


def test_a_stream_that_was_left_plays_as_far_as_it_was_read(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    long = say("word " * 50).replace(delay=0.005)
    first: list[str] = []
    for url in ("", NOWHERE):
        with FakeServer([long]) as server, cassette(file, url or server.url) as model:
            for event in Agent(model).run_stream_sync("Hi"):
                if isinstance(event, TextDelta):
                    first.append(event.text)
                    break
    assert first[0] == first[1]


def test_what_a_server_refuses_and_how_it_breaks_is_recorded_too(tmp_path: Path) -> None:
    def answer(request: RecordedRequest) -> Reply:
        if request.messages[0]["role"] == "system":
            return status(400, body=openai_error("System role not supported", status=400))
        return say("Hi")

    file = tmp_path / "t.json"
    adapted: list[object] = []
    for _ in range(2):
        with FakeServer(answer) as server, cassette(file, server.url) as model:
            result = Agent(model, instructions="Be brief.").run_sync("Hi")
            adapted.append(result.output)
    assert adapted == ["Hi", "Hi"]
    assert len(load_replies(file)) == 2

    file = tmp_path / "overflow.json"
    for _ in range(2):
        refusing = FakeServer([forever(overflow())])
        with refusing as server, cassette(file, server.url) as model:
            overflow_once(model)

    file = tmp_path / "cut.json"
    for url in ("", NOWHERE):
        breaking = FakeServer([status(429), cut(say("half of it")), say("Whole.")])
        with breaking as server, cassette(file, url or server.url) as model:
            parts = list(Agent(model).run_stream_sync("Hi"))
        assert parts[-1].result.output == "Whole."  # type: ignore[union-attr]


def test_a_broken_call_in_the_text_is_parsed_and_repaired_again(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    text = '<tool_call>\n{"name": "add", "arguments": {"a": "2", "b": 3,}}\n</tool_call>'
    record(file, say(text), say("5"))
    assert (
        text.splitlines()[1]
        in json.loads(file.read_text())["exchanges"][0]["body"]["choices"][0]["message"]["content"]
    )
    with cassette(file) as model:
        result = Agent(model, tools=[add]).run_sync(QUESTION)
    assert [one.result.text for one in result.tool_calls if one.result] == ["5"]


def test_bytes_that_no_text_has_are_played_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    delta = b'{"delta":{"content":"\xc3\xa4 \xff"},"finish_reason":"stop"}'
    body = b'data: {"choices":[%b]}\n\ndata: [DONE]\n\n' % delta
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    for url in ("", NOWHERE):
        sending = FakeServer([raw(head + body)])
        with sending as server, cassette(file, url or server.url) as model:
            parts = list(Agent(model).run_stream_sync("Hi"))
        assert parts[-1].result.output == "ä \ufffd"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["openai", "http", "scripted", "fallback", "own"])
async def test_any_model_is_recorded(tmp_path: Path, kind: str) -> None:
    class Own:
        """A model of the user's."""

        def __init__(self) -> None:
            self.inner = ScriptedModel(SCRIPT)

        async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
            async for part in self.inner.ask(request):
                yield part

    file = tmp_path / "t.json"
    async with FakeServer([forever(say("x"))]) as other, FakeServer(SCRIPT) as server:
        client = AsyncOpenAI(
            base_url=server.url, api_key="k", http_client=DefaultAsyncHttpxClient(verify=False)
        )
        models: dict[str, Model] = {
            "openai": OpenAIChat(client, "m"),
            "http": HTTPChat(server.url, settings=ModelSettings(temperature=0, seed=1)),
            "scripted": ScriptedModel(SCRIPT),
            "fallback": Fallback(HTTPChat(HTTPEndpoint(NOWHERE, tries=1), "m"), server.url),
            "own": Own(),
        }
        with cassette(file, models[kind]) as model:
            await Agent(model, tools=[add]).run(QUESTION)
        await client.close()
        assert not other.requests
    with cassette(file, models[kind]) as model:
        result = await Agent(model, tools=[add]).run(QUESTION)
    assert result.output == "It is 5 – fünf 🙂."
    assert len(result.tool_calls) == 1


async def test_parallel_and_nested_runs_durable_ones_and_handoffs_find_their_answers(
    tmp_path: Path,
) -> None:
    def brain(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Reply:
        last = messages[-1]["content"]
        if messages[-1]["role"] == "tool":
            return say(f"done: {last}")
        if "helper" in last:
            return calls(call("helper", task="2 + 3?"), call("helper", task="1 + 1?"))
        if "transfer" in last:
            return call("transfer_to_helper")
        return call("add", a=int(last[0]), b=int(last[4]))

    def play(model: Model) -> list[object]:
        helper = Agent(model, tools=[add], name="helper")
        agent = Agent(model, tools=[helper.as_tool(description="Adds.")])
        outputs: list[object] = [agent.run_sync("Ask helper").output]
        with durable(Agent(model, tools=[add]), f"sqlite:///{tmp_path}/{len(runs)}.db") as kept:
            runs.append(kept)
            outputs.append(kept.run_sync("4 + 4").output)
        return outputs

    runs: list[object] = []
    file = tmp_path / "t.json"
    with FakeServer(brain=brain) as server, cassette(file, server.url) as model:
        recorded = play(model)
    with cassette(file, NOWHERE) as model:
        assert play(model) == recorded


def test_a_recording_is_a_script_of_a_fake_server(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    record(file)
    with FakeServer(load_replies(file)) as server:
        assert ask(HTTPChat(server.url)) == "It is 5 – fünf 🙂."
    assert ask(ScriptedModel(load_replies(file))) == "It is 5 – fünf 🙂."


def test_the_fixture_keeps_a_file_for_each_test_that_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it="""
        from agentcall import Agent
        from agentcall.testing import ScriptedModel, say

        def script():
            return ScriptedModel([say("Hi")])

        def test_good(recorded_model):
            assert Agent(recorded_model(script())).run_sync("Hello").output == "Hi"
            assert Agent(recorded_model(script())).run_sync("Hello").output == "Hi"

        def test_bad(recorded_model):
            assert Agent(recorded_model(script())).run_sync("Hello").output == "Ho"
        """
    )
    options = ("-p", "agentcall.testing.plugin", "-p", "no:cacheprovider")
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1, failed=1)
    files = sorted(path.name for path in pytester.path.glob("cassettes/test_it/*"))
    assert files == ["test_good-2.json", "test_good.json"]
    again = pytester.runpytest_inprocess(*options, "-k", "good")
    again.assert_outcomes(passed=1)
    assert re.search(r"\b1 passed", again.stdout.str())
