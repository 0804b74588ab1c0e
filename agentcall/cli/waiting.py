"""Runs of the command line that wait for approval, each in a file until it goes on.

A state holds the run's result, and how its agent was made, so that another process, another day,
can make it again. It has no keys: user, password and query of a model's URL are left out. Who goes
on with a state takes its file away first, so that it is gone on with once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from agentcall.cli.statefolder import get_state_folder
from agentcall.errors import UsageError
from agentcall.messages import JSON, encode_json
from agentcall.result import RunResult, run_result_to_json
from agentcall.sessions import SQLiteSession
from agentcall.storage.private_files import make_folder, open_private

AnyRunResult = RunResult[Any]  # Any: the output's type is known to the user's agent alone

_FORMAT = 1
_RUN_ID = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class PausedRun:
    """A run that waits: where its file is, how its agent was made, and how far it has come.

    path: None for a result that a program has written, which stays where it is.
    """

    path: Path | None
    recipe: Mapping[str, JSON]
    session: SQLiteSession | None
    result: AnyRunResult


def save_paused_run(
    result: AnyRunResult, recipe: Mapping[str, JSON], session: SQLiteSession | None
) -> Path:
    """Writes a state, for its owner alone, and gives its file."""
    wire: dict[str, JSON] = {
        "agentcall": _FORMAT,
        "recipe": recipe,
        "result": run_result_to_json(result),
    }
    if session is not None:
        wire["session"] = {"id": session.id, "file": str(session.store.path.absolute())}
    folder = _get_folder()
    make_folder(folder)
    path = folder / f"{result.run_id.replace(':', '-')}.json"
    draft = path.with_suffix(f".{os.getpid()}.new")
    with open(open_private(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), "wb") as file:  # noqa: PTH123
        file.write(encode_json(wire))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return path


def load_paused_run(word: str) -> PausedRun:
    """The state in a file, or that of a run by its id. Raises UsageError."""
    path = Path(word)
    if not path.is_file() and _RUN_ID.fullmatch(word):
        path = _get_folder() / f"{word}.json"
    try:
        text = path.read_bytes()
    except OSError:
        raise UsageError(_describe_missing(word)) from None
    try:
        wire = cast("Mapping[str, Any]", orjson.loads(text))
        if "agentcall" not in wire:
            return PausedRun(None, {}, None, AnyRunResult.from_json(text))
        if wire["agentcall"] != _FORMAT:
            raise UsageError(f"{path} was written by a newer agentcall; update agentcall")
        kept = wire.get("session")
        session = kept and SQLiteSession(kept["id"], kept["file"], wait=0)
        return PausedRun(
            path, wire["recipe"], session, AnyRunResult.from_json(encode_json(wire["result"]))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not the state of a run: {error}") from error


def claim_paused_run(state: PausedRun) -> Path | None:
    """Takes the state's file away, so that nobody else goes on with it; where it is kept meanwhile.

    Raises UsageError where somebody else was faster.
    """
    if state.path is None:
        return None
    taken = state.path.with_suffix(".taken")
    try:
        state.path.rename(taken)
    except FileNotFoundError:
        raise UsageError(
            f"the run {state.result.run_id} has been gone on with since it was looked at"
        ) from None
    return taken


def list_paused_runs() -> list[PausedRun]:
    """The runs that wait, the last first."""
    paths = sorted(
        _get_folder().glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    return [load_paused_run(str(path)) for path in paths]


def _get_folder() -> Path:
    return get_state_folder() / "waiting"


def _describe_missing(word: str) -> str:
    taken = _get_folder() / f"{word}.taken"
    if _RUN_ID.fullmatch(word) and taken.exists():
        return (
            f"the run {word} was gone on with, by a process that goes on still or did not end "
            f"well: what was decided may have been carried out. To go on with it all the same: "
            f"agentcall resume {taken}"
        )
    known = ", ".join(path.stem for path in _get_folder().glob("*.json"))
    return f"no run {word!r} waits, and there is no such file" + (
        f"; these wait: {known}" if known else ""
    )
