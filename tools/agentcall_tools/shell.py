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
from agentcall_tools import keeper
from agentcall_tools.reading import reader_of
from agentcall_tools.visible import visible

HEAD, TAIL = 15_000, 5_000
MOST_PRINTED = 10_000_000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GIT = (("core.fsmonitor", "false"), ("log.showSignature", "false"), ("core.pager", "cat"))
"""What would run programs that a repository names itself."""
_CLEAN = {
    "PATH": _PATH,
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_COUNT": str(len(_GIT)),
    **{f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in enumerate(_GIT)},
    **{f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in enumerate(_GIT)},
}
_KEEPER = (sys.executable, "-I", "-S", keeper.__file__) if sys.platform == "linux" else ()
_ENDING = 3.0
"""Seconds until a command is left that does not end when it is killed."""
_OPERATORS = re.compile(r"[|&;<>]+|[0-9]*[<>].*|.*[^\\];")
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


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
        self._allowed = [_Allowed.of(text) for text in texts if text.strip()]
        self._programs = {each.words[0]: _program(each.words[0]) for each in self._allowed}
        self._folder = Path(folder).expanduser().resolve()
        self._seconds = seconds
        self._environment = {**_CLEAN, **(variables or {})}
        known = f"{self.run_command.description} Allowed: {self._known()}."
        made = tool(description=known, timeout=seconds + 10)(self.run_command)
        command: Any = Tool(_Command(self.run, asks=True), made.schema, made.marks)
        self.run_command = command

    @tool(requires_approval=True, sequential=True, untrusted=True, timeout=70)
    async def run_command(self, command: str) -> str:
        """Runs one program, without a shell, and returns what it prints and how it ended.

        No pipes, redirections, wildcards or variables.

        Args:
            command: The program and its arguments, for example "git log -n 5".
        """
        return await self.run(command, asks=True)

    async def run(self, command: str, *, asks: bool) -> str:
        """As `run_command`; `asks` says that a person sees each command. Raises ShellError."""
        words = self._words(command, asks=asks)
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(words),
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
        return await _ended(process, read_end, self._seconds)

    def _command(self, words: Sequence[str]) -> Sequence[str]:
        program = self._programs[words[0]]
        return (*_KEEPER, program, *words) if _KEEPER else (program, *words[1:])

    def _words(self, command: str, *, asks: bool) -> Sequence[str]:
        if "\0" in command:
            raise ShellError("a command has no NUL characters")
        try:
            words = _split(command)
        except ValueError as error:
            raise ShellError(f"{command[:200]!r} cannot be split into words: {error}") from None
        operator = next((word for word in words if _OPERATORS.fullmatch(word)), None)
        if operator is not None:
            raise ShellError(
                f"{operator[:80]!r} is for a shell, and there is none: give one program and its "
                "arguments, and read what it prints"
            )
        fitting = [each for each in self._allowed if each.begins(words)]
        if not fitting:
            raise ShellError(f"{command[:200]!r} is not allowed; allowed: {self._known()}")
        found = [each.taken(words, asks=asks) for each in fitting]
        taken = next((each for each in found if not isinstance(each, _Refused)), None)
        if taken is None:
            refused = next(str(each) for each in found if isinstance(each, _Refused))
            raise ShellError(f"{refused}; allowed: {self._known()}")
        return taken

    def _known(self) -> str:
        return ", ".join(map(str, self._allowed))


class _Marks(Protocol):
    @property
    def requires_approval(self) -> bool: ...


class _Run(Protocol):
    async def __call__(self, command: str, *, asks: bool) -> str: ...


class _Command:
    """What `run_command` calls, for a tool that asks a person or one that does not."""

    def __init__(self, run: _Run, *, asks: bool) -> None:
        self._run = run
        self._asks = asks

    def marked(self, marks: _Marks) -> "_Command":
        """The function for a tool of these marks."""
        return _Command(self._run, asks=marks.requires_approval)

    async def __call__(self, command: str) -> str:
        return await self._run(command, asks=self._asks)


