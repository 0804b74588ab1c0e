"""The doctor's word on every kind of server, and on servers that are not there."""

import socket
from collections.abc import Callable
from dataclasses import replace

import pytest
from rows import each_row

from agentcall.diagnostics.doctor import (
    DoctorReport,
    Finding,
    examine,
    list_findings,
    predict_choice,
)
from agentcall.models.capabilities import ServerCapabilities
from agentcall.models.http import HTTPEndpoint
from agentcall.testing import (
    FakeServer,
    RecordedRequest,
    Reply,
    flat_error,
    forever,
    hang,
    html,
    ignore_stream,
    no_choices,
    openai_error,
    say,
    status,
)
from agentcall.testing.chat_rules import GEMMA, GEMMA_3, MISTRAL, OPENAI, QWEN, ChatRules

INTERNLM = "internlm2_5-7b-chat"
HI = forever(say("Hi"))


def finding(report: DoctorReport, words: str) -> Finding:
    """The one that begins with these words."""
    found = [each for each in report.findings if each.what.startswith(words)]
    assert len(found) == 1, report.findings
    return found[0]


def refusing(body: object) -> Callable[[RecordedRequest], Reply]:
    def script(asked: RecordedRequest) -> Reply:
        return status(400, body=body) if asked.tools else say("Hi")

    return script


# --- servers that answer ---


async def test_a_server_with_nothing_wrong_has_no_advice() -> None:
    card = {"id": "qwen", "owned_by": "vllm", "max_model_len": 32768}
    pages = {"/v1/models": {"data": [card]}, "/version": {"version": "0.8.5"}}
    with FakeServer([HI], pages=pages) as server:
        report = await examine(server.url)
    assert replace(report, findings=(), reason="") == DoctorReport(
        server.url, "vllm", "0.8.5", "qwen", ("qwen",), 32768, "reach", True, "native"
    )
    assert report.healthy
    assert not any(each.advice for each in report.findings)
    assert finding(report, "vLLM 0.8.5 answers at").level == "ok"


async def test_an_examination_costs_six_requests_for_one_token() -> None:
    with FakeServer([HI], models=["qwen"]) as server:
        await examine(server.url)
        assert [request.body["max_tokens"] for request in server.requests] == [1] * 6


@each_row(
    ("rules", "learned"),
    [
        (OPENAI, ()),
        (MISTRAL, ("alternating roles",)),
        (GEMMA, ("no tool role", "no system role", "alternating roles")),
        (replace(GEMMA_3, status=500), ("no tool role", "alternating roles")),
        (QWEN, ("one system message",)),
    ],
)
async def test_what_is_learned_of_a_server_is_listed(
    rules: ChatRules, learned: tuple[str, ...]
) -> None:
    with FakeServer([HI], models=["m"], rules=rules) as server:
        report = await examine(server.url)
    assert set(report.adaptations) == set(learned)
    for name in learned:
        assert finding(report, f"learned: {name}: ").level == "ok"
    assert report.healthy


async def test_a_server_that_refuses_fields_and_images_can_be_examined() -> None:
    def answer(request: RecordedRequest) -> Reply:
        for field in ("max_tokens", "temperature", "stream_options"):
            if field in request.body:
                words = f"Unsupported parameter: '{field}' is not supported with this model."
                return status(400, body=openai_error(words, status=400))
        if "image_url" in str(request.messages):
            return status(400, body=openai_error("m is not a multimodal model", status=400))
        return say("Hi")

    with FakeServer(answer, models=["m"]) as server:
        report = await examine(server.url)
    assert (report.tools, report.healthy) == ("reach", True)
    assert set(report.adaptations) == {
        *("max_completion_tokens", "no temperature", "no stream_options", "no images")
    }


async def test_a_refusal_that_is_not_known_is_a_warning() -> None:
    def answer(request: RecordedRequest) -> Reply:
        if len(request.messages) > 4:
            return status(400, body=openai_error("Computer says no", status=400))
        return say("Hi")

    with FakeServer(answer, models=["m"]) as server:
        report = await examine(server.url)
    assert "Computer says no" in finding(report, "a conversation with a call").what


