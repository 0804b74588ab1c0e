"""What a measurement says of a server whose answers are known, and what `bench` prints of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from asking import heard, question
from command_line import SCRIPT, agentcall
from hypothesis import given
from hypothesis import strategies as st

from agentcall.diagnostics.bench import (
    AnswerTiming,
    BenchReport,
    BenchScope,
    BenchServer,
    BenchTarget,
    IncompleteCounts,
    LoadProfile,
    Percentiles,
    TimedModel,
    compute_agent_stats,
    compute_percentiles,
    compute_stream_stats,
    measure,
    measure_agents,
    measure_prefix_cache,
    measure_streams,
)
from agentcall.errors import ModelError, UsageError
from agentcall.messages import Usage
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import ModelRequest, ResponseEvent
from agentcall.testing import (
    FakeServer,
    Reply,
    ScriptedModel,
    call,
    cut,
    forever,
    hang,
    say,
    status,
)

SMALL = BenchScope((1, 3), each=2, tokens=32, seconds=20.0)


def shop(messages: Sequence[Mapping[str, object]], tools: Sequence[Mapping[str, object]]) -> Reply:
    """A model that looks the price up."""
    if tools and messages[-1]["role"] != "tool":
        return call("price", item="apple")
    return say("They cost eighteen cents.")


def target(*servers: FakeServer) -> BenchTarget:
    return BenchTarget(
        tuple(BenchServer(HTTPEndpoint(server.url), dialect="native") for server in servers)
    )


def native(server: FakeServer) -> HTTPChat:
    return HTTPChat(HTTPEndpoint(server.url, tries=1), "m", dialect="native")


class Counting:
    """A model that counts how many ask it at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.05)
        async for part in ScriptedModel([say("hi")]).ask(request):
            yield part
        self.now -= 1


# --- arithmetic ---


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_spread_is_made_of_samples_and_in_order(samples: list[float]) -> None:
    found = compute_percentiles(samples)
    assert found is not None
    assert {found.median, found.p95} <= set(samples)
    assert min(samples) <= found.median <= found.p95 <= max(samples)


def test_percentiles_are_by_the_nearest_rank() -> None:
    assert compute_percentiles([float(n) for n in range(1, 101)]) == Percentiles(50.0, 95.0)
    assert compute_percentiles([2.0, 1.0]) == Percentiles(1.0, 2.0)
    assert compute_percentiles([]) is None


def test_the_rate_of_a_stream_counts_from_its_first_token() -> None:
    span = AnswerTiming(3.0, 1.0, 3.0, 5, Usage(1, 10, 41))
    assert span.rate == 20.0
    assert AnswerTiming(1.0, 1.0, 1.0, 1, Usage(1, 10, 41)).rate is None  # it came in one piece


def test_the_rate_in_all_is_of_the_clock_and_not_of_the_streams() -> None:
    spans = [
        AnswerTiming(2.0, 0.5, 2.0, 9, Usage(1, 5, 31)),
        AnswerTiming(4.0, 1.0, 4.0, 9, Usage(1, 5, 61)),
    ]
    found = compute_stream_stats(spans, 4.0, IncompleteCounts())
    assert (found.answers, found.tokens, found.in_all) == (2, 92, 23.0)
    assert found.each == Percentiles(20.0, 20.0)
    assert found.first_token == Percentiles(0.5, 1.0)


def test_nothing_whole_has_no_figures() -> None:
    found = compute_agent_stats([], [], 5.0, IncompleteCounts(failed=2, why="503"))
    assert (found.runs, found.run, found.runs_rate, found.tokens_rate) == (0, None, None, None)
    assert compute_stream_stats([], 0.0, IncompleteCounts()).in_all is None


# --- measuring ---


async def test_the_stopwatch_hands_every_part_on_and_keeps_whole_answers_only() -> None:
    with FakeServer([say("one two three"), cut(say("one two three"), after=0.6)]) as server:
        timed = TimedModel(native(server))
        answer = await heard(timed.ask(question(True)))
        assert answer.text == "one two three"
        await heard(timed.ask(question(True)))
        (span,) = timed.timings
        assert 0 < span.first <= span.last <= span.seconds
        assert (span.parts, span.usage) == (len(answer.parts) - 2, answer.usage)


async def test_agents_really_call_tools() -> None:
    with FakeServer(brain=shop) as server:
        found = await measure_agents(native(server), LoadProfile(3, 2, 20.0))
        assert (found.runs, found.called, found.rest) == (6, 6, IncompleteCounts())
        assert found.usage.requests == len(server.requests) == 12
        assert found.usage.tool_calls == 6
        results = [request.messages[-1] for request in server.requests]
        assert {said["content"] for said in results if said["role"] == "tool"} == {"3"}
    assert found.runs_rate == pytest.approx(6 / found.seconds)
    assert found.requests_rate == pytest.approx(12 / found.seconds)


async def test_each_question_is_another_one() -> None:
    with FakeServer([forever(say("one two"))]) as server:
        await measure_streams(native(server), LoadProfile(2, 3, 20.0))
        await measure_streams(native(server), LoadProfile(2, 3, 20.0))
        asked = [str(request.messages[-1]["content"]) for request in server.requests]
    assert len({text.split()[0] for text in asked}) == 12


async def test_so_many_are_asked_at_the_same_time() -> None:
    counting = Counting()
    found = await measure_streams(counting, LoadProfile(5, 2, 20.0))
    assert (found.answers, counting.most) == (10, 5)


