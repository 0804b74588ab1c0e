"""The connection to a server: headers, certificates, redirects."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from asking import heard, question
from loopback import make_certificate, saying, serving
from rows import each_row

from agentcall.errors import ModelRefused, ModelUnreachable, UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.resolve import resolve_model
from agentcall.testing import FakeServer, forever, say
from agentcall.testing.faults import status


async def test_headers_are_sent_and_replace_the_usual_ones() -> None:
    headers = {"X-Team": "blue", "user-agent": "mine", "AUTHORIZATION": "Key 7"}
    with FakeServer([say("hi")]) as server:
        model = HTTPChat(server.url, "m", dialect="native", api_key="sk-1", headers=headers)
        await heard(model.ask(question()))
        sent = server.requests[0].headers
    assert (sent["x-team"], sent["user-agent"], sent["authorization"]) == ("blue", "mine", "Key 7")
    assert sent["content-type"] == "application/json"


def test_options_change_an_endpoint_that_is_given() -> None:
    endpoint = HTTPEndpoint("http://h/v1", "sk-1", tries=1)
    model = HTTPChat(endpoint, headers={"X-Auth-Token": "t-123"}, timeout=5)
    assert (model.endpoint.timeout, model.endpoint.tries, model.endpoint.api_key) == (5, 1, "sk-1")
    assert "t-123" in model.secrets
    assert HTTPChat(endpoint).endpoint is endpoint


@pytest.mark.parametrize("key", ["sk-1\nX-Evil: 1", "sk-\r1", "sk\x00"])
def test_a_key_with_a_line_break_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(UsageError, match="the API key contains a line break") as caught:
        HTTPEndpoint("http://h/v1", key)
    assert "sk" not in str(caught.value)
    assert HTTPEndpoint("http://h/v1", " sk-1\n").api_key == "sk-1"


@pytest.mark.parametrize("headers", [{"X-A": "b\nc"}, {"X A": "b"}, {"": "b"}])
def test_a_header_that_http_cannot_carry_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="header"):
        HTTPEndpoint("http://h/v1", headers=headers)


@each_row(
    ("options", "message"),
    [
        ({"timeout": 0}, r"timeout=0: it has to be above 0 \(seconds\)"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": "5"}, "timeout='5'"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"headers": "X-A: b"}, "headers= has to be a mapping"),
        ({"headers": {"X-A": None}}, "headers= has to be a mapping"),
        ({"headers": {"X-A": 5}}, "headers= has to be a mapping"),
        ({"proxy": 5}, "proxy= has to be a text"),
        ({"ssl": 5}, "ssl='5' is not a file of CA certificates"),
    ],
)
def test_an_option_of_another_type_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HTTPChat("http://h/v1", **options)


@pytest.mark.parametrize("shorthand", [" {}", "{}\n", "\t{}#some-7b ", "{} # some-7b"])
async def test_blanks_around_a_shorthand_do_not_matter(shorthand: str) -> None:
    with FakeServer([say("hi")], models=("some-7b",)) as server:
        url = server.url.replace("http", "HTTP")
        model = resolve_model(shorthand.format(url))
        assert (await heard(model.ask(question()))).text == "hi"
        assert server.requests[0].body["model"] == "some-7b"


async def test_an_answer_with_very_long_headers_is_read() -> None:
    policy = {"Content-Security-Policy": "x" * 60_000}
    body = {"choices": [{"message": {"content": "hi"}}]}
    with FakeServer([status(200, body=body, headers=policy)]) as server:
        answer = await heard(HTTPChat(server.url, "m", dialect="native").ask(question()))
    assert answer.text == "hi"


# Redirects


@each_row("stream", [False, True])
@each_row(
    ("code", "location", "target"),
    [
        (301, "https://gpu.example/v1/chat/completions", "https://gpu.example/v1"),
        (302, "/login?next=%2Fv1", "/login"),
        (303, "/v1/chat/completions/", "/v1"),
        (307, "http://127.0.0.1:9/v1/chat/completions", "http://127.0.0.1:9/v1"),
        (308, "https://gpu.example/v1/chat/completions", "https://gpu.example/v1"),
    ],
)
async def test_a_redirect_elsewhere_is_an_error_that_names_the_target(
    code: int, location: str, target: str, stream: bool
) -> None:
    reply = forever(status(code, body="", headers={"Location": location}))
    with FakeServer([reply]) as server:
        model = HTTPChat(server.url, "m", dialect="native")
        with pytest.raises(ModelRefused, match=rf"redirects to \S*{target} \(HTTP {code}\)") as e:
            await heard(model.ask(question(stream)))
        assert len(server.requests) == 1
    assert e.value.status == code


@pytest.mark.parametrize("code", [307, 308])
async def test_a_redirect_on_the_server_that_keeps_the_request_is_followed(code: int) -> None:
    seen: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        if not request.path.endswith("/"):
            return web.Response(status=code, headers={"Location": f"{request.path}/"})
        seen.append(await request.read())
        return web.json_response({"choices": [{"message": {"content": "hi"}}]})

    async with serving(answer) as site:
        model = HTTPChat(site.url("/v1"), "m", dialect="native")
        assert (await heard(model.ask(question()))).text == "hi"
    assert b'"messages":[' in seen[0]


async def test_redirects_in_a_circle_end() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": request.path})

    async with serving(answer) as site:
        with pytest.raises(ModelRefused, match="redirects in a circle"):
            await HTTPEndpoint(site.url("/v1")).post("/chat/completions", b"{}")


# Certificates


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")  # asyncio of Python 3.10
async def test_a_certificate_of_ones_own_is_accepted_by_its_file_or_not_checked(
    tmp_path: Path,
) -> None:
    certificate, tls = make_certificate(tmp_path, "DNS:localhost")

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    context = ssl.create_default_context(cafile=certificate)
    async with serving(answer, tls=tls) as site:
        url = f"https://localhost:{site.port}/v1"
        for accepted in (certificate, str(certificate), context, False):
            assert await HTTPEndpoint(url, ssl=accepted).get("/models") == {"ok": True}
        with pytest.raises(ModelUnreachable, match=r"not trusted \(.*\); give .* ssl=False"):
            await HTTPEndpoint(url).get("/models")
        other_name = f"https://127.0.0.1:{site.port}/v1"
        with pytest.raises(ModelUnreachable, match="not valid for"):
            await HTTPEndpoint(other_name, ssl=certificate).get("/models")


async def test_https_to_a_server_that_speaks_http_is_said_so() -> None:
    async with serving(saying("hi")) as site:
        with pytest.raises(ModelUnreachable, match="write http:// instead of https://"):
            await HTTPEndpoint(site.url("/v1").replace("http", "https")).get("/models")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_has_no_certificate_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"not a file of CA certificates"):
        HTTPChat("https://gpu.example/v1", ssl=path)