@pytest.mark.parametrize(
    ("owner", "words", "advice"),
    [
        ("vllm", '"auto" tool choice requires --enable-auto-tool-choice', "--tool-call-parser"),
        ("llamacpp", "tools param requires --jinja flag", "--jinja"),
        ("library", "registry.ollama.ai/library/gemma does not support tools", "Ollama lists"),
        ("somebody", "no tools", "a chat template that supports tools"),
    ],
)
async def test_a_server_that_refuses_tools_is_told_how_to_take_them(
    owner: str, words: str, advice: str
) -> None:
    script = refusing(openai_error(words, status=400))
    with FakeServer(script, owned_by=owner, models=["m"]) as server:
        report = await examine(server.url)
    assert (report.tools, report.dialect, report.streams_with_tools) == (
        *("refused", "constrained"),
        None,
    )
    refused = finding(report, f"the server refuses tools: {words}")
    assert refused.level == "warn"
    assert advice in refused.advice
    assert "agentcall uses constrained instead" in refused.advice
    assert report.healthy


async def test_another_model_behind_lmdeploy_is_told_the_name_of_no_wrong_parser() -> None:
    with FakeServer([HI], owned_by="lmdeploy", models=["qwen"], refuses_tools=True) as server:
        report = await examine(server.url)
    assert report.dialect == "constrained"
    assert "internlm" not in finding(report, "the server refuses tools:").advice
    assert finding(report, "agentcall uses the dialect constrained").level == "ok"


async def test_tools_that_a_server_drops_where_auto_does_not_look_are_an_error() -> None:
    with FakeServer([HI], owned_by="somebody", models=["qwen"], drops_tools=True) as server:
        report = await examine(server.url)
    assert (report.tools, report.dialect) == ("dropped", "native")
    dropped = finding(report, "tools do not reach the prompt")
    assert dropped.level == "error"
    assert 'dialect="constrained"' in dropped.advice
    assert not report.healthy


async def test_a_local_server_that_drops_tools_is_spoken_to_in_another_dialect() -> None:
    with FakeServer([HI], owned_by="vllm", models=["qwen"], drops_tools=True) as server:
        report = await examine(server.url)
    assert (report.tools, report.dialect) == ("dropped", "constrained")
    assert finding(report, "tools do not reach the prompt").level == "warn"


async def test_internlm_speaks_raw_mode_wherever_tools_are_dropped() -> None:
    with FakeServer([HI], owned_by="vllm", models=[INTERNLM], drops_tools=True) as server:
        report = await examine(server.url)
    assert report.dialect == "internlm"
    assert finding(report, "tools do not reach the prompt").level == "warn"


async def test_what_cannot_be_seen_is_not_claimed() -> None:
    with FakeServer([forever(say("Hi").replace(usage=None))], models=["qwen"]) as server:
        report = await examine(server.url)
    assert report.tools == "unknown"
    assert finding(report, "unknown whether tools reach the prompt").level == "warn"
    assert finding(report, "the server does not report the context length").level == "ok"


async def test_a_server_that_answers_no_stream_is_found_out() -> None:
    with FakeServer([forever(ignore_stream(say("Hi")))], models=["qwen"]) as server:
        report = await examine(server.url)
    assert report.streams_with_tools is False
    assert (
        "complete answers"
        in finding(report, "a stream with tools does not work: the server answers without").advice
    )


async def test_a_small_window_is_a_warning_in_the_words_of_the_server() -> None:
    pages = {"/api/ps": {"models": [{"name": "m", "context_length": 4096}]}}
    with FakeServer([HI], owned_by="library", models=["m"], pages=pages) as server:
        report = await examine(server.url)
    assert report.context == 4096
    small = finding(report, "the context length is 4096 tokens")
    assert small.level == "warn"
    assert "OLLAMA_CONTEXT_LENGTH" in small.advice


def facts(since: str, **more: object) -> ServerCapabilities:
    parts = tuple(map(int, since.split("."))) if since else ()
    known = ServerCapabilities(INTERNLM, (INTERNLM,), "lmdeploy", since, parts, "reach", (20, 90))
    return replace(known, **more)  # type: ignore[arg-type]


