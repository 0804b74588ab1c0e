"""Allowed programs, run without a shell: real processes."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentcall import Tool, ToolRegistry, tool
from agentcall.execute import call_tool
from agentcall_tools.shell import HEAD, TAIL, Shell, ShellError

PYTHON = shlex.quote(sys.executable)


def python(program: str) -> str:
    return f"{PYTHON} -c {shlex.quote(program)}"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "a.txt").write_text("alpha\n")
    return Shell(["cat", "ls", "echo", "sleep", PYTHON], folder=tmp_path, seconds=20)


async def test_a_program_is_run_and_its_end_is_told(shell: Shell) -> None:
    assert await shell.run_command("cat a.txt") == "alpha\n[exit code 0]"
    assert (await shell.run_command("cat missing")).endswith("\n[exit code 1]")
    assert await shell.run_command(python("")) == "[exit code 0]"


async def test_words_are_passed_as_they_are(shell: Shell) -> None:
    said = await shell.run_command("echo '$HOME' *.txt `id` $(id) 'a  b' \"c|d\"")
    assert said == "$HOME *.txt `id` $(id) a  b c|d\n[exit code 0]"


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /",
        "/bin/cat a.txt",
        "./cat a.txt",
        "cat2 a.txt",
        "env cat a.txt",
        "CAT a.txt",
        "",
        " ",
        "cat\nls",
        "ls\nrm -rf /",
        "PATH=. cat a.txt",
        "sh -c 'cat a.txt'",
    ],
)
async def test_what_is_not_allowed_is_refused_with_what_is(shell: Shell, command: str) -> None:
    with pytest.raises(ShellError, match="is not allowed; allowed: cat, ls, echo, sleep"):
        await shell.run_command(command)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cat a.txt | sh", "'|' is for a shell"),
        ("cat a.txt > b.txt", "'>' is for a shell"),
        ("cat a.txt >b.txt", "'>b.txt' is for a shell"),
        ("cat missing 2>&1", "'2>&1' is for a shell"),
        ("cat a.txt; rm a.txt", "'a.txt;' is for a shell"),
        ("cat a.txt && ls", "'&&' is for a shell"),
        ("sleep 100 &", "'&' is for a shell"),
        ("cat 'a.txt", "cannot be split"),
        ("cat a\0b", "no NUL characters"),
    ],
)
async def test_what_needs_a_shell_is_refused(shell: Shell, command: str, words: str) -> None:
    with pytest.raises(ShellError, match=re.escape(words)):
        await shell.run_command(command)


async def test_the_first_words_of_a_command_may_be_given(tmp_path: Path) -> None:
    shell = Shell("echo hello, ls", folder=tmp_path)
    assert await shell.run_command("echo hello you") == "hello you\n[exit code 0]"
    with pytest.raises(ShellError, match="allowed: echo hello, ls"):
        await shell.run_command("echo bye")
    assert shell.run_command.description.endswith("Allowed: echo hello, ls.")


async def test_the_program_is_the_one_that_was_found_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell("echo", folder=tmp_path)
    for place in (tmp_path / "echo", tmp_path / "bin" / "echo"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("#!/bin/sh\necho fake\n")
        place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert await shell.run_command("echo real") == "real\n[exit code 0]"


def test_a_program_that_is_not_there_is_an_error_of_the_program() -> None:
    with pytest.raises(FileNotFoundError, match="there is no program 'no-such-program'"):
        Shell("no-such-program")


async def test_the_environment_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    shell = Shell(PYTHON, folder=tmp_path, variables={"MINE": "yes"})
    said = await shell.run_command(python("import os; print(dict(os.environ), os.getcwd())"))
    assert "canary" not in said
    assert "'MINE': 'yes'" in said
    assert "'HOME': '/nonexistent'" in said
    assert str(tmp_path) in said


async def test_there_is_no_input_and_no_open_file_of_ours(shell: Shell, tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open() as ours:
        os.set_inheritable(ours.fileno(), True)
        said = await shell.run_command(
            python("import os, sys; print(sys.stdin.read() == '', os.listdir('/dev/fd'))")
        )
    assert said.startswith("True ['0', '1', '2', '3']")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def gone(pids: list[int]) -> bool:
    """Whether the processes end within some seconds."""
    for _ in range(200):
        if not any(map(is_alive, pids)):
            return True
        await asyncio.sleep(0.05)
    return False


FAMILY = (
    "import os, subprocess, sys, time\n"
    "children = [subprocess.Popen(['sleep', '600']) for _ in range(3)]\n"
    "print(os.getpid(), *(child.pid for child in children), flush=True)\n"
)


def pids_of(text: object) -> list[int]:
    return [int(word) for word in str(text).split("\n")[0].split()]


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
async def test_a_command_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    shell = Shell(PYTHON, folder=tmp_path, seconds=4)
    with pytest.raises(ShellError, match=r"\[stopped after 4 seconds\]") as caught:
        await shell.run_command(python(FAMILY + "time.sleep(600)"))
    pids = pids_of(caught.value)
    assert len(pids) == 4
    assert await gone(pids)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
async def test_children_that_outlive_their_command_are_stopped(shell: Shell) -> None:
    started = time.monotonic()
    pids = pids_of(await shell.run_command(python(FAMILY)))
    assert await gone(pids)
    assert time.monotonic() - started < 20


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
async def test_a_child_of_another_group_does_not_hold_the_answer_up(tmp_path: Path) -> None:
    shell = Shell(PYTHON, folder=tmp_path, seconds=600)
    program = "import subprocess; subprocess.Popen(['sleep', '8'], start_new_session=True)"
    assert await asyncio.wait_for(shell.run_command(python(program)), 30) == "[exit code 0]"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
async def test_a_cancelled_run_stops_the_command(shell: Shell, tmp_path: Path) -> None:
    program = FAMILY.replace("flush=True", "flush=True, file=open('pids', 'w')")
    task = asyncio.ensure_future(shell.run_command(python(program + "time.sleep(600)")))
    pids: list[int] = []
    while len(pids) < 4:
        await asyncio.sleep(0.05)
        if (tmp_path / "pids").exists():
            pids = pids_of((tmp_path / "pids").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pids)


async def test_long_output_keeps_its_beginning_and_its_end(shell: Shell) -> None:
    said = await shell.run_command(python("print('a' * 50_000 + 'z' * 50_000)"))
    assert said.startswith("a" * HEAD + f"\n[... {100_001 - HEAD - TAIL} bytes left out ...]\nz")
    assert said.endswith("z\n[exit code 0]")


async def test_output_without_end_is_stopped(shell: Shell) -> None:
    with pytest.raises(ShellError, match="it printed over 10000000 bytes"):
        await shell.run_command(python("while True: print('x' * 100_000)"))


async def test_a_command_that_closes_its_output_is_waited_for(shell: Shell) -> None:
    program = "import os, sys, time; os.close(1); os.close(2); time.sleep(0.5); os._exit(3)"
    assert await shell.run_command(python(program)) == "[exit code 3]"


async def test_colours_and_control_characters_are_left_out(shell: Shell) -> None:
    said = await shell.run_command(python(r"print('\x1b[31mred\x1b[0m\x07 \u202eevil')"))
    assert said == "red evil\n[exit code 0]"


async def test_a_shell_in_a_registry_is_its_one_tool(shell: Shell) -> None:
    registry = ToolRegistry(shell)
    assert registry.names == ("run_command",)
    assert await call_tool(registry, "run_command", '{"command": "echo hi"}') == "hi\n[exit code 0]"


MARKS: list[Callable[[Shell], Tool]] = [
    lambda shell: shell.run_command,
    lambda shell: ToolRegistry(shell)["run_command"],
]


@pytest.mark.parametrize("found", MARKS)
def test_the_tool_is_marked_as_what_it_does(shell: Shell, found: Callable[[Shell], Tool]) -> None:
    marks = found(shell).marks
    assert (marks.requires_approval, marks.sequential, marks.untrusted) == (True,) * 3
    assert (marks.read_only, marks.idempotent, marks.timeout) == (False, False, 30)
    assert not tool(requires_approval=False)(found(shell)).marks.requires_approval
