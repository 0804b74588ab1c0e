"""Who may ask the browser chat, over HTTP: strangers, pages of others, people without a key."""

from __future__ import annotations

import base64
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsing import standing, web

from agentcall.testing import forever, say

NOBODY = "http://127.0.0.1:9/v1"
"""A model that is not there: none is asked here."""

ROUTES = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/theme.css"),
    ("GET", "/chat.js"),
    ("GET", "/export?session=x&as=md"),
    ("GET", "/assets/x.js"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
    ("GET", "/gradio_api/heartbeat/x"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("POST", "/gradio_api/cancel"),
    ("GET", "/nothing"),
]
CLOSED = [
    ("POST", "/gradio_api/run/predict"),
    ("POST", "/gradio_api/call/predict"),
    ("GET", "/gradio_api/proxy=https://evil.hf.space/x"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/vibe-edit/"),
    ("GET", "/gradio_api/runs"),
    ("GET", "/monitoring"),
    ("GET", "/login_check"),
    ("POST", "/login"),
    ("GET", "/gradio_api/deep_link"),
    ("GET", "/gradio_api/mcp/sse"),
]


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that needs no key."""
    with web("-m", NOBODY, cwd=tmp_path_factory.mktemp("free")) as url:
        yield url.rstrip("/")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One with keys of Ann and Bob."""
    keys = {"AGENTCALL_SERVE_KEYS": "Ann=key-of-ann,Bob=key-of-bob"}
    with web("-m", NOBODY, cwd=tmp_path_factory.mktemp("locked"), **keys) as url:
        yield url.partition("/?")[0]


def code(method: str, url: str, **more: Any) -> int:
    """The status of the answer; its body is not waited for."""
    with httpx.Client(timeout=30) as client, client.stream(method, url, **more) as answer:
        return answer.status_code


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_other_hosts_and_origins_are_refused_everywhere(free: str, method: str, path: str) -> None:
    port = free.rpartition(":")[2]
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": f"127.0.0.1.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another server of this machine
        {"Origin": f"http://localhost:{port}"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ):
        assert code(method, free + path, headers=headers) == 403, headers


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_key_nothing_is_answered(locked: str, method: str, path: str) -> None:
    assert code(method, locked + path) == 401
    assert code(method, locked + path, headers={"Authorization": "Bearer key-of-eve"}) == 401
    assert code(method, locked + path, headers={"Cookie": "agentcall=key-of-ann"}) == 401
    assert code(method, f"{locked}{path.partition('?')[0]}?token=key-of-eve") == 401
    port = locked.rpartition(":")[2]
    assert code(method, locked + path, headers={"Cookie": f"agentcall-{port}=key-of-ann"}) == 401
    assert code(method, locked + path, headers={"Host": "evil.example"}) == 403


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join", "/nothing"])
def test_a_hundred_megabytes_are_refused(free: str, path: str) -> None:
    assert code("POST", free + path, content=b" " * 100_000_000) == 413


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_they_are_also_where_their_length_is_not_told(free: str, path: str) -> None:
    head = b'--x\r\ncontent-disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
    kind = "multipart/form-data; boundary=x" if path.endswith("upload") else "application/json"
    chunks = (head if n == 0 else b"x" * 2**20 for n in range(100))
    assert code("POST", free + path, content=chunks, headers={"Content-Type": kind}) == 413


def test_an_upload_of_a_hundred_megabytes_is_refused_as_a_form_too(free: str) -> None:
    files = {"files": ("x.png", b"x" * 100_000_000)}
    assert code("POST", f"{free}/gradio_api/upload", files=files) == 413


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_the_page_does_not_need_is_not_there(free: str, method: str, path: str) -> None:
    assert code(method, free + path, follow_redirects=False) in (404, 405)


def test_files_of_this_machine_are_not_given(free: str, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    for path in (tmp_path / "secret.txt", Path("/etc/passwd"), Path(__file__), Path("tools.py")):
        assert code("GET", f"{free}/gradio_api/file={path}") in (403, 404)


def test_a_request_cannot_name_files_and_addresses_as_its_upload(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    with standing(tmp_path) as stand:
        stand.model.reset([forever(say("I see."))])
        page = httpx.get(f"{stand.url}/config").json()
        (submit,) = [
            each["id"] for each in page["dependencies"] if [*each["targets"][0]][1:] == ["submit"]
        ]
        for place in (str(secret), "secret.png", f"file://{secret}", stand.model.url + "/x.png"):
            for more in ({}, {"url": place}, {"url": f"{stand.url}/gradio_api/file={secret}"}):
                file = {"path": place, "meta": {"_type": "gradio.FileData"}, **more}
                told = _submitted(stand.url, submit, {"text": "What is it?", "files": [file]})
                assert base64.b64encode(secret.read_bytes()).decode() not in told
                assert '"success":false' in told or "was not uploaded here" in told
        assert not stand.model.all_requests
        (tmp_path / "web.log").write_text("")  # Gradio's own tracebacks of what it refused


def _submitted(url: str, number: int, value: object, headers: dict[str, str] | None = None) -> str:
    """What comes of an event of a page."""
    name = secrets.token_hex(6)
    event = {"data": [value], "fn_index": number, "session_hash": name}
    join = f"{url}/gradio_api/queue/join"
    httpx.post(join, json=event, headers=headers).raise_for_status()
    with httpx.Client(timeout=30, headers=headers) as client:
        return client.get(f"{url}/gradio_api/queue/data?session_hash={name}").text


def test_an_uploaded_file_is_kept_where_nobody_else_reads(free: str) -> None:
    given = httpx.post(f"{free}/gradio_api/upload", files={"files": ("x.png", b"\x89PNG")})
    (path,) = given.json()
    folder = Path(path).parents[1]
    assert folder.name.startswith("agentcall-web-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


ODD_HEADERS: list[list[tuple[bytes, bytes]]] = [
    [(b"Cookie", b"agentcall-1=\xff\xfe; x=\xe4")],
    [(b"Cookie", b";;=; =x; \xff; agentcall")],
    [(b"Cookie", b'a="\x80\\')],
    [(b"Cookie", b"[]=1; a[b]=2")],
    [(b"Authorization", b"Bearer \xff\xfe")],
    [(b"Authorization", b"Bearer")],
    [(b"Authorization", b"Basic a2V5")],
    [(b"Accept", b"\xff"), (b"User-Agent", b"\xff"), (b"Accept-Language", b"\xff;q=\xfe")],
    [(b"X-HTTP-Method-Override", b"DELETE"), (b"X-Forwarded-Host", b"evil.example")],
    [(b"Referer", b"\xff://"), (b"X-Forwarded-For", b"\xff")],
]


@pytest.mark.parametrize("headers", ODD_HEADERS)
def test_no_header_is_an_error_of_the_server(
    free: str, locked: str, headers: list[tuple[bytes, bytes]]
) -> None:
    port = locked.rpartition(":")[2].encode()
    named = [(name, value.replace(b"agentcall-1", b"agentcall-" + port)) for name, value in headers]
    for method, path in ROUTES:
        assert code(method, free + path, headers=named) < 500, path
        assert code(method, locked + path, headers=named) == 401, path


@pytest.mark.parametrize("header", ["Origin", "Authorization", "Content-Type"])
def test_a_header_that_is_there_twice_is_refused(free: str, header: str) -> None:
    value = {"Origin": free}.get(header, "x")
    twice = [(header, value), (header, value)]
    assert code("GET", free, headers=twice) == 400


def test_a_body_that_is_too_deep_is_refused_without_a_trace(free: str) -> None:
    deep = b'{"data": ' + b"[" * 5_000 + b"]" * 5_000 + b', "fn_index": 0, "session_hash": "x"}'
    for path in ("queue/join", "cancel", "reset", "upload"):
        for kind in ("application/json", "text/plain", ""):
            where = f"{free}/gradio_api/{path}"
            assert code("POST", where, content=deep, headers={"Content-Type": kind}) == 400
            utf_16 = deep.decode().encode("utf-16")
            assert code("POST", where, content=utf_16, headers={"Content-Type": kind}) == 400


def _as(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-of-{name}"}


def test_an_upload_is_only_for_the_key_that_sent_it(locked: str) -> None:
    file = {"files": ("x.png", b"\x89PNG of ann")}
    (path,) = httpx.post(f"{locked}/gradio_api/upload", files=file, headers=_as("ann")).json()
    where = f"{locked}/gradio_api/file={path}"
    assert httpx.get(where, headers=_as("ann")).content == b"\x89PNG of ann"
    assert httpx.get(where, headers=_as("bob")).status_code == 404
    again = httpx.post(f"{locked}/gradio_api/upload", files=file, headers=_as("bob")).json()
    assert again == [path]  # the same bytes: now it is of both
    assert httpx.get(where, headers=_as("bob")).status_code == 200


def test_a_stream_is_only_for_the_key_whose_session_it_is(tmp_path: Path) -> None:
    with standing(tmp_path, keys=["key-of-ann", "key-of-bob"]) as stand:
        stand.model.reset([forever(say("The secret of Ann."))])
        (submit,) = [
            each["id"]
            for each in httpx.get(f"{stand.url}/config", headers=_as("ann")).json()["dependencies"]
            if [*each["targets"][0]][1:] == ["submit"]
        ]
        event = {"data": [{"text": "Hi", "files": []}], "fn_index": submit, "session_hash": "abc"}
        join = f"{stand.url}/gradio_api/queue/join"
        assert httpx.post(join, json=event, headers=_as("ann")).status_code == 200
        data = f"{stand.url}/gradio_api/queue/data?session_hash=abc"
        assert "secret" not in httpx.get(data, headers=_as("bob"), timeout=30).text
        assert "The secret of Ann." in httpx.get(data, headers=_as("ann"), timeout=30).text


def test_a_request_cannot_ask_about_the_upload_of_another_key(tmp_path: Path) -> None:
    with standing(tmp_path, keys=["key-of-ann", "key-of-bob"]) as stand:
        stand.model.reset([forever(say("I see."))])
        file = {"files": ("x.png", b"\x89PNG\r\n\x1a\nof ann")}
        sent = httpx.post(f"{stand.url}/gradio_api/upload", files=file, headers=_as("ann"))
        page = httpx.get(f"{stand.url}/config", headers=_as("bob")).json()
        (submit,) = [
            each["id"] for each in page["dependencies"] if [*each["targets"][0]][1:] == ["submit"]
        ]
        named = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
        value = {"text": "What is it?", "files": [named]}
        assert "was not uploaded here" in _submitted(stand.url, submit, value, _as("bob"))
        assert not stand.model.all_requests
        assert "I see." in _submitted(stand.url, submit, value, _as("ann"))


def test_a_link_lets_a_browser_in_and_the_key_leaves_the_address(locked: str) -> None:
    with httpx.Client(base_url=locked) as browser:
        link = browser.get("/?token=key-of-ann&session=s+1")
        assert link.status_code == 303
        assert link.headers["location"] == "./?session=s%201"
        cookie = link.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "key-of-ann" not in cookie
        page = browser.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "<gradio-app" in page.text
        assert browser.get("/config").status_code == 200
        assert browser.get("/?token=wrong").status_code == 401


def test_a_key_as_a_header_does_too(locked: str) -> None:
    assert code("GET", locked, headers={"Authorization": "Bearer key-of-bob"}) == 200


def test_a_person_without_a_key_is_asked_for_it(locked: str) -> None:
    page = httpx.get(locked, headers={"Accept": "text/html,*/*"})
    assert page.status_code == 401
    assert '<input name="token" type="password"' in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert httpx.get(locked).json()["error"]["code"] == 401


def test_the_page_runs_no_scripts_but_its_own_and_loads_nothing_from_elsewhere(free: str) -> None:
    first, second = httpx.get(free), httpx.get(free)
    policy = first.headers["content-security-policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert nonce not in second.headers["content-security-policy"]
    assert first.text.count("<script") == first.text.count(f'<script nonce="{nonce}"')
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'self'" in policy
    assert first.headers["referrer-policy"] == "no-referrer"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in first.headers
    assert "content-security-policy" in httpx.get(f"{free}/config").headers


def test_a_link_from_another_page_leads_to_the_page_and_nowhere_else(free: str) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert code("GET", f"{free}/", headers=headers) == 200
    assert code("GET", f"{free}/export?session=x&as=md", headers=headers) == 403
    assert code("POST", f"{free}/gradio_api/upload", headers=headers) == 403


def test_an_export_says_what_is_not_there(free: str) -> None:
    assert httpx.get(f"{free}/export?session=none&as=md").status_code == 404
    wrong = httpx.get(f"{free}/export?session=none&as=html")
    assert wrong.status_code == 400
    assert "not one of md, json" in wrong.text


def test_beyond_this_machine_a_key_is_made_and_shown_as_a_link(tmp_path: Path) -> None:
    with web("--host", "0.0.0.0", "-m", NOBODY, cwd=tmp_path) as url:
        assert url.startswith("http://0.0.0.0:")
        here = url.replace("0.0.0.0", "127.0.0.1")
        base = here.partition("/?")[0]
        assert code("GET", base) == 401
        with httpx.Client(follow_redirects=True) as browser:
            assert "<gradio-app" in browser.get(here).text


def test_a_key_that_was_given_is_neither_shown_nor_logged(tmp_path: Path) -> None:
    variables = {"AGENTCALL_SERVE_KEYS": "Ann=key-of-ann"}
    with web("-m", NOBODY, cwd=tmp_path, **variables) as url:
        assert url.endswith("/?token=KEY")
        base = url.partition("/?")[0]
        assert code("GET", base) == 401
        assert code("GET", f"{base}/?token=key-of-ann") == 303
    assert "key-of-ann" not in (tmp_path / "web.log").read_text()
