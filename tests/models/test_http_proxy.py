"""Requests through a proxy: which one is chosen, and that every request takes it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from asking import heard, question
from loopback import make_certificate, proxying, serving

from agentcall.errors import ModelUnreachable, UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.http_proxy import find_proxy, is_loopback
from agentcall.testing import FakeServer, forever, say
from agentcall.testing.faults import status

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("url", ["http://gpu.example/v1", "https://gpu.example:8443/v1"])
@pytest.mark.parametrize("name", ["HTTP_PROXY http_proxy", "HTTPS_PROXY https_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy_of_a_scheme(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    upper = name.split()[0]
    applies = upper.startswith(("ALL", urlsplit(url).scheme.upper() + "_"))
    for variable in name.split():
        with monkeypatch.context() as patch:
            patch.setenv(variable, PROXY)
            assert find_proxy(url) == (PROXY if applies else "")


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("gpu.example", "http://gpu.example/v1", True),
        (".example", "http://gpu.example/v1", True),
        ("example", "http://gpu.example/v1", True),
        ("other.example, gpu.example:8000", "http://gpu.example:8000/v1", True),
        ("gpu.example:9000", "http://gpu.example:8000/v1", False),
        ("gpu.example", "http://my-gpu.example/v1", False),
        ("*", "http://gpu.example/v1", True),
        ("10.0.0.0/8", "http://10.1.2.3:8000/v1", True),
        ("10.0.0.0/8", "http://11.1.2.3:8000/v1", False),
        ("192.168.1.5", "http://192.168.1.5/v1", True),
        ("fd00::/8", "http://[fd00::1]:8000/v1", True),
        ("fd00::1", "http://[fd00::1]:8000/v1", True),
        ("10.0.0.0/8", "http://gpu.example/v1", False),
    ],
)
def test_no_proxy_names_the_hosts_that_are_reached_directly(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, is_direct: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert find_proxy(url) == ("" if is_direct else PROXY)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "[::1]", "LOCALHOST", "a.localhost.", "0.0.0.0"]
)
def test_this_machine_is_never_behind_the_environments_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    assert is_loopback(host)
    assert find_proxy(f"http://{host}:8000/v1") == ""
    assert find_proxy(f"http://{host}:8000/v1", PROXY) == PROXY


@pytest.mark.parametrize("host", ["127.evil.example", "localhost.evil.example", "10.0.0.1", ""])
def test_a_host_that_only_looks_like_this_machine_is_not(host: str) -> None:
    assert not is_loopback(host)


def test_the_caller_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", PROXY)
    assert find_proxy("http://gpu.example/v1", "other.example:8080") == "http://other.example:8080"
    assert find_proxy("http://gpu.example/v1", "") == ""


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://", "http://h:x"])
def test_a_proxy_that_does_not_speak_http_is_refused(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    with pytest.raises(UsageError, match="only HTTP proxies"):
        HTTPChat("http://gpu.example/v1", proxy=proxy)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UsageError, match="NO_PROXY"):
        HTTPEndpoint("http://gpu.example/v1")
    HTTPEndpoint("http://127.0.0.1:8000/v1")  # not used, so not checked


@pytest.mark.parametrize("stream", [False, True])
async def test_every_request_goes_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    with FakeServer([forever(say("hi"))]) as server:
        async with proxying(urlsplit(server.url).port or 0) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://joe:secret@"))
            model = HTTPChat("http://gpu.invalid/v1", api_key=f"sk-{stream}")
            assert (await heard(model.ask(question(stream)))).text == "hi"
        assert server.all_requests[0].path == "/v1/models"
    assert proxy.heads[0].startswith("GET http://gpu.invalid/v1/models HTTP/1.1")
    assert "Proxy-Authorization: Basic am9lOnNlY3JldA==" in proxy.heads[0]
    assert server.requests[0].headers["host"] == "gpu.invalid"
    assert server.requests[0].headers["authorization"] == f"Bearer sk-{stream}"
    assert "Basic am9lOnNlY3JldA==" in model.secrets


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")  # asyncio of Python 3.10
async def test_tls_goes_through_a_tunnel_and_the_proxy_never_reads_the_key(tmp_path: Path) -> None:
    certificate, tls = make_certificate(tmp_path, "DNS:gpu.invalid")

    async def answer(request: web.Request) -> web.Response:
        message = {"role": "assistant", "content": request.headers["Authorization"]}
        return web.json_response({"choices": [{"index": 0, "message": message}]})

    async with serving(answer, tls=tls) as site, proxying(site.port) as proxy:
        model = HTTPChat(
            "https://gpu.invalid/v1",
            "m",
            dialect="native",
            api_key="sk-1",
            proxy=proxy.url,
            ssl=certificate,
        )
        assert (await heard(model.ask(question()))).text == "Bearer sk-1"
    assert [head.split("\r\n")[0] for head in proxy.heads] == ["CONNECT gpu.invalid:443 HTTP/1.1"]
    assert "sk-1" not in proxy.heads[0]


async def test_a_proxy_that_is_down_is_named_without_its_password() -> None:
    endpoint = HTTPEndpoint("http://gpu.invalid/v1", tries=1, proxy="http://joe:secret@127.0.0.1:9")
    with pytest.raises(ModelUnreachable, match=r"the proxy http://127.0.0.1:9 does not") as caught:
        await endpoint.get("/models")
    assert "secret" not in str(caught.value)


async def test_a_proxy_that_wants_credentials_is_said_so() -> None:
    with FakeServer(pages={"/v1/models": status(407, body="who are you, joe:secret?")}) as server:
        proxy = server.url.replace("://", "://joe:secret@").removesuffix("/v1")
        with pytest.raises(Exception, match=r"through the proxy .* 407.*credentials") as caught:
            await HTTPEndpoint("http://gpu.invalid/v1", proxy=proxy).get("/models")
        assert "secret" not in str(caught.value)
