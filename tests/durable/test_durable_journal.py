"""A journal that is damaged, foreign, newer or full: refused with the place, never begun anew."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcall import Agent, tool
from agentcall.durable import durable
from agentcall.durable.journal import Journal
from agentcall.durable.open import make_opener
from agentcall.errors import JournalDamaged, JournalError, UsageError
from agentcall.testing import ScriptedModel, call, say

RUNS = 8


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of some runs, as a process left it that was killed."""
    path = tmp_path / "runs.db"
    turns = [(call("add", a=n, b=2), call("add", a=n, b=3), say("ok")) for n in range(RUNS)]
    replies = [reply for turn in turns for reply in turn]
    with durable(Agent(ScriptedModel(replies), tools=[add]), f"sqlite:///{path}") as runs:
        for n in range(RUNS):
            runs.run_sync(f"go {n}", run_id=f"run-{n}")
    return path


def content(path: Path) -> list[object]:
    """All that counts in a journal."""
    database = make_opener(f"sqlite:///{path}", make=False)()
    try:
        journal = Journal(database)
        heads = [
            (head.run_id, head.state, head.outcome, head.records) for head in journal.list_runs()
        ]
        return [sorted(heads), [journal.read_records(f"run-{n}") for n in range(RUNS)]]
    finally:
        database.close()


def spoilt(path: Path, data: bytes) -> Path:
    for leftover in path.parent.glob("spoilt*"):
        leftover.unlink()
    other = path.with_name("spoilt.db")
    other.write_bytes(data)
    return other


def refuses(path: Path) -> str:
    with pytest.raises(JournalDamaged) as error:
        content(path)
    return str(error.value)


def places(size: int, stride: int) -> Iterator[int]:
    return iter(range(random.Random(1).randrange(stride), size, stride))


def check_flipped_bytes(path: Path, stride: int) -> int:
    """Flips a bit of every so many bytes; gives how many flips were refused."""
    data, truth, dice, refused = path.read_bytes(), content(path), random.Random(2), 0
    for place in places(len(data), stride):
        flipped = bytearray(data)
        flipped[place] ^= 1 << dice.randrange(8)
        other = spoilt(path, bytes(flipped))
        try:
            assert content(other) == truth, f"byte {place}"  # it held nothing that counts
        except JournalDamaged:
            refused += 1
    return refused


def test_a_flipped_byte_is_refused_unless_it_holds_nothing(path: Path) -> None:
    assert check_flipped_bytes(path, 499) > 20


@pytest.mark.durable
def test_any_flipped_byte_is_refused_unless_it_holds_nothing(path: Path) -> None:
    assert check_flipped_bytes(path, 17) > 500


def check_truncations(path: Path, stride: int) -> None:
    data = path.read_bytes()
    for size in (*places(len(data), stride), 0, 1, 4096, len(data) - 1):
        refuses(spoilt(path, data[:size]))


def test_a_journal_that_was_cut_is_refused(path: Path) -> None:
    check_truncations(path, 1499)


@pytest.mark.durable
def test_a_journal_that_was_cut_anywhere_is_refused(path: Path) -> None:
    check_truncations(path, 61)


def test_a_damaged_record_is_named(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE agentcall_records SET body = replace(body, 'add', 'odd')"
            " WHERE run_id = 'run-3' AND place = 3"
        )
    connection.close()
    assert "record 3 of the run run-3 is not what was written" in refuses(path)
    with durable(Agent(ScriptedModel(), tools=[add]), f"sqlite:///{path}") as runs:
        with pytest.raises(JournalDamaged, match="record 3 of the run run-3"):
            runs.run_sync(run_id="run-3")
        assert runs.run_sync(run_id="run-4").output == "ok"


def test_a_lost_record_is_missed(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM agentcall_records WHERE run_id = 'run-3' AND place > 6")
    connection.close()
    assert "record 7 of the run run-3" in refuses(path)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_text("a letter to a friend\n" * 500)
    assert "is not a journal" in refuses(path)
    assert path.read_text().startswith("a letter")


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE friends (name TEXT)")
    connection.close()
    before = path.read_bytes()
    assert "of another program" in refuses(path)
    assert path.read_bytes() == before


def test_a_newer_format_is_refused_with_its_number(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    assert "has the format 9" in refuses(path)


def test_a_journal_that_is_to_be_read_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no journal at"):
        make_opener(f"sqlite:///{tmp_path}/runs.db", make=False)()
    assert list(tmp_path.iterdir()) == []


FULL = """
import resource, sys
from agentcall import Agent, tool
from agentcall.durable import durable
from agentcall.errors import JournalError
from agentcall.testing import ScriptedModel, call, forever, say

called = []

@tool
def note(text: str) -> str:
    "Note."
    called.append(text[:2])
    return "noted"

big = [call("note", text=str(n) * 3000) for n in range(40)]
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
runs = durable(Agent(ScriptedModel(big), tools=[note]), sys.argv[1])
try:
    runs.run_sync("go", run_id="x")
except JournalError as error:
    print("refused:", error)
begun = len(called)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
from dataclasses import replace
with durable(replace(runs.agent, model=ScriptedModel([say("done")])), sys.argv[1]) as later:
    result = later.run_sync(run_id="x")
counts = (begun, len(called), len(set(called)), len(result.tool_calls), len(result.notes))
print(result.output, *counts)
"""


@pytest.mark.processes
@pytest.mark.parametrize("limit", range(20_000, 60_000, 8_000))
def test_on_a_full_disk_no_tool_starts_whose_start_is_not_recorded(
    tmp_path: Path, limit: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FULL),
         f"sqlite:///{tmp_path}/runs.db", str(limit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, then = done.stdout.splitlines()
    assert "cannot be used" in refused
    output, *counts = then.split()
    begun, called, different, calls, notes = map(int, counts)
    assert output == "done"
    assert begun <= called <= begun + 1  # the last turn may be recorded, and its call not begun
    assert called == different == calls  # nothing was carried out twice, nothing is missing
    assert notes <= 1  # the last result may not have been recorded


def test_a_journal_in_a_folder_that_cannot_be_written_begins_nothing(tmp_path: Path) -> None:
    target = Path("/proc/self")  # even root makes no file here
    with (
        durable(Agent(ScriptedModel([say("hi")])), f"sqlite:///{target}/runs.db") as runs,
        pytest.raises(JournalError, match="cannot be used"),
    ):
        runs.run_sync("hi")
