"""Durable runs at the command line: which journal, how the agent was made, how to go on."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from agentcall.agent import Agent, Prompt, new_id
from agentcall.approval import Decision
from agentcall.cli.calltext import waiting_lines
from agentcall.cli.making import Words
from agentcall.cli.plain import styled
from agentcall.cli.recipe import bare, recipe_of
from agentcall.cli.said import HOW
from agentcall.cli.statefolder import state_folder
from agentcall.durable import Durable
from agentcall.errors import UsageError
from agentcall.events import Event
from agentcall.privatefiles import make_folder, tighten_folder
from agentcall.result import RunResult


def journal_url(given: str | None) -> str:
    """The journal that is meant: the option, AGENTCALL_DB, or one in the user's state folder."""
    if given or os.environ.get("AGENTCALL_DB"):
        return given or os.environ["AGENTCALL_DB"]
    folder = state_folder()
    try:
        make_folder(folder)
        tighten_folder(folder)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} cannot be made ({error.strerror}); use --db"
        ) from error
    return f"sqlite:///{folder}/runs.db"


class Kept:
    """A durable agent for one run, whose id is known before it begins."""

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: the user's own types
        words: Words,
        *,
        db: str | None,
        run_id: str | None = None,
    ) -> None:
        self.run_id = run_id or new_id()
        self._durable = Durable(agent, journal_url(db), recipe=recipe_of(words))
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
        self._durable.agent.check(result, decisions)

    def tell_how_to_go_on(self, result: RunResult[Any] | None = None) -> None:  # Any: as above
        """Says on standard error what waits, and with which command the run goes on."""
        if result is not None:
            sys.stderr.writelines(f"{line}\n" for line in waiting_lines(result))
            sys.stderr.write(f"{HOW}, behind this:\n")
        where = "" if self._db is None else f" --db {bare(self._db)}"
        words = f"the run is kept; go on with it: agentcall runs resume {self.run_id}{where}"
        sys.stderr.write(styled(words, "yellow", sys.stderr) + "\n")

    def close(self) -> None:
        """Gives the journal up."""
        self._durable.close()