class _Refused(str):
    """Why the arguments of a command are not taken."""


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The first words of what may be run; `is_open` says that any may follow."""

    words: tuple[str, ...]
    is_open: bool

    @classmethod
    def of(cls, text: str) -> "_Allowed":
        words = tuple(shlex.split(text))
        is_open = len(words) > 1 and words[-1] == "*"
        return cls(words[:-1] if is_open else words, is_open)

    def begins(self, words: Sequence[str]) -> bool:
        return tuple(words[: len(self.words)]) == self.words

    def taken(self, words: Sequence[str], *, asks: bool) -> Sequence[str] | _Refused:
        """The command as it is run, or why it is not."""
        size = len(self.words)
        known = reader_of(words)
        if self.is_open or (len(words) == size and not known):
            return words
        if known is None or (known[0] > size and asks):
            if asks:
                return words
            return _Refused(f"of {self} nothing but these words is run without a person's approval")
        count, reader = known
        refused = reader.refused(words[max(count, size) :])
        if refused is not None:
            return _Refused(
                f"{refused[:80]!r} is not known as an argument of {self} that only reads"
            )
        return (*words[:count], *reader.adds, *words[count:])

    def __str__(self) -> str:
        return shlex.join(self.words) + " *" * self.is_open


def _split(command: str) -> list[str]:
    """The words of a command; an end of line outside quotes is no space, as it would end one."""
    lexer = shlex.shlex(command.strip(), posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    return list(lexer)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"there is no program {name!r} to allow")
    return str(Path(found).absolute())


async def _ended(process: asyncio.subprocess.Process, read_end: int, seconds: float) -> str:
    """What the process printed and how it ended; its group is gone afterwards."""
    printed = _Printed()
    reading = asyncio.ensure_future(printed.read(read_end))
    ending = asyncio.ensure_future(process.wait())
    until = asyncio.get_running_loop().time() + seconds
    try:
        await asyncio.wait({reading, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and not printed.is_too_much:  # it closed its output and goes on
            left = until - asyncio.get_running_loop().time()
            await asyncio.wait({ending}, timeout=max(left, 0))
        stopped = not ending.done()
    finally:
        _end(process)
        await asyncio.wait({reading, ending}, timeout=_ENDING)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        reading.cancel()  # where a process of another group holds the pipe
        await asyncio.gather(reading, return_exceptions=True)
    if printed.is_too_much:
        raise ShellError(f"{printed.text()}\n[stopped: it printed over {MOST_PRINTED} bytes]")
    if stopped:
        raise ShellError(f"{printed.text()}\n[stopped after {seconds:g} seconds]".lstrip())
    return f"{printed.text()}\n[exit code {process.returncode}]".lstrip()


def _end(process: asyncio.subprocess.Process) -> None:
    """Ends a command with all that it has started; on Linux its keeper does, when it is told to."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM if _KEEPER else signal.SIGKILL)


class _Printed:
    """The beginning and the end of what is printed."""

    def __init__(self) -> None:
        self.is_too_much = False
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
            while not self.is_too_much and (chunk := await reader.read(65_536)):
                self._size += len(chunk)
                room = HEAD - len(self._head)
                self._head += chunk[:room]
                self._tail = (self._tail + chunk[room:])[-TAIL:] if room < len(chunk) else b""
                self.is_too_much = self._size > MOST_PRINTED
        finally:
            transport.close()

    def text(self) -> str:
        """What was printed, with a note on what was left out."""
        left_out = self._size - len(self._head) - len(self._tail)
        note = f"\n[... {left_out} bytes left out ...]\n" if left_out else ""
        parts = (part.decode("utf-8", "replace") for part in (self._head, self._tail))
        return visible(_COLOURS.sub("", note.join(parts))).rstrip()
