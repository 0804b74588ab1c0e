"""The doctor's word on LMDeploy in each of its states."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from environments import NoInterpreterError
from launch import START_SECONDS, Launch, Server, start
from stand import Stand, exchange

from agentcall.agent import Agent
from agentcall.diagnostics.doctor import DoctorReport, Finding, examine
from agentcall.errors import ModelRefused
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat

KEY = "sk-of-the-test"


def finding(report: DoctorReport, words: str) -> Finding:
    """The one that begins with these words."""
    found = [each for each in report.findings if each.what.startswith(words)]
    assert len(found) == 1, report.findings
    return found[0]


def levels(report: DoctorReport) -> list[str]:
    return [each.level for each in report.findings if each.level != "ok"]


async def test_the_stock_server_drops_tools(stock: Stand) -> None:
    report = await examine(stock.url)
    assert (report.server, report.version, report.context) == ("lmdeploy", "0.18 or later", 32768)
    assert (report.tools, report.streams_with_tools, report.dialect) == (
        *("dropped", True),
        "internlm",
    )
    dropped = finding(report, "tools do not reach the prompt: the chat template ignores them")
    assert dropped.level == "warn"
    assert "agentcall uses raw mode instead" in dropped.advice
    assert "--chat-template FILE.json" in dropped.advice
    assert levels(report) == ["warn"]
    assert report.healthy
    assert "drops tools" in report.reason


async def test_a_server_without_a_parser_refuses_tools(noparser: Stand) -> None:
    report = await examine(noparser.url)
    assert (report.tools, report.streams_with_tools, report.dialect) == (
        *("refused", None),
        "internlm",
    )
    refused = finding(report, "the server refuses tools: Please launch")
    assert refused.level == "warn"
    assert "launch with --tool-call-parser internlm" in refused.advice
    assert "agentcall uses raw mode instead" in refused.advice
    assert levels(report) == ["warn"]
    assert report.healthy


async def test_a_template_that_knows_tools_leaves_nothing_to_say(tools_template: Stand) -> None:
    report = await examine(tools_template.url)
    assert (report.tools, report.streams_with_tools, report.dialect) == ("reach", True, "native")
    assert finding(report, "tools reach the prompt").level == "ok"
    assert levels(report) == []
    assert report.healthy
    assert not any(each.advice for each in report.findings)


async def test_the_old_server_is_old_and_streams_no_tools(old: Stand) -> None:
    report = await examine(old.url)
    assert (report.version, report.context, report.tools) == ("0.5 or earlier", None, "reach")
    assert (report.streams_with_tools, report.dialect) == (False, "internlm-named")
    assert "upgrade" in finding(report, "LMDeploy 0.5 or earlier answers").advice
    assert "raw mode" in finding(report, "a stream with tools does not work").advice
    assert finding(report, "the server does not report the context length").level == "ok"
    assert levels(report) == ["warn", "warn"]
    assert report.healthy


async def test_an_examination_costs_a_few_requests_for_one_token(stand: Stand) -> None:
    await examine(stand.url)
    records = stand.records()
    assert len(records) == (4 if stand.name == "noparser" else 6)
    assert all(record.is_probe for record in records)


async def test_the_model_is_named_in_full(stand: Stand) -> None:
    report = await examine(stand.url, "internlm2_5-7b-chat")
    assert report.served == (report.model,)
    assert report.model.endswith(f"/{stand.name}/internlm2_5-7b-chat")


async def test_a_model_that_is_not_served_is_an_error_that_names_those_that_are(
    stand: Stand,
) -> None:
    report = await examine(stand.url, "qwen")
    assert report.model == ""
    (only,) = report.findings
    assert only.level == "error"
    assert "'qwen'" in only.what
    assert report.served[0] in only.advice
    assert not report.healthy
    assert stand.records() == []


async def test_a_base_url_without_v1_is_corrected(stand: Stand) -> None:
    report = await examine(stand.url.removesuffix("/v1"))
    assert report.findings[0].advice == f"use {stand.url}"
    assert not report.healthy


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """0.18.0 that wants a key and hides its OpenAPI document."""
    launch = Launch("locked", "0.18.0", ("--api-keys", KEY, "--disable-fastapi-docs"))
    try:
        server = start(launch, tmp_path_factory.mktemp("locked"), print)
    except NoInterpreterError as reason:
        pytest.skip(str(reason))
    try:
        wait_for_health(server)
        yield server.stand
    finally:
        server.stop()


def wait_for_health(server: Server) -> None:
    """The one page that needs no key."""
    deadline = time.monotonic() + START_SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            exchange(server.stand.url.removesuffix("/v1") + "/health")
            return
        time.sleep(0.1)
    pytest.fail(server.log.read_text("utf-8", "replace")[-4000:])


async def test_a_missing_key_and_a_wrong_one_are_told_apart(locked: Stand) -> None:
    bare = await examine(locked.url)
    assert "requires an API key" in bare.findings[0].what
    wrong = await examine(HTTPEndpoint(locked.url, "sk-wrong"))
    assert "refuses this API key" in wrong.findings[0].what
    assert "AGENTCALL_API_KEY" in wrong.findings[0].advice
    assert "sk-wrong" not in str(wrong)
    assert not bare.healthy
    assert not wrong.healthy


async def test_with_its_key_a_locked_server_that_hides_its_document_is_examined(
    locked: Stand,
) -> None:
    report = await examine(HTTPEndpoint(locked.url, KEY))
    assert (report.version, report.context, report.tools) == ("0.16 or later", 32768, "refused")
    assert report.dialect == "internlm"
    assert report.healthy


async def test_a_run_without_the_key_says_what_to_do(locked: Stand) -> None:
    with pytest.raises(ModelRefused, match=r"401.*AGENTCALL_API_KEY"):
        await Agent(HTTPChat(locked.url)).run("Hi")
    locked.script(["Hello."])
    assert (await Agent(HTTPChat(HTTPEndpoint(locked.url, KEY))).run("Hi")).output == "Hello."
