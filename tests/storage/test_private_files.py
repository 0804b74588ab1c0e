"""Whatever holds a conversation is for its owner alone, under any umask."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from command_line import SCRIPT, environment, kept_in

from agentcall import Agent
from agentcall.durable import DurableAgent
from agentcall.errors import JournalError, SessionError
from agentcall.sessions import SQLiteSession
from agentcall.storage.private_files import make_folder, open_private, tighten
from agentcall.testing import FakeServer, ScriptedModel, forever, say
from agentcall.tracing import write_trace

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")

UMASKS = [0o000, 0o022, 0o077, 0o777]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def wide(folder: Path) -> dict[str, str]:
    """What in a folder others may read."""
    return {
        str(path.relative_to(folder)): oct(mode(path))
        for path in folder.rglob("*")
        if mode(path) & 0o077
    }


@pytest.mark.parametrize("mask", UMASKS)
def test_a_journal_is_for_its_owner_alone(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "runs.db"
    with (
        umask(mask),
        DurableAgent(Agent(ScriptedModel([say("ok")])), f"sqlite:///{path}") as durable,
    ):
        durable.run_sync("secret")
        assert mode(path) == 0o600
        assert not wide(tmp_path)


def test_a_journal_that_others_may_read_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    for _ in range(2):
        with DurableAgent(Agent(ScriptedModel([say("ok")])), f"sqlite:///{path}") as durable:
            durable.run_sync("secret")
        assert not wide(tmp_path)
        for each in tmp_path.iterdir():
            each.chmod(0o644)


@pytest.mark.parametrize("mask", UMASKS)
def test_a_session_and_its_folders_are_for_their_owner_alone(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "a" / "b" / "sessions.db"
    with umask(mask):
        agent = Agent(ScriptedModel([say("ok")]))
        agent.run_sync("secret", session=SQLiteSession("s", path))
        held = sqlite3.connect(path)
        held.execute("SELECT * FROM sessions").fetchall()
    assert not wide(tmp_path)
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    assert mode(path) == 0o600
    held.close()


def test_a_session_file_that_others_may_read_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    session = SQLiteSession("s", path)
    Agent(ScriptedModel([say("ok")])).run_sync("secret", session=session)
    path.chmod(0o664)
    assert session.messages
    assert mode(path) == 0o600


@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_a_trace_is_for_its_owner_alone_also_where_the_file_was_there(
    tmp_path: Path, mask: int
) -> None:
    path = tmp_path / "trace.jsonl"
    path.touch(0o644)
    with umask(mask), write_trace(path, content=True):
        Agent(ScriptedModel([say("ok")])).run_sync("secret")
    with umask(mask), write_trace(tmp_path / "other.jsonl", content=True):
        Agent(ScriptedModel([say("ok")])).run_sync("secret")
    assert not wide(tmp_path)


@pytest.mark.processes
def test_the_command_line_leaves_nothing_that_others_may_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(0o700)
    (home / "tasks.jsonl").write_text('{"id": "1", "prompt": "secret"}\n')
    (home / "tasks.jsonl").chmod(0o600)
    (home / "old.md").touch(0o644)
    with FakeServer([forever(say("ok"))]) as model:
        for words in (
            ("run", "-m", model.url, "--durable", "secret"),
            ("run", "-m", model.url, "--session", "s", "--trace", "trace.jsonl", "secret"),
            ("batch", "tasks.jsonl", "-o", "out.jsonl", "-m", model.url),
            ("sessions", "export", "s", "-o", "old.md"),
            ("sessions", "export", "s", "-o", "new.html"),
        ):
            done = subprocess.run(
                [SCRIPT, *words],
                cwd=home,
                env=environment(**kept_in(home)),
                umask=0o022,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    assert (home / "state" / "agentcall" / "runs.db").exists()
    assert (home / "out.jsonl").exists()
    assert not wide(home)


def test_what_is_no_file_of_ours_is_left_as_it_is(tmp_path: Path) -> None:
    os.close(open_private("/dev/null", os.O_WRONLY))
    tighten(Path("/dev/null"), tmp_path / "missing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert mode(Path("/dev/null")) & 0o077
    make_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"root:x:0:0", b"SQLite format 3\0", b"x" * 5000])
def test_a_file_of_another_program_keeps_its_mode_and_content(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "passwd"
    file.write_bytes(content)
    file.chmod(0o644)
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    other.chmod(0o644)
    for path in (file, other):
        before = path.read_bytes()
        with pytest.raises(SessionError):
            SQLiteSession("trip", path).messages
        with pytest.raises(JournalError):
            DurableAgent(Agent(ScriptedModel([say("hi")])), f"sqlite:///{path}").run_sync("?")
        assert (mode(path), path.read_bytes()) == (0o644, before)


def test_a_folder_that_is_given_in_place_of_a_file_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    tighten(folder)
    with (
        pytest.raises(JournalError),
        DurableAgent(Agent(ScriptedModel([say("ok")])), f"sqlite:///{folder}") as durable,
    ):
        durable.run_sync("secret")
    with pytest.raises(SessionError):
        Agent(ScriptedModel([say("ok")])).run_sync("x", session=SQLiteSession("a", folder))
    assert mode(folder) == 0o755


def test_a_folder_is_made_by_many_at_once(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "c"
    make = (
        "from pathlib import Path; from agentcall.storage.private_files import make_folder; "
        f"make_folder(Path({str(place)!r}))"
    )
    running = [subprocess.Popen([sys.executable, "-c", make]) for _ in range(4)]
    assert [each.wait(60) for each in running] == [0] * 4
    assert mode(place) == 0o700