def test_versions_whose_parser_mixes_requests_up_garble_streams() -> None:
    old = facts("0.9", model="qwen")
    found = list_findings(old, True, predict_choice(old))
    (stream,) = [each for each in found if "stream with tools" in each.what]
    assert stream.level == "warn"
    assert "garbles" in stream.what
    assert "complete answers" in stream.advice


def test_constrained_before_0_10_2_is_held_to_nothing() -> None:
    old = facts("0.9", model="qwen", tool_support="dropped", prompt_tokens=(20, 20))
    found = list_findings(old, None, predict_choice(old))
    assert found[-1].level == "warn"
    assert "0.10.2" in found[-1].what


# --- servers that do not ---


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def only(url: str | HTTPEndpoint, model: str | None = None) -> Finding:
    report = await examine(url, model)
    assert not report.healthy
    assert (report.model, report.dialect) == ("", "")
    (found,) = report.findings
    assert found.level == "error"
    assert found.advice
    return found


async def test_a_server_that_is_not_there_is_to_be_started() -> None:
    found = await only(f"http://127.0.0.1:{closed_port()}/v1")
    assert "no server answers" in found.what
    assert "start the server" in found.advice


async def test_what_is_no_url_is_told() -> None:
    assert "nonsense" in (await only("nonsense")).what


async def test_a_base_url_without_v1_is_corrected() -> None:
    with FakeServer() as server:
        found = await only(server.url.removesuffix("/v1"))
        assert found.advice == f"use {server.url}"


async def test_a_base_url_without_v1_is_corrected_even_if_the_root_is_a_page() -> None:
    with FakeServer(pages={"/models": html(200)}) as server:
        assert (await only(server.url.removesuffix("/v1"))).advice == f"use {server.url}"


async def test_a_base_url_without_v1_of_a_locked_server_is_corrected() -> None:
    locked = status(401, body=flat_error("Unauthorized", status=401))
    with FakeServer(pages={"/v1/models": locked}) as server:
        assert (await only(server.url.removesuffix("/v1"))).advice == f"use {server.url}"


async def test_a_server_of_something_else_is_told() -> None:
    with FakeServer(pages={"/v1/models": None}) as server:
        found = await only(server.url)
        assert "404" in found.what
        assert "OpenAI-compatible" in found.advice


@pytest.mark.parametrize(("key", "words"), [("", "requires an API key"), ("sk-a", "refuses this")])
async def test_a_key_that_is_missing_or_wrong_is_told(key: str, words: str) -> None:
    locked = status(401, body=openai_error("bad key sk-a", status=401))
    with FakeServer(pages={"/v1/models": locked}) as server:
        found = await only(HTTPEndpoint(server.url, key))
        assert words in found.what
        assert "AGENTCALL_API_KEY" in found.advice
        assert "sk-a" not in str(found)


async def test_a_model_that_is_not_served_is_told_with_those_that_are() -> None:
    with FakeServer(models=["a", "b"], owned_by="vllm") as server:
        report = await examine(server.url, "c")
        assert report.served == ("a", "b")
        found = await only(server.url, "c")
        assert "a, b" in found.what
        assert "use one of" in found.advice


async def test_a_server_without_models_is_told() -> None:
    with FakeServer(models=[]) as server:
        found = await only(server.url)
        assert "no model" in found.what
        assert "launch the server with a model" in found.advice


@pytest.mark.parametrize(
    "fault",
    [status(503, body=flat_error("sleeping", status=503)), html(502), no_choices()],
)
async def test_a_model_that_does_not_answer_is_told_with_all_that_is_known(fault: Reply) -> None:
    with FakeServer([forever(fault)], models=["qwen"]) as server:
        report = await examine(server.url)
    assert report.model == "qwen"
    assert not report.healthy
    failed = finding(report, "the model does not answer")
    assert failed.level == "error"
    assert failed.advice


async def test_a_model_that_hangs_is_given_up() -> None:
    with FakeServer([forever(hang())], models=["qwen"]) as server:
        report = await examine(HTTPEndpoint(server.url, timeout=0.5))
    assert "the model does not answer" in report.findings[-1].what
    assert not report.healthy
