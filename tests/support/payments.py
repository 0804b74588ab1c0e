"""A durable run that pays a number of times, each payment a line in a file; killed where told.

The model is a server of a few rules (`brain`): it pays 1, 2, ... and, told that the outcome of a
payment is unknown, checks it before it pays again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import psycopg

from agentcall import Agent, Limits, RunContext, ToolRegistry, tool
from agentcall.dialects.answer_parts import TextPart, ToolCallPart
from agentcall.durable import durable
from agentcall.models.http_chat import HTTPChat
from agentcall.models.model import Model, ModelRequest, ResponseEvent
from agentcall.testing import Reply, call, say


def main() -> None:
    """Runs to the end, unless it is killed, and writes down what came of it."""
    errand: Mapping[str, object] = json.loads(sys.argv[1])
    folder = Path(str(errand["folder"]))
    agent = agent_at(str(errand["model"]), folder, errand)
    if errand.get("point") == "result recorded":
        _die_at_record(str(errand["url"]), int(str(errand["step"])))
    with durable(agent, str(errand["url"])) as runs:
        result = runs.run_sync(f"pay {errand['steps']}", run_id="payments")
    if errand.get("point") == "final answer":
        _die()
    (folder / "result.json").write_text(result.to_json())


def agent_at(url: str, folder: Path, errand: Mapping[str, object]) -> Agent:
    """The agent that pays into a file of the folder."""

    def is_here(point: str, n: int) -> bool:
        return errand.get("point") == point and errand.get("step") == n

    def pay(context: RunContext, n: int) -> str:
        """Pay."""
        if is_here("tool entered", n):
            _die()
        with (folder / "ledger").open("a") as ledger:
            ledger.write(f"{n} {context.idempotency_key}\n")
        if is_here("effect done", n):
            _die()
        return f"paid {n}"

    def check(context: RunContext, n: int) -> str:
        """Say whether a payment was made."""
        ledger = folder / "ledger"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        is_made = any(line.startswith(f"{n} {context.run_id}:") for line in lines)
        return f"{n} {'yes' if is_made else 'no'}"

    paying = tool(idempotent=bool(errand.get("idempotent")))(pay)
    model = Mortal(HTTPChat(url, "fake", dialect="native"), errand)
    tools = ToolRegistry(paying, tool(polling=True)(check))
    return Agent(model, tools=tools, limits=Limits(requests=100))


class Mortal:
    """The model; dies with its whole answer in hand, if the errand says so of this one."""

    def __init__(self, model: Model, errand: Mapping[str, object]) -> None:
        self._model = model
        self._step = errand.get("step") if errand.get("point") == "answer received" else None
        self._last = errand.get("steps")

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        async for part in self._model.ask(request):
            match part:
                case ToolCallPart("pay", arguments) if json.loads(arguments)["n"] == self._step:
                    _die()
                case TextPart() if self._step == int(str(self._last or 0)) + 1:
                    _die()
            yield part


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_record(url: str, step: int) -> None:
    """Kills this process as soon as the journal has the result of the payment."""
    query = f"""SELECT count(*) FROM agentcall_records
                WHERE kind = 'end' AND body LIKE '%"paid {step}"%'"""

    def count() -> int:
        if url.startswith("sqlite"):
            with sqlite3.connect(f"file:{url[10:]}?mode=ro", timeout=10, uri=True) as connection:
                return int(connection.execute(query).fetchone()[0])
        with psycopg.connect(url) as found:
            row = found.execute(query).fetchone()
            return int(row[0]) if row else 0

    def watch() -> None:
        while True:
            try:  # as long as the journal is not there, this fails
                if count():
                    _die()
            except (sqlite3.Error, psycopg.Error):
                time.sleep(0.01)
            time.sleep(0.002)

    threading.Thread(target=watch, daemon=True).start()


Chat = Sequence[Mapping[str, object]]


def brain(messages: Chat, tools: Chat) -> Reply:
    """What the model says next: a pure function of the conversation."""
    asked = next(str(m["content"]) for m in messages if m["role"] == "user")
    steps = int(asked.split()[1])
    n, unsure = standing(messages)
    if unsure:
        return call("check", n=n)
    return call("pay", n=n) if n <= steps else say("All is paid.")


def standing(messages: Chat) -> tuple[int, bool]:
    """The payment that is next, and whether it is not known if it was made."""
    n, unsure = 1, False
    for message in messages:
        if message["role"] != "tool":
            continue
        said = str(message["content"])
        unsure = "outcome is unknown" in said
        if re.fullmatch(rf"paid {n}|{n} yes", said):
            n += 1
    return n, unsure


def payments_of(folder: Path) -> Counter[str]:
    """How often each payment was made, by its number and key."""
    return Counter((folder / "ledger").read_text().splitlines())


def result_of(folder: Path) -> dict[str, object]:
    """The result that was written down."""
    found: dict[str, object] = json.loads((folder / "result.json").read_text())
    return found


__all__ = ["Callable", "agent_at", "brain", "main", "payments_of", "result_of", "standing"]
