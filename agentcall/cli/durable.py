"""The journal of the command line: recorded runs, and runs that wait for approval.

`agentcall run --durable` records each step. Any other run is recorded when it pauses: its first
record holds the prompt and how its agent was made, its last one the paused result. Both are
continued by `agentcall resume`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from agentcall.agent import Agent, generate_run_id
from agentcall.approvals import Decision
from agentcall.cli.approvals import format_pending_calls
from agentcall.cli.load import get_state_folder, make_recipe, strip_credentials
from agentcall.cli.options import AgentOptions
from agentcall.cli.terminal import style_text
from agentcall.display import to_single_line
from agentcall.durable import DurableAgent
from agentcall.durable.journal import Journal
from agentcall.durable.open import make_opener
from agentcall.durable.run_state import DurableRunState
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.messages import Prompt
from agentcall.result import RunResult
from agentcall.storage.private_files import make_folder, tighten_folder

AnyRunResult = RunResult[Any]  # Any: only the user's agent knows its output type


def resolve_journal_url(url: str | None) -> str:
    """Return the given URL, else AGENTCALL_DB, else that of a file in the user's state folder."""
    if url or os.environ.get("AGENTCALL_DB"):
        return url or os.environ["AGENTCALL_DB"]
    folder = get_state_folder()
    try:
        make_folder(folder)
        tighten_folder(folder)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be made ({error.strerror}); use --db"
        ) from error
    return f"sqlite:///{folder}/runs.db"


@contextmanager
def open_journal(url: str | None) -> Generator[Journal, None, None]:
    """Open the journal; the file of a given URL has to exist. Raises UsageError."""
    database = make_opener(resolve_journal_url(url), make=url is None)()
    try:
        yield Journal(database)
    finally:
        database.close()


def load_run_state(run_id: str, url: str | None) -> DurableRunState:
    """Read the records of a run. Raises UsageError if there is none."""
    with open_journal(url) as journal:
        records = journal.read_records(run_id)
    if not records:
        raise make_unknown_run_error(run_id, journal)
    return DurableRunState(run_id, records)


def make_unknown_run_error(run_id: str, journal: Journal) -> UsageError:
    """Return the error for a run that is not in the journal."""
    return UsageError(
        f"there is no run {run_id} in {journal.database.location}; "
        "`agentcall runs list` lists the runs"
    )


def print_pending_calls(result: AnyRunResult, run_id: str, db: str | None = None) -> None:
    """Print the calls that wait for approval, and the commands that decide about them."""
    name = shlex.quote(to_single_line(result.pending[0].call.id))
    command = _format_resume_command(run_id, db)
    lines = [
        *format_pending_calls(result),
        f"approve: {command} --approve {name}",
        f"or:      {command} --deny {name}=WHY, or --edit {name}=JSON; at a terminal it asks",
    ]
    sys.stderr.write(style_text("\n".join(lines), "yellow", sys.stderr) + "\n")


def _format_resume_command(run_id: str, db: str | None) -> str:
    journal = "" if db is None else f" --db {strip_credentials(db)}"
    return f"agentcall resume {run_id}{journal}"


class DurableRunner:
    """Runs an agent once, with each step recorded under an id that is known beforehand."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        options: AgentOptions,
        *,
        db: str | None,
        run_id: str | None = None,
    ) -> None:
        self.run_id = run_id or generate_run_id()
        self._durable = DurableAgent(agent, resolve_journal_url(db), recipe=make_recipe(options))
        self._db = db

    def run_stream(self, prompt: Prompt | None) -> AsyncGenerator[Event, None]:
        """Start or continue the run and yield its events."""
        return self._durable.run_stream(prompt, run_id=self.run_id)

    def resume_stream(
        self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]
    ) -> AsyncGenerator[Event, None]:
        """Continue the run after a person has decided and yield its events."""
        return self._durable.resume_stream(result, decisions)

    def check(self, result: AnyRunResult, decisions: Mapping[str, Decision | bool]) -> None:
        """Raise UsageError for decisions that cannot be applied."""
        self._durable.agent.check_decisions(result, decisions)

    def handle_result(self, result: AnyRunResult) -> None:
        """Print how to resume a run that waits; its result is recorded already."""
        if result.pending:
            print_pending_calls(result, self.run_id, self._db)

    def print_resume_hint(self) -> None:
        """Print the command that continues the run."""
        command = _format_resume_command(self.run_id, self._db)
        hint = f"the run is recorded; continue it: {command}"
        sys.stderr.write(style_text(hint, "yellow", sys.stderr) + "\n")

    def close(self) -> None:
        """Close the journal."""
        self._durable.close()
