"""What an installed `lmdeploy` command takes, read from the usage line of its `--help`.

Flags differ from release to release, and one that is not known ends LMDeploy with exit code 2; so
a command line is made of what the installed one says of itself.
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
    """One option: whether a value follows, and which ones if they are listed."""

    name: str
    takes_value: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandFlags:
    """The options of one command; acts as a collection of their names."""

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
    """The options that argparse lists after `usage:`."""
    usage = " ".join(text.partition("usage:")[2].partition("\n\n")[0].split())
    return CommandFlags(
        command, tuple(_parse_flag(found) for found in _FLAG_PATTERN.finditer(usage))
    )


def find_lmdeploy(given: str | None = None) -> Path:
    """The program `lmdeploy`: that given, the one beside this Python, or on PATH.

    Raises NoLMDeploy.
    """
    beside = Path(sys.executable).with_name("lmdeploy")
    for program in (given,) if given else (str(beside), "lmdeploy"):
        if found := shutil.which(program):
            return Path(found).absolute()
    if given:
        raise LMDeployUnavailable(
            f"{given!r} is no program that can be run; give the path of `lmdeploy`"
        )
    raise LMDeployUnavailable(
        f"LMDeploy is not installed beside this Python nor on PATH; {INSTALL_COMMAND}, or give "
        "its path "
        f"(--lmdeploy /path/to/bin/lmdeploy)"
    )


def find_python(program: Path) -> Path | None:
    """The Python that runs an installed program; None where that is no script of Python."""
    try:
        with program.open("rb") as file:
            first, second = (
                file.readline(_MAX_SHEBANG_BYTES).decode("utf-8", "replace") for _ in "12"
            )
    except OSError:
        return None
    if not first.startswith("#!"):
        return None
    # pip writes a path that is too long for `#!` into a line for the shell
    words = (
        second.removeprefix("'''exec' ") if first.startswith("#!/bin/sh") else first[2:]
    ).split()
    name = (words[1:] if words and Path(words[0]).name == "env" else words)[:1]
    found = shutil.which(name[0].strip('"')) if name and "python" in name[0] else None
    return Path(found) if found else None


def read_command_flags(lmdeploy: Path, words: Sequence[str]) -> CommandFlags:
    """The manual of `lmdeploy WORDS`. Takes seconds. Raises NoLMDeploy."""
    command = " ".join(words)
    try:
        done = subprocess.run(  # noqa: S603  (a program that the user named, no shell)
            [str(lmdeploy), *words, "--help"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LMDeployUnavailable(f"{lmdeploy} cannot be asked for its options: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LMDeployUnavailable(
            f"{lmdeploy} has no `{command}`: {last}; auto_gptq came with 0.6.0, serve proxy with "
            f"0.6.1, the others are in every release"
        )
    return parse_help(command, done.stdout)


def _parse_flag(found: re.Match[str]) -> CommandFlag:
    short, long, value = found.groups()
    choices = tuple(value.strip("{}").split(",")) if value and value.startswith("{") else ()
    return CommandFlag(long or short, value is not None, choices)
