"""Runs programs that the user allows, without a shell.

Rules:
1. A command is split into words that are passed on unchanged: no pipes, redirections, variables or
   globs.
2. Its first words must be those of an allowed command; the program is the one that was found under
   that name when the tool was made. Many programs write files or run others if their arguments
   say so (`git log --output`, `find -exec`). So a known command (`readonly_commands`) accepts only
   arguments that only read, unless `*` allows all of them: "git log *".
3. Without a person's approval, a command that is not known accepts no arguments beyond the allowed
   words.
4. A command has a clean environment and no input. All that it has started is killed when it ends,
   exceeds a limit on time or output, or the run is cancelled: on Linux every process
   (`process_reaper`), elsewhere its process group.
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
"""Overrides of settings by which a repository could make git run programs."""
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
"""Seconds to wait for a killed command to end."""
_SHELL_OPERATORS = re.compile(r"[|&;<>]+|[0-9]*[<>].*|.*[^\\];")
_ANSI_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class ShellError(ValueError):
    """A command was refused or stopped; the message has its output and the reason."""


class Shell:
    """The tool `run_command`: `Agent(tools=[Shell(["git status", "git log", "ls"])])`.

    allow: the first words of each allowed command; a string separates them by commas. With a
        final `*` a command accepts any arguments, otherwise only those that only read.
    folder: the working directory.
    seconds: the time limit of a command.
    variables: environment variables, which are little more than PATH otherwise.
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
        names = {command.words[0] for command in self._allowed}
        self._programs = {name: _find_program(name) for name in names}
        self._folder = Path(folder).expanduser().resolve()
        self._seconds = seconds
        self._environment = {**_CLEAN_ENVIRONMENT, **(variables or {})}
        description = f"{self.run_command.description} Allowed: {self._list_allowed()}."
        base = tool(description=description, timeout=seconds + 10)(self.run_command)
        run_command: Any = Tool(
            _ShellFunction(self.run, has_approval=True), base.schema, base.options
        )
        self.run_command = run_command

    @tool(requires_approval=True, sequential=True, untrusted=True, timeout=70)
    async def run_command(self, command: str) -> str:
        """Runs one program, without a shell, and returns what it prints and how it ended.

        No pipes, redirections, wildcards or variables.

        Args:
            command: The program and its arguments, for example "git log -n 5".
        """
        return await self.run(command, has_approval=True)

    async def run(self, command: str, *, has_approval: bool) -> str:
        """Run a command as `run_command` does; `has_approval` is whether a person approved it."""
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
        matches = [allowed for allowed in self._allowed if allowed.matches(words)]
        if not matches:
            raise ShellError(f"{command[:200]!r} is not allowed; allowed: {self._list_allowed()}")
        reasons: list[str] = []
        for allowed in matches:
            checked = allowed.check_arguments(words, has_approval=has_approval)
            if not isinstance(checked, _RefusedArguments):
                return checked
            reasons.append(checked)
        raise ShellError(f"{reasons[0]}; allowed: {self._list_allowed()}")

    def _list_allowed(self) -> str:
        return ", ".join(map(str, self._allowed))


class _ApprovalOptions(Protocol):
    @property
    def requires_approval(self) -> bool: ...


class _RunCommand(Protocol):
    async def __call__(self, command: str, *, has_approval: bool) -> str: ...


class _ShellFunction:
    """The function of `run_command`, which knows whether its tool requires approval."""

    def __init__(self, run: _RunCommand, *, has_approval: bool) -> None:
        self._run = run
        self._has_approval = has_approval

    def with_options(self, options: _ApprovalOptions) -> "_ShellFunction":
        """Return the function for a tool with these options."""
        return _ShellFunction(self._run, has_approval=options.requires_approval)

    async def __call__(self, command: str) -> str:
        return await self._run(command, has_approval=self._has_approval)


class _RefusedArguments(str):
    """The reason why the arguments of a command are refused."""


@dataclass(frozen=True, slots=True)
class _AllowedCommand:
    """The first words of an allowed command; `is_open` allows any words after them."""

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
        """Return the words to run, or the reason why they are refused."""
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
    """Split a command into words; a newline outside quotes isn't a separator, as in a shell."""
    lexer = shlex.shlex(command.strip(), posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    return list(lexer)


def _find_program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"there is no program {name!r} to allow")
    return str(Path(path).absolute())


async def _wait_for_end(process: asyncio.subprocess.Process, read_end: int, seconds: float) -> str:
    """Return the output and exit code of a process, and end its process group."""
    output = _OutputBuffer()
    reading = asyncio.ensure_future(output.read(read_end))
    ending = asyncio.ensure_future(process.wait())
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        await asyncio.wait({reading, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and not output.is_over_limit:  # it closed its output and still runs
            remaining = deadline - asyncio.get_running_loop().time()
            await asyncio.wait({ending}, timeout=max(remaining, 0))
        is_late = not ending.done()
    finally:
        _kill_group(process)
        await asyncio.wait({reading, ending}, timeout=_KILL_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        reading.cancel()  # a process of another group may hold the pipe open
        await asyncio.gather(reading, return_exceptions=True)
    if output.is_over_limit:
        raise ShellError(f"{output.format_text()}\n[stopped: it printed over {MAX_PRINTED} bytes]")
    if is_late:
        raise ShellError(f"{output.format_text()}\n[stopped after {seconds:g} seconds]".lstrip())
    return f"{output.format_text()}\n[exit code {process.returncode}]".lstrip()


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """End a command and its descendants; on Linux SIGTERM makes its reaper do that."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM if _REAPER else signal.SIGKILL)


class _OutputBuffer:
    """The beginning and the end of a command's output."""

    def __init__(self) -> None:
        self.is_over_limit = False
        self._size = 0
        self._head = b""
        self._tail = b""

    async def read(self, descriptor: int) -> None:
        """Read a pipe to its end or the limit."""
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
        """Return the output as text, with a note about omitted bytes."""
        omitted = self._size - len(self._head) - len(self._tail)
        note = f"\n[... {omitted} bytes left out ...]\n" if omitted else ""
        parts = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        return remove_invisible(_ANSI_COLOURS.sub("", note.join(parts))).rstrip()