async def test_what_is_under_way_at_the_end_is_told_apart() -> None:
    with FakeServer([say("hi"), forever(hang())]) as server:
        found = await measure_streams(native(server), LoadProfile(1, 2, 0.5))
        assert (found.answers, found.rest) == (1, IncompleteCounts(unfinished=1))
        assert server.requests


async def test_failures_are_counted_and_named() -> None:
    with FakeServer([forever(status(500))]) as server:
        found = await measure_agents(native(server), LoadProfile(2, 2, 20.0))
    assert (found.runs, found.rest.failed) == (0, 4)
    assert "answered 500" in found.rest.why
    with FakeServer([forever(call("price", item="fig"))]) as server:
        found = await measure_agents(native(server), LoadProfile(1, 1, 20.0))
    assert found.rest.failed == 1
    assert found.rest.why.startswith("a run ended by")


async def test_a_prefix_cache_is_told_or_told_not_to_be_known() -> None:
    with FakeServer([]) as server:
        found = await measure_prefix_cache(HTTPEndpoint(server.url), "fake-model")
    assert found.cached_tokens is None
    assert found.prompt_tokens is not None
    assert found.prompt_tokens > 300
    details = {"prompt_tokens": 1000, "completion_tokens": 1}
    usage = {**details, "prompt_tokens_details": {"cached_tokens": 960}}
    with FakeServer(lambda _: say("y").replace(usage=usage)) as server:
        found = await measure_prefix_cache(HTTPEndpoint(server.url), "m")
    assert (found.prompt_tokens, found.cached_tokens) == (1000, 960)


async def test_a_whole_measurement() -> None:
    steps: list[str] = []
    with FakeServer(brain=shop) as server:
        report: BenchReport = await measure(target(server), SMALL, steps.append)
    assert [level.concurrency for level in report.levels] == [1, 3]
    assert [(level.streams.answers, level.agents.runs) for level in report.levels] == [
        (2, 2),
        (6, 6),
    ]
    assert (report.model, report.dialect) == ("fake-model", "native")
    assert report.prefix is not None
    assert len(steps) == 6


async def test_a_prefix_cache_that_takes_too_long_is_left() -> None:
    with FakeServer(lambda asked: hang() if asked.body.get("max_tokens") == 1 else say("x")) as one:
        report = await measure(target(one), BenchScope((1,), each=1, seconds=0.5))
    assert report.prefix is None
    assert "gave no complete answer in 0.5 seconds" in report.prefix_failed
    assert report.levels[0].streams.answers == 1


async def test_several_servers_share_the_load() -> None:
    with FakeServer(brain=shop) as one, FakeServer(brain=shop) as two:
        report = await measure(target(one, two), BenchScope((4,), each=3, seconds=20.0))
        assert len(report.servers) == 2
        assert min(len(server.requests) for server in (one, two)) > 5


async def test_a_server_that_is_not_there_is_an_error() -> None:
    gone = FakeServer([])
    with gone:
        pass
    with pytest.raises(ModelError, match="no server answers"):
        await measure(BenchTarget((BenchServer(HTTPEndpoint(gone.url, tries=1)),)), SMALL)


@pytest.mark.parametrize(
    "scope", [{"concurrency": ()}, {"concurrency": (0,)}, {"concurrency": (5000,)}, {"each": 0}]
)
def test_a_measurement_is_bounded(scope: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        BenchScope(**scope)


# --- the command ---


def bench(server: FakeServer, *words: str, cwd: Path) -> Any:
    return agentcall("server", "bench", server.url, "--each", "1", *words, cwd=cwd)


def test_bench_prints_what_it_measured(tmp_path: Path) -> None:
    with FakeServer(brain=shop) as server:
        done = bench(server, "--concurrency", "1,2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the server does not report cached tokens" in " ".join(done.stdout.split())
    assert "streams of up to 128 tokens, 1 each" in done.stdout
    assert "agents with two tools, 1 runs each" in done.stdout
    assert "1 at a time: agents" in done.stderr


def test_bench_json_is_the_whole_report(tmp_path: Path) -> None:
    with FakeServer(brain=shop) as server:
        done = bench(server, "--concurrency", "2", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    (level,) = report["levels"]
    assert (level["concurrency"], level["streams"]["answers"], level["agents"]["runs"]) == (2, 2, 2)
    assert level["agents"]["usage"]["tool_calls"] == 2
    assert report["scope"]["seconds"] == 30.0


def test_a_model_that_calls_no_tool_is_noticed(tmp_path: Path) -> None:
    with FakeServer([forever(say("hi"))]) as server:
        done = bench(server, "--concurrency", "1", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 1 runs called no tool" in done.stdout


def test_no_whole_answer_ends_with_1_and_says_why(tmp_path: Path) -> None:
    with FakeServer([forever(status(500))]) as server:
        done = bench(server, "--concurrency", "1", "--seconds", "2", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 failed: the server at" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--concurrency", "few"], "numbers such as 1,8,32"),
        (["--dialect", "x"], "unknown dialect 'x'"),
    ],
)
def test_a_wrong_command_ends_with_2(words: list[str], message: str, tmp_path: Path) -> None:
    with FakeServer([forever(say("hi"))]) as server:
        done = bench(server, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.embedded
def test_the_embedded_model_can_be_measured(tmp_path: Path) -> None:
    words = ["--concurrency", "1", "--each", "1", "--tokens", "16", "--seconds", "240", "--json"]
    command = [SCRIPT, "server", "bench", "embedded", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=1300, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (level,) = report["levels"]
    assert (level["streams"]["tokens"], level["agents"]["runs"]) == (16, 1)
    assert level["streams"]["each"]["median"] > 0
    assert report["prefix"]["cached_tokens"] > 0
