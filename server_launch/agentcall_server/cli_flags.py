"""The flags of an installed `lmdeploy` command, read from the usage line of its `--help`.

Flags differ between releases, and LMDeploy exits with code 2 on an unknown one, so a command line
is built from the flags that the installed release lists.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.errors import LMDeployUnavailable

INSTALL_COMMAND = "pip install lmdeploy"
_MAX_SHEBANG_BYTES = 512
_FLAG_PATTERN = re.compile(r"\[(--?[\w-]+)(?:,? (--[\w-]+))?(?: ([^\]]+))?\]")


@dataclass(frozen=True, slots=True)
class CommandFlag:
    """One flag: whether it takes a value, and the choices if they are listed."""

    name: str
    takes_value: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandFlags:
    """The flags of one command, a collection by name."""

    command: str
    flags: tuple[CommandFlag, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(flag.name for flag in self.flags)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> CommandFlag:
        for flag in self.flags:
            if flag.name == name:
                return flag
        raise KeyError(name)


def parse_help(command: str, text: str) -> CommandFlags:
    """Return the flags that argparse lists after `usage:`."""
    usage = " ".join(text.partition("usage:")[2].partition("\n\n")[0].split())
    flags: list[CommandFlag] = []
    for short, long, value in _FLAG_PATTERN.findall(usage):
        choices = tuple(value.strip("{}").split(",")) if value.startswith("{") else ()
        flags.append(CommandFlag(long or short, bool(value), choices))
    return CommandFlags(command, tuple(flags))


def read_command_flags(lmdeploy: Path, arguments: Sequence[str]) -> CommandFlags:
    """Return the flags of `lmdeploy ARGUMENTS`. Takes seconds. Raises LMDeployUnavailable."""
    command = " ".join(arguments)
    try:
        result = subprocess.run(  # noqa: S603  (the user's own lmdeploy, no shell)
            [str(lmdeploy), *arguments, "--help"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LMDeployUnavailable(f"cannot read the options of {lmdeploy}: {error}") from error
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise LMDeployUnavailable(
            f"{lmdeploy} has no `{command}`: {last}; auto_gptq needs 0.6.0, serve proxy 0.6.1; the "
            f"others are in every release"
        )
    return parse_help(command, result.stdout)


def find_lmdeploy(path: str | None = None) -> Path:
    """Return the program at `path`, else the `lmdeploy` beside this Python or on PATH.

    Raises LMDeployUnavailable.
    """
    beside = Path(sys.executable).with_name("lmdeploy")
    for program in (path,) if path else (str(beside), "lmdeploy"):
        if executable := shutil.which(program):
            return Path(executable).absolute()
    if path:
        raise LMDeployUnavailable(f"{path!r} cannot be executed; give the path of `lmdeploy`")
    raise LMDeployUnavailable(
        f"LMDeploy is not installed beside this Python nor on PATH; {INSTALL_COMMAND}, or give "
        f"its path (--lmdeploy /path/to/bin/lmdeploy)"
    )


def find_python(program: Path) -> Path | None:
    """Return the Python that runs an installed program; None if it is not a script of Python."""
    try:
        with program.open("rb") as file:
            first, second = (
                file.readline(_MAX_SHEBANG_BYTES).decode("utf-8", "replace") for _ in range(2)
            )
    except OSError:
        return None
    if not first.startswith("#!"):
        return None
    # pip writes a path that is too long for `#!` into a line for the shell
    is_shell = first.startswith("#!/bin/sh")
    parts = (second.removeprefix("'''exec' ") if is_shell else first[2:]).split()
    name = (parts[1:] if parts and Path(parts[0]).name == "env" else parts)[:1]
    path = shutil.which(name[0].strip('"')) if name and "python" in name[0] else None
    return Path(path) if path else None
