"""Durable runs at the command line: which journal, how the agent was made, how to go on."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from agentcall.agent import Agent, Prompt, generate_run_id
from agentcall.approvals import Decision
from agentcall.cli.calltext import format_pending_calls
from agentcall.cli.making import AgentArguments
from agentcall.cli.plain import style_text
from agentcall.cli.recipe import make_recipe, strip_credentials
from agentcall.cli.said import DECISION_HINT
from agentcall.cli.statefolder import get_state_folder
from agentcall.durable import DurableAgent
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.result import RunResult
from agentcall.storage.private_files import make_folder, tighten_folder


def resolve_journal_url(given: str | None) -> str:
    """The journal that is meant: the option, AGENTCALL_DB, or one in the user's state folder."""
    if given or os.environ.get("AGENTCALL_DB"):
        return given or os.environ["AGENTCALL_DB"]
    folder = get_state_folder()
    try:
        make_folder(folder)
        tighten_folder(folder)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be made ({error.strerror}); use --db"
        ) from error
    return f"sqlite:///{folder}/runs.db"


class DurableRunner:
    """A durable agent for one run, whose id is known before it begins."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        arguments: AgentArguments,
        *,
        db: str | None,
        run_id: str | None = None,
    ) -> None:
        self.run_id = run_id or generate_run_id()
        self._durable = DurableAgent(agent, resolve_journal_url(db), recipe=make_recipe(arguments))
        self._db = db

    def run_stream(self, prompt: Prompt | None) -> AsyncGenerator[Event, None]:
        """The events of the run, begun or gone on with."""
        return self._durable.run_stream(prompt, run_id=self.run_id)

    def resume_stream(
        self,
        result: RunResult[Any],  # Any: as above
        decisions: Mapping[str, Decision | bool],
    ) -> AsyncGenerator[Event, None]:
        """The events of the run after a person has decided."""
        return self._durable.resume_stream(result, decisions)

    def check(
        self,
        result: RunResult[Any],  # Any: as above
        decisions: Mapping[str, Decision | bool],
    ) -> None:
        """Raises UsageError for decisions that cannot be carried out."""
        self._durable.agent.check_decisions(result, decisions)

    def print_resume_hint(self, result: RunResult[Any] | None = None) -> None:  # Any: as above
        """Says on standard error what waits, and with which command the run goes on."""
        if result is not None:
            sys.stderr.writelines(f"{line}\n" for line in format_pending_calls(result))
            sys.stderr.write(f"{DECISION_HINT}, behind this:\n")
        where = "" if self._db is None else f" --db {strip_credentials(self._db)}"
        words = f"the run is kept; go on with it: agentcall runs resume {self.run_id}{where}"
        sys.stderr.write(style_text(words, "yellow", sys.stderr) + "\n")

    def close(self) -> None:
        """Gives the journal up."""
        self._durable.close()
