"""Runs programs that the user allows, without a shell.

Rules:
1. A command is split into words and run as they are: no pipes, redirections, variables or globs.
2. Its first words are those of an allowed command; the program is the one that was found under
   that name when the tool was made. Many programs write files or run others where their arguments
   say so (`git log --output`, `find -exec`). So of a command that is known (`reading`), only the
   arguments that only read are taken; all others only where `*` allows them: "git log *".
3. A tool that asks nobody takes nothing else: of a command that is not known, just the words that
   are allowed.
4. It gets a clean environment and no input. Whatever it has started is killed when it ends, runs
   out of time, prints too much or the run is cancelled: on Linux every process (`keeper`),
   elsewhere those of its process group.
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agentcall import Tool, tool
from agentcall_tools import process_reaper
from agentcall_tools.readonly_commands import find_command
from agentcall_tools.visible_text import remove_invisible

HEAD_BYTES, TAIL_BYTES = 15_000, 5_000
MAX_PRINTED = 10_000_000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GIT_SETTINGS = (("core.fsmonitor", "false"), ("log.showSignature", "false"), ("core.pager", "cat"))
"""What would run programs that a repository names itself."""
_CLEAN_ENVIRONMENT = {
    "PATH": _PATH,
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_COUNT": str(len(_GIT_SETTINGS)),
    **{f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in enumerate(_GIT_SETTINGS)},
    **{f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(_GIT_SETTINGS)},
}
_REAPER = (sys.executable, "-I", "-S", process_reaper.__file__) if sys.platform == "linux" else ()
_KILL_SECONDS = 3.0
"""Seconds until a command is left that does not end when it is killed."""
_SHELL_OPERATORS = re.compile(r"[|&;<>]+|[0-9]*[<>].*|.*[^\\];")
_ANSI_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class ShellError(ValueError):
    """A command that was not run, or was stopped; the text says why, after what it printed."""


class Shell:
    """The tool `run_command`: `Agent(tools=[Shell(["git status", "git log", "ls"])])`.

    allow: the commands, each the first words of what may be run; a text has commas between them.
        With `*` behind them they take any arguments, else those that only read.
    folder: where they run.
    seconds: until a command is stopped.
    variables: for the environment, which has little more than PATH otherwise.
    """

    def __init__(
        self,
        allow: str | Sequence[str],
        *,
        folder: str | Path = ".",
        seconds: float = 60.0,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if not hasattr(os, "killpg"):
            raise OSError("run_command needs process groups, which this system does not have")
        texts = allow.split(",") if isinstance(allow, str) else allow
        self._allowed = [_AllowedCommand.parse(text) for text in texts if text.strip()]
        self._programs = {each.words[0]: _find_program(each.words[0]) for each in self._allowed}
        self._folder = Path(folder).expanduser().resolve()
        self._seconds = seconds
        self._environment = {**_CLEAN_ENVIRONMENT, **(variables or {})}
        known = f"{self.run_command.description} Allowed: {self._list_allowed()}."
        made = tool(description=known, timeout=seconds + 10)(self.run_command)
        command: Any = Tool(_ShellFunction(self.run, has_approval=True), made.schema, made.options)
        self.run_command = command

    @tool(requires_approval=True, sequential=True, untrusted=True, timeout=70)
    async def run_command(self, command: str) -> str:
        """Runs one program, without a shell, and returns what it prints and how it ended.

        No pipes, redirections, wildcards or variables.

        Args:
            command: The program and its arguments, for example "git log -n 5".
        """
        return await self.run(command, has_approval=True)

    async def run(self, command: str, *, has_approval: bool) -> str:
        """As `run_command`; `asks` says that a person sees each command. Raises ShellError."""
        words = self._check_command(command, has_approval=has_approval)
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._build_command(words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            os.close(read_end)
            raise ShellError(f"{words[0]} cannot be run: {error.strerror}") from None
        finally:
            os.close(write_end)
        return await _wait_for_end(process, read_end, self._seconds)

    def _build_command(self, words: Sequence[str]) -> Sequence[str]:
        program = self._programs[words[0]]
        return (*_REAPER, program, *words) if _REAPER else (program, *words[1:])

    def _check_command(self, command: str, *, has_approval: bool) -> Sequence[str]:
        if "\0" in command:
            raise ShellError("a command has no NUL characters")
        try:
            words = _split_command(command)
        except ValueError as error:
            raise ShellError(f"{command[:200]!r} cannot be split into words: {error}") from None
        operator = next((word for word in words if _SHELL_OPERATORS.fullmatch(word)), None)
        if operator is not None:
            raise ShellError(
                f"{operator[:80]!r} is for a shell, and there is none: give one program and its "
                "arguments, and read what it prints"
            )
        fitting = [each for each in self._allowed if each.matches(words)]
        if not fitting:
            raise ShellError(f"{command[:200]!r} is not allowed; allowed: {self._list_allowed()}")
        found = [each.check_arguments(words, has_approval=has_approval) for each in fitting]
        taken = next((each for each in found if not isinstance(each, _RefusedArguments)), None)
        if taken is None:
            refused = next(str(each) for each in found if isinstance(each, _RefusedArguments))
            raise ShellError(f"{refused}; allowed: {self._list_allowed()}")
        return taken

    def _list_allowed(self) -> str:
        return ", ".join(map(str, self._allowed))


class _ApprovalOptions(Protocol):
    @property
    def requires_approval(self) -> bool: ...


class _RunCommand(Protocol):
    async def __call__(self, command: str, *, has_approval: bool) -> str: ...


class _ShellFunction:
    """What `run_command` calls, for a tool that asks a person or one that does not."""

    def __init__(self, run: _RunCommand, *, has_approval: bool) -> None:
        self._run = run
        self._has_approval = has_approval

    def with_options(self, options: _ApprovalOptions) -> "_ShellFunction":
        """Return the function for a tool with these options."""
        return _ShellFunction(self._run, has_approval=options.requires_approval)

    async def __call__(self, command: str) -> str:
        return await self._run(command, has_approval=self._has_approval)


class _RefusedArguments(str):
    """Why the arguments of a command are not taken."""


@dataclass(frozen=True, slots=True)
class _AllowedCommand:
    """The first words of what may be run; `is_open` says that any may follow."""

    words: tuple[str, ...]
    is_open: bool

    @classmethod
    def parse(cls, text: str) -> "_AllowedCommand":
        words = tuple(shlex.split(text))
        is_open = len(words) > 1 and words[-1] == "*"
        return cls(words[:-1] if is_open else words, is_open)

    def matches(self, words: Sequence[str]) -> bool:
        return tuple(words[: len(self.words)]) == self.words

    def check_arguments(
        self, words: Sequence[str], *, has_approval: bool
    ) -> Sequence[str] | _RefusedArguments:
        """The command as it is run, or why it is not."""
        size = len(self.words)
        known = find_command(words)
        if self.is_open or (len(words) == size and not known):
            return words
        if known is None or (known[0] > size and has_approval):
            if has_approval:
                return words
            return _RefusedArguments(
                f"of {self} nothing but these words is run without a person's approval"
            )
        count, reader = known
        refused = reader.find_refused(words[max(count, size) :])
        if refused is not None:
            return _RefusedArguments(
                f"{refused[:80]!r} is not known as an argument of {self} that only reads"
            )
        return (*words[:count], *reader.added_arguments, *words[count:])

    def __str__(self) -> str:
        return shlex.join(self.words) + " *" * self.is_open


def _split_command(command: str) -> list[str]:
    """The words of a command; an end of line outside quotes is no space, as it would end one."""
    lexer = shlex.shlex(command.strip(), posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    return list(lexer)


def _find_program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"there is no program {name!r} to allow")
    return str(Path(found).absolute())


async def _wait_for_end(process: asyncio.subprocess.Process, read_end: int, seconds: float) -> str:
    """What the process printed and how it ended; its group is gone afterwards."""
    printed = _OutputBuffer()
    reading = asyncio.ensure_future(printed.read(read_end))
    ending = asyncio.ensure_future(process.wait())
    until = asyncio.get_running_loop().time() + seconds
    try:
        await asyncio.wait({reading, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and not printed.is_over_limit:  # it closed its output and goes on
            left = until - asyncio.get_running_loop().time()
            await asyncio.wait({ending}, timeout=max(left, 0))
        stopped = not ending.done()
    finally:
        _kill_group(process)
        await asyncio.wait({reading, ending}, timeout=_KILL_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        reading.cancel()  # where a process of another group holds the pipe
        await asyncio.gather(reading, return_exceptions=True)
    if printed.is_over_limit:
        raise ShellError(f"{printed.format_text()}\n[stopped: it printed over {MAX_PRINTED} bytes]")
    if stopped:
        raise ShellError(f"{printed.format_text()}\n[stopped after {seconds:g} seconds]".lstrip())
    return f"{printed.format_text()}\n[exit code {process.returncode}]".lstrip()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Ends a command with all that it has started; on Linux its keeper does, when it is told to."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM if _REAPER else signal.SIGKILL)


class _OutputBuffer:
    """The beginning and the end of what is printed."""

    def __init__(self) -> None:
        self.is_over_limit = False
        self._size = 0
        self._head = b""
        self._tail = b""

    async def read(self, descriptor: int) -> None:
        """Reads a pipe to its end, or until it is too much."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
        )
        try:
            while not self.is_over_limit and (chunk := await reader.read(65_536)):
                self._size += len(chunk)
                room = HEAD_BYTES - len(self._head)
                self._head += chunk[:room]
                self._tail = (self._tail + chunk[room:])[-TAIL_BYTES:] if room < len(chunk) else b""
                self.is_over_limit = self._size > MAX_PRINTED
        finally:
            transport.close()

    def format_text(self) -> str:
        """What was printed, with a note on what was left out."""
        left_out = self._size - len(self._head) - len(self._tail)
        note = f"\n[... {left_out} bytes left out ...]\n" if left_out else ""
        parts = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        return remove_invisible(_ANSI_COLOURS.sub("", note.join(parts))).rstrip()
