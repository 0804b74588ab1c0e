"""Chromium on a page of `agentcall web`, and what it asked for."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from command_line import SCRIPT, environment, kept_in
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from agentcall.testing import FakeServer, Reply

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOOLS = '''
import time
from pathlib import Path

from agentcall import tool


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(requires_approval=True)
def delete(path: str) -> str:
    """Delete a file."""
    Path(path).unlink()
    return f"deleted {path}"


@tool
async def nap(seconds: float) -> str:
    """Sleep."""
    import asyncio

    Path("napping").touch()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        Path("woken").touch()
        raise
    return "slept"


@tool
def read() -> str:
    """Read a page of strangers."""
    return "```\\n<script>window.hacked = 1</script>\\n<img src=x onerror='window.hacked = 1'>"
'''
SOON = 20_000
"""Milliseconds that the browser waits for something at most."""

_OF_LEAVING = ("BodyStreamBuffer was aborted", "Connection errored out")
"""What Gradio says of a stream that is still open when its page is left."""


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless Chromium, which a machine for tests has to have."""
    path = shutil.which("chromium") or "/usr/bin/chromium"
    expect.set_options(timeout=SOON)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def web(*words: str, cwd: Path, **variables: str) -> Iterator[str]:
    """`agentcall web WORDS` on a free port; the address that it says."""
    log = cwd / "web.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            [SCRIPT, "web", "--port", "0", *words],
            cwd=cwd,
            env=environment(**kept_in(cwd), **variables),
            stderr=written,
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(30)
    told = log.read_text()
    assert "Traceback" not in told, told
    assert "ERROR" not in told, told


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + 60
    while not (found := re.search(r"http://\S+", log.read_text())):
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"it did not start: {log.read_text()}")
        time.sleep(0.05)
    return found[0]


@dataclass(frozen=True)
class Stand:
    """`agentcall web` that runs, on a model that plays what it is told; `keys` let people in."""

    model: FakeServer
    url: str
    cwd: Path
    keys: Iterator[str]


@contextmanager
def standing(cwd: Path, *words: str, keys: Sequence[str] = ()) -> Iterator[Stand]:
    """One with these further words, and a person for each key."""
    (cwd / "tools.py").write_text(TOOLS)
    given = {"AGENTCALL_SERVE_KEYS": ",".join(f"{key}={key}" for key in keys)} if keys else {}
    with FakeServer() as model:
        all_words = ["-m", model.url, "-t", "tools.py", *words]
        with web(*all_words, cwd=cwd, **given) as url:
            yield Stand(model, url.partition("/?")[0].rstrip("/"), cwd, iter(keys))


class Visit:
    """A person at a chat page, who comes in by the next key."""

    def __init__(self, browser: Browser, stand: Stand, replies: Sequence[Reply]) -> None:
        self._browser = browser
        self._stand = stand
        self._stack = ExitStack()
        self.model = stand.model
        self.cwd = stand.cwd
        self.base = stand.url
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.model.reset(list(replies))
        self.key = next(stand.keys, None)

    def __enter__(self) -> Visit:
        with ExitStack() as starting:
            starting.push(self.__exit__)
            self.page = self.opened()
            starting.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def opened(self, key: str | None = None) -> Page:
        """Another browser, with cookies of its own, of this person or of whose key it is."""
        token = key or self.key
        context = self._browser.new_context(viewport={"width": 1200, "height": 800})
        self._stack.callback(context.close)
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda told: told.type == "error" and self._complain(told.text))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.goto(f"{self.base}/?token={token}" if token else self.base)
        expect(page.locator("#session .md")).to_have_text(re.compile(r"\S"))
        return page

    def _complain(self, words: str) -> None:
        if not any(each in words for each in _OF_LEAVING):
            self.complaints.append(words)

    def ask(self, words: str, page: Page | None = None) -> None:
        """Types a question and sends it."""
        page = page or self.page
        page.locator("#box textarea").fill(words)
        page.locator("#box textarea").press("Enter")

    def sees(self, words: str, page: Page | None = None) -> None:
        """Waits until these words stand in the conversation."""
        expect((page or self.page).locator("#chat")).to_contain_text(words)

    def sees_not(self, words: str) -> None:
        """Waits until these words do not stand in the conversation."""
        expect(self.page.locator("#chat")).not_to_contain_text(words)

    def is_idle(self, page: Page | None = None) -> None:
        """Waits until no answer is on its way."""
        expect((page or self.page).locator("#retry")).to_be_enabled()

    @property
    def steps(self) -> Locator:
        """The accordions of tool calls and of thinking."""
        return self.page.locator("#chat .thought-group")

    @property
    def said(self) -> list[str]:
        """What the model was told last, message by message."""
        return [str(each["content"]) for each in self.model.requests[-1].body["messages"]]

    def check(self) -> None:
        """Nothing left this machine, and the browser had nothing to complain of."""
        own = {urlsplit(self.base).netloc}
        strange = [url for url in self.asked if urlsplit(url).netloc not in {*own, ""}]
        assert not strange, strange
        assert not self.complaints, self.complaints
        assert len(self.asked) > 10
