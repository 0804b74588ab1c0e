"""Allowed programs, run without a shell: real processes."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rows import each_row

from agentcall import Agent, Tool, ToolRegistry, tool
from agentcall.runtime.executor import call_tool
from agentcall.testing import ScriptedModel, call, say
from agentcall_tools.shell import HEAD_BYTES, TAIL_BYTES, Shell, ShellError

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


@each_row(
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


@each_row(
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
    shell = Shell(PYTHON, folder=tmp_path, seconds=1.5)
    with pytest.raises(ShellError, match=r"\[stopped after 1\.5 seconds\]") as caught:
        await shell.run_command(python(FAMILY + "time.sleep(600)"))
    pids = pids_of(caught.value)
    assert len(pids) == 4
    assert await gone(pids)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
async def test_children_that_outlive_their_command_are_stopped(shell: Shell) -> None:
    pids = pids_of(await asyncio.wait_for(shell.run_command(python(FAMILY)), 60))
    assert await gone(pids)


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
    assert said.startswith(
        "a" * HEAD_BYTES + f"\n[... {100_001 - HEAD_BYTES - TAIL_BYTES} bytes left out ...]\nz"
    )
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
    marks = found(shell).options
    assert (marks.requires_approval, marks.sequential, marks.untrusted) == (True,) * 3
    assert (marks.read_only, marks.idempotent, marks.timeout) == (False, False, 30)
    assert not tool(requires_approval=False)(found(shell)).options.requires_approval


def unasked(folder: Path, *allow: str) -> Tool:
    return tool(requires_approval=False)(Shell([*allow], folder=folder, seconds=20).run_command)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose own configuration names programs to run."""
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / ".gitattributes").write_text("*.txt diff=evil\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, capture_output=True)
    evil = f"touch {tmp_path}/ran;"
    for key in ("diff.external", "diff.evil.textconv", "core.fsmonitor", "core.pager",
                "diff.evil.command", "gpg.program", "pager.log"):  # fmt: skip
        subprocess.run(["git", "config", key, evil], cwd=tmp_path, check=True)
    subprocess.run(["git", "config", "log.showSignature", "true"], cwd=tmp_path, check=True)
    (tmp_path / "a.txt").write_text("two\n")
    return tmp_path


READING = (
    "ls", "cat", "git", "find", "sort", "uniq", "grep", "diff", "date", "head", "wc", "echo",
)  # fmt: skip


@each_row(
    "command",
    [
        "ls -la docs",
        "ls --color=never",
        "cat a.txt",
        "git log --oneline -5",
        "git log -p -- a.txt",
        "git log -1 --format=%H --stat",
        "git log --since=2020-01-01 --author=A -S one",
        "git show HEAD",
        "git show --stat HEAD",
        "git diff",
        "git diff HEAD -- a.txt",
        "git status --short",
        "git blame a.txt",
        "git branch -a",
        "git tag -l",
        "git remote -v",
        "git ls-files",
        "git grep -n two",
        "git stash list",
        "git rev-parse --abbrev-ref HEAD",
        "find . -name '*.txt' -type f -maxdepth 2",
        "sort -rn a.txt",
        "uniq -c a.txt",
        "grep -rn one .",
        "diff -u a.txt a.txt",
        "date +%Y-%m-%d",
        "head -n 5 a.txt",
        "wc -l a.txt",
        "echo hello",
    ],
)
async def test_what_only_reads_is_run_without_asking(repository: Path, command: str) -> None:
    (repository / "docs").mkdir(exist_ok=True)
    before = sorted(repository.rglob("*"))
    said = await unasked(repository, *READING)(command)
    assert said.endswith("[exit code 0]"), said
    assert sorted(repository.rglob("*")) == before


@each_row(
    "command",
    [
        "git log -1 --format=x --output=made",
        "git log --output made",
        "git log --outpu=made",
        "git log -1 --ext-diff -p",
        "git log --textconv -p",
        "git log --show-signature",
        "git log --format=%G?",
        "git log '--pretty=format:%h %G? %s'",
        "git diff --output=made",
        "git diff -Omade",
        "git show --output=made HEAD",
        "git diff --no-index a.txt /etc/passwd",
        "git grep -Otouch one",
        "git grep --open-files-in-pager=touch one",
        "git -c core.pager=touch log",
        "git -C / log",
        "git --git-dir=/tmp log",
        "git --exec-path=/tmp log",
        "git -p log",
        "git --paginate log",
        "git branch made",
        "git branch -D master",
        "git branch --edit-description",
        "git tag made",
        "git remote add made http://x",
        "git config core.pager touch",
        "git commit -m made",
        "git fetch --upload-pack=touch .",
        "git clone ext::touch made",
        "git archive -o made HEAD",
        "git bisect run touch made",
        "git rebase --exec touch",
        "git help log",
        "git difftool -x touch",
        "git ls-remote --upload-pack=touch .",
        "git cat-file --textconv HEAD:a.txt",
        "git stash",
        "find . -exec touch made ;",
        "find . -execdir touch made +",
        "find . -ok touch made +",
        "find . -delete",
        "find . -fprint made",
        "find . -fprintf made x",
        "find . -fprint0 made",
        "find . -fls made",
        "find -- -delete",
        "sort -o made a.txt",
        "sort -omade a.txt",
        "sort -ro made a.txt",
        "sort --output=made a.txt",
        "sort --out=made a.txt",
        "sort --compress-program=touch a.txt",
        "sort a.txt -o made",
        "uniq a.txt made",
        "diff -l a.txt a.txt",
        "diff --paginate a.txt a.txt",
        "date -s 2020-01-01",
        "date --set=2020-01-01",
        "date 010100002020",
    ],
)
async def test_arguments_that_write_or_run_are_refused_without_asking(
    repository: Path, command: str
) -> None:
    before = sorted(repository.rglob("*"))
    with pytest.raises(ShellError, match=r"only reads|without a person's approval|is for a shell"):
        await unasked(repository, *READING)(command)
    assert sorted(repository.rglob("*")) == before


@pytest.mark.parametrize(
    ("allow", "command"),
    [
        ("python3", "python3 -c 'print(1)'"),
        ("awk", "awk 'BEGIN {system(\"touch made\")}'"),
        ("sed", "sed -i s/a/b/ a.txt"),
        ("sed", "sed -n 'w made' a.txt"),
        ("tar", "tar cf made a.txt --checkpoint=1 --checkpoint-action=exec=id"),
        ("tar tf", "tar tf a.tar --to-command=id"),
        ("xargs", "xargs touch made"),
        ("env", "env touch made"),
        ("make", "make --eval=x:;touch made"),
        ("ssh", "ssh -oProxyCommand=touch x"),
        ("rsync", "rsync -e touch a b:"),
        ("curl", "curl -o made http://127.0.0.1:1"),
        ("tee", "tee made"),
        ("cp", "cp a.txt made"),
        ("nice", "nice touch made"),
        ("timeout", "timeout 5 touch made"),
        ("perl", "perl -e 'print 1'"),
        ("bash", "bash -c 'touch made'"),
        ("split", "split a.txt made"),
        ("dd", "dd if=a.txt of=made"),
        ("git commit", "git commit --amend -m x"),
    ],
)
async def test_of_a_command_that_is_not_known_nothing_but_its_words_is_run(
    tmp_path: Path, allow: str, command: str
) -> None:
    if not shutil.which(allow.split()[0]):
        pytest.skip("it is not installed")
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(ShellError, match="nothing but these words"):
        await unasked(tmp_path, allow)(command)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


async def test_an_exact_command_is_run_without_asking_and_a_star_allows_any(tmp_path: Path) -> None:
    exact, any_of = unasked(tmp_path, "mkdir made"), unasked(tmp_path, "mkdir *")
    assert await exact("mkdir made") == "[exit code 0]"
    with pytest.raises(ShellError, match="of mkdir made nothing but these words"):
        await exact("mkdir made more")
    assert await any_of("mkdir -p deep/er") == "[exit code 0]"
    assert (tmp_path / "deep" / "er").is_dir()
    listed = unasked(tmp_path, "sort -o sorted")
    (tmp_path / "a").write_text("b\na\n")
    assert await listed("sort -o sorted a") == "[exit code 0]"


async def test_a_command_of_which_a_person_sees_each_is_free_but_for_those_that_read(
    repository: Path,
) -> None:
    asks = Shell(["git", "git log", "mkdir", "find"], folder=repository)
    assert await asks.run_command("mkdir -p a/b") == "[exit code 0]"
    assert await asks.run_command("git -c core.pager=cat log --output=there") == "[exit code 0]"
    for command in ("git log --output=made", "find . -delete"):
        with pytest.raises(ShellError, match="only reads"):
            await Shell(["git log", "find"], folder=repository).run_command(command)
    open_to_all = Shell(["git log *"], folder=repository)
    assert await open_to_all.run_command("git log -1 --output=made") == "[exit code 0]"
    assert (repository / "made").exists()


def test_an_agent_writes_no_file_by_an_unasked_command(repository: Path) -> None:
    """A page may say which command to run; the one of the documentation."""
    script = [call("run_command", command="git log -1 --format=x --output=made"), say("no")]
    result = Agent(ScriptedModel(script), tools=[unasked(repository, "ls", "git log")]).run_sync(
        "?"
    )
    assert "'--output=made' is not known" in result.tool_calls[0][1].text  # type: ignore[union-attr]
    assert not (repository / "made").exists()


DAEMON = (
    "import os, subprocess, sys, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        for fd in range(3): os.close(fd)\n"
    "        os.execve('/bin/sleep', ['sleep', '600'], {})\n"
    "    os._exit(0)\n"
    "os.wait()\n"
    "own = subprocess.Popen(['sleep', '600'], start_new_session=True, env={})\n"
    "print(own.pid, flush=True)\n"
)


def sleepers() -> set[int]:
    found = subprocess.run(["pgrep", "-f", "^sleep 600"], capture_output=True, text=True)
    return set(map(int, found.stdout.split()))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone lets a process adopt others")
@pytest.mark.parametrize("end", ["", "time.sleep(600)"])
async def test_processes_of_sessions_of_their_own_are_stopped_too(tmp_path: Path, end: str) -> None:
    before = sleepers()
    shell = Shell([f"{PYTHON} *"], folder=tmp_path, seconds=3)
    with suppress(ShellError):
        await shell.run_command(python(DAEMON + end))
    for _ in range(100):
        if not sleepers() - before:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{sleepers() - before} go on")
