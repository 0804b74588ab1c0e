"""`agentcall resume`: a run that waits for approval goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from agentcall.cli.deciding import CommonResumeOptions
from agentcall.cli.flags import EventsOption

RESUME_HELP = """Go on with a run that waits for approval.

STATE is the run's id, as `agentcall run` said, or a file with its state; without it the runs that
wait are listed. Without a decision it asks at the terminal. A call about which nothing was decided
goes on waiting.

\b
  agentcall resume 3f2a9c0d1e4b5a67 --approve call_1_0
  agentcall resume 3f2a9c0d1e4b5a67 --deny call_1_0="not on a Sunday"
  agentcall resume 3f2a9c0d1e4b5a67 --edit call_1_0='{"to": "ann"}'
  agentcall resume state.json -a mine.py:agent

\b
Exit codes are those of `agentcall run`.
"""


@dataclass(frozen=True, slots=True)
class ResumeOptions(CommonResumeOptions):
    """What `agentcall resume` is told."""

    state: Annotated[str | None, typer.Argument(help="A run's id, or a file of its state.")] = None
    events: EventsOption = False


def resume(options: ResumeOptions) -> None:
    """Goes on, prints and exits with the code that `agentcall run` has for it."""
    from agentcall.cli.continuing import resume_run

    code = resume_run(options)
    if code:
        raise typer.Exit(code)
