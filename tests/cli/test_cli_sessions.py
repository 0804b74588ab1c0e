from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import TOOLS, agentcall, asked, model_of

from agentcall import Agent, tool
from agentcall.cli import sessions
from agentcall.cli.options import RunOptions
from agentcall.cli.run import run_agent
from agentcall.errors import UsageError
from agentcall.sessions import SQLiteSession
from agentcall.storage.locks import FileLock
from agentcall.testing import ScriptedModel, call, say


@tool
def look(at: str = "it") -> str:
    """Look."""
    return f"saw {at}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TOOLS)
    return tmp_path


@pytest.fixture
def kept(folder: Path) -> SQLiteSession:
    """A session of the user's own file."""
    session = SQLiteSession("trip", folder / "data" / "agentcall" / "sessions.db")
    agent = Agent(ScriptedModel([call("look", at="Oslo"), say("It is cold.")]), tools=[look])
    agent.run_sync("How is Oslo?", session=session)
    return session


def test_a_session_is_begun_gone_on_with_and_read(folder: Path) -> None:
    with model_of(call("add", a=1, b=2), say("3"), say("I added.")) as server:
        model = ["-m", server.url]
        first = agentcall("run", "1+2?", "--session", "sums", "-t", "mine.py", *model, cwd=folder)
        assert (first.returncode, first.stdout) == (0, "3\n")
        second = agentcall("run", "What did you do?", "-c", *model, cwd=folder)
        assert second.stdout == "I added.\n"
        roles = [message["role"] for message in asked(server)[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    listed = agentcall("sessions", "list", cwd=folder).stdout.split("\t")
    assert (listed[0], listed[2:]) == ("sums", ["6 messages", "1+2?\n"])
    shown = agentcall("sessions", "show", "sums", cwd=folder).stdout
    assert "user: 1+2?" in shown
    assert "  add(a=1, b=2)\n  -> 3" in shown
    assert "assistant: I added." in shown


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (sessions.show_session, sessions.SessionShowOptions("none")),
        (sessions.delete_sessions, sessions.SessionDeleteOptions(["none"])),
        (sessions.compact_session, sessions.SessionCompactOptions("none")),
        (sessions.export_session, sessions.SessionExportOptions("none")),
        (sessions.search_sessions, sessions.SessionSearchOptions("word", "none")),
    ],
)
def test_a_session_that_is_not_there_is_told(
    kept: SQLiteSession, monkeypatch: pytest.MonkeyPatch, command: Any, options: object
) -> None:
    monkeypatch.setenv("AGENTCALL_SESSIONS", str(kept.store.path))
    with pytest.raises(UsageError, match="there is no session 'none'"):
        command(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            RunOptions(prompt="x", last=True),
            "there is no session in .*; start one with --session ID",
        ),
        (RunOptions(prompt="x", last=True, session="a"), "choose one"),
        (RunOptions(prompt="x", session=" "), "session id"),
    ],
)
def test_a_session_that_cannot_be_meant_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: RunOptions, said: str
) -> None:
    monkeypatch.setenv("AGENTCALL_SESSIONS", str(tmp_path / "none.db"))
    with pytest.raises(UsageError, match=said):
        run_agent(options)


def test_a_session_that_is_in_use_is_told(folder: Path, kept: SQLiteSession) -> None:
    held = FileLock.try_acquire(kept._lock_path)
    assert held is not None
    try:
        done = agentcall("run", "x", "-c", "-m", "http://127.0.0.1:9/v1#m", cwd=folder)
    finally:
        held.release()
    assert done.returncode == 1
    assert "is in use by a run of process" in done.stderr
    assert done.stderr.count("\n") == 1


def test_messages_are_searched(folder: Path, kept: SQLiteSession) -> None:
    found = agentcall("sessions", "search", "oslo", cwd=folder)
    assert found.returncode == 0
    assert [line.split("\t")[2] for line in found.stdout.splitlines()].count("user") == 1
    as_json = json.loads(agentcall("sessions", "search", "cold", "--json", cwd=folder).stdout)
    assert [(hit["session"], hit["role"]) for hit in as_json] == [("trip", "assistant")]
    none = agentcall("sessions", "search", "umbrella", cwd=folder)
    assert (none.returncode, none.stdout) == (1, "")


def test_a_session_is_exported_in_the_form_of_the_files_name(
    folder: Path, kept: SQLiteSession
) -> None:
    assert agentcall("sessions", "export", "trip", "-o", "trip.html", cwd=folder).returncode == 0
    page = (folder / "trip.html").read_text()
    assert page.startswith("<!doctype html>")
    assert (folder / "trip.html").stat().st_mode & 0o777 == 0o600
    markdown = agentcall("sessions", "export", "trip", cwd=folder).stdout
    assert markdown.startswith("# trip\n")
    wire = json.loads(agentcall("sessions", "export", "trip", "-f", "json", cwd=folder).stdout)
    assert [m["role"] for m in wire["runs"][0]["messages"]] == [
        "user", "assistant", "tool", "assistant"
    ]  # fmt: skip
    wrong = agentcall("sessions", "export", "trip", "-f", "pdf", cwd=folder)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: --format pdf is not one of md, json, html\n",
    )


def test_a_session_is_compacted_and_deleted(folder: Path, kept: SQLiteSession) -> None:
    done = agentcall("sessions", "compact", "trip", "--keep", "1", cwd=folder)
    assert done.stdout == "trip: 4 messages -> 2\n"
    shown = agentcall("sessions", "show", "trip", cwd=folder).stdout
    assert "compacted: the next run gets" in shown
    assert "user: How is Oslo?" in shown
    with model_of(say("Oslo is cold.")) as server:
        done = agentcall(
            "sessions", "compact", "trip", "--keep", "0", "--summary", "-m", server.url, cwd=folder
        )
    assert done.stdout == "trip: 2 messages -> 2\n"
    assert "Oslo is cold." in agentcall("sessions", "show", "trip", cwd=folder).stdout
    wrong = agentcall("sessions", "compact", "trip", "-m", "embedded", cwd=folder)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: -m is the model that writes the summary; add --summary\n",
    )
    assert (
        agentcall("sessions", "delete", "trip", cwd=folder).stdout == "deleted trip (4 messages)\n"
    )
    assert agentcall("sessions", "list", "--json", cwd=folder).stdout == "[]\n"


def test_a_foreign_file_is_refused_on_one_line(folder: Path) -> None:
    (folder / "x.db").write_bytes(b"no database" * 100)
    done = agentcall("sessions", "list", cwd=folder, env={"AGENTCALL_SESSIONS": "x.db"})
    assert done.returncode == 1
    assert "is not a session file" in done.stderr
    assert done.stderr.count("\n") == 1
