"""Runs programs that the user allows, without a shell.

Rules:
1. A command is split into words and run as they are: no pipes, redirections, variables or globs.
2. Its first words are those of an allowed command; the program is the one that was found under
   that name when the tool was made. What a program does with its arguments is its own affair: many
   can run others (`find -exec`, `git -c`), which is why a person approves each call.
3. It gets a clean environment, no input and a process group of its own, which is killed whole when
   it ends, runs out of time, prints too much or the run is cancelled.
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agentcall import tool
from agentcall_tools.visible import visible

HEAD, TAIL = 15_000, 5_000
MOST_PRINTED = 10_000_000
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CLEAN = {"PATH": _PATH, "HOME": "/nonexistent", "LANG": "C.UTF-8", "TERM": "dumb", "PAGER": "cat"}
_OPERATORS = re.compile(r"[|&;<>]+|[0-9]*[<>].*|.*[^\\];")
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class ShellError(ValueError):
    """A command that was not run, or was stopped; the text says why, after what it printed."""


class Shell:
    """The tool `run_command`: `Agent(tools=[Shell(["git status", "git log", "ls"])])`.

    allow: the commands, each the first words of what may be run; a text has commas between them.
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
        self._allowed = [tuple(shlex.split(text)) for text in texts if text.strip()]
        self._programs = {words[0]: _program(words[0]) for words in self._allowed}
        self._folder = Path(folder).expanduser().resolve()
        self._seconds = seconds
        self._environment = {**_CLEAN, **(variables or {})}
        known = f"{self.run_command.description} Allowed: {self._known()}."
        self.run_command = tool(description=known, timeout=seconds + 10)(self.run_command)

    @tool(requires_approval=True, sequential=True, untrusted=True, timeout=70)
    async def run_command(self, command: str) -> str:
        """Runs one program, without a shell, and returns what it prints and how it ended.

        No pipes, redirections, wildcards or variables.

        Args:
            command: The program and its arguments, for example "git log -n 5".
        """
        words = self._words(command)
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                self._programs[words[0]],
                *words[1:],
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

    def _words(self, command: str) -> list[str]:
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
        if not any(tuple(words[: len(allowed)]) == allowed for allowed in self._allowed):
            raise ShellError(f"{command[:200]!r} is not allowed; allowed: {self._known()}")
        return words

    def _known(self) -> str:
        return ", ".join(shlex.join(words) for words in self._allowed)


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
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.wait({reading, ending}, timeout=1)
        reading.cancel()  # where a process of another group holds the pipe
        await asyncio.gather(reading, return_exceptions=True)
    if printed.is_too_much:
        raise ShellError(f"{printed.text()}\n[stopped: it printed over {MOST_PRINTED} bytes]")
    if stopped:
        raise ShellError(f"{printed.text()}\n[stopped after {seconds:g} seconds]".lstrip())
    return f"{printed.text()}\n[exit code {process.returncode}]".lstrip()


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
