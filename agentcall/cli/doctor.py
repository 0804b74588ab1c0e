"""`agentcall doctor`: what is right and wrong with a model server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

DOCTOR_HELP = """Examine a model server: is it there, do tools reach the model, what to change.

\b
Exit codes:
  0  nothing is wrong
  1  something has to be changed
  2  the command is wrong
  3  the server cannot be reached, or refuses
"""


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What `agentcall doctor` is told."""

    url: Annotated[
        str | None,
        typer.Argument(
            help="http://host:port/v1, http://host:port/v1#NAME or lmdeploy:NAME. "
            "Default: AGENTCALL_MODEL if it is one of these, else http://127.0.0.1:23333/v1.",
        ),
    ] = None
    model: Annotated[
        str | None, typer.Option("-m", "--model", metavar="NAME", help="The model's name there.")
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


def doctor(options: DoctorOptions) -> None:
    """Examines, prints and exits with the code that HELP says."""
    from agentcall.cli.examination import run_doctor

    code = run_doctor(options)
    if code:
        raise typer.Exit(code)
