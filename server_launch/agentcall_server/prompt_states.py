"""The states of llama.cpp after it has read the beginning of a conversation, kept on the disk.

Reading the instructions and tools of an agent takes seconds on a CPU; loading what was computed
takes milliseconds. Source: llama.cpp, tools/server/README.md, `POST /slots/{id_slot}?action=save`
and `action=restore`. A state takes about 28 kB per token for the default model and contains only
the messages that it was made of, never a user's question.

The server has one slot, and no request names it: llama.cpp loads its cache of other prompts into a
named slot even while it generates, and the answer continues another program's conversation.
"""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPResponse as Answer
from pathlib import Path
from typing import cast

MAX_FILES = 8
"""Saved states; the ones used least recently are deleted."""
_TIMEOUT_SECONDS = 600.0


@dataclass(slots=True)
class PromptStates:
    """The saved states of one server, which has the given root URL and API key.

    engine: the model file and the versions that a state is valid for.
    """

    root: str
    key: str = field(repr=False)
    folder: Path
    engine: str
    _ready: set[str] = field(default_factory=set[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, messages: object, report: Callable[[int, int], None]) -> None:
        """Load the state after these messages, or read them and save it.

        Does nothing if this server has done it before. `report` takes the tokens read, and all.
        """
        text = json.dumps([self.engine, messages], ensure_ascii=False)
        name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.state"
        with self._lock:
            if name in self._ready:
                return
            with suppress(OSError, ValueError):
                if not self._restore(name):
                    self._save(name, self._evaluate(messages, report))
                self._ready.add(name)

    def _restore(self, name: str) -> bool:
        file = self.folder / name
        if not file.exists():
            return False
        try:
            if self._post("/slots/0?action=restore", {"filename": name}).get("n_restored"):
                file.touch()
                return True
        except OSError:  # another version's, or damaged
            pass
        file.unlink(missing_ok=True)
        return False

    def _evaluate(self, messages: object, report: Callable[[int, int], None]) -> int:
        """Have the messages read, and return their number of tokens."""
        total = 0
        body = {"messages": messages, "max_tokens": 1, "stream": True, "return_progress": True}
        with self._open("/v1/chat/completions", body) as stream:
            for event in _iterate_events(stream):
                progress = event.get("prompt_progress")
                if isinstance(progress, dict):
                    counts = cast("Mapping[str, int]", progress)
                    total = counts["total"]
                    report(counts["processed"], total)
        return total

    def _save(self, name: str, tokens: int) -> None:
        """Save the state, unless another program's request has used the slot meanwhile."""
        saved = self._post("/slots/0?action=save", {"filename": name}).get("n_saved")
        if not isinstance(saved, int) or not tokens <= saved <= tokens + 1:
            (self.folder / name).unlink(missing_ok=True)
            return
        (self.folder / name).chmod(0o600)
        files = sorted(self.folder.glob("*.state"), key=lambda file: file.stat().st_mtime)
        for old in files[:-MAX_FILES]:
            old.unlink(missing_ok=True)

    def _post(self, path: str, body: Mapping[str, object]) -> Mapping[str, object]:
        with self._open(path, body) as answer:
            return cast("Mapping[str, object]", json.load(answer))

    def _open(self, path: str, body: Mapping[str, object]) -> Answer:
        request = urllib.request.Request(  # noqa: S310  (http on loopback)
            self.root + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return cast("Answer", opener.open(request, timeout=_TIMEOUT_SECONDS))


def _iterate_events(stream: Answer) -> Iterator[Mapping[str, object]]:
    for line in stream:
        if line.startswith(b"data: {"):
            yield cast("Mapping[str, object]", json.loads(line[6:]))
