"""`agentcall server bench`: how fast a server answers streams and agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

BENCH_HELP = """Measure a model server: time to the first token, tokens a second, agents with tools
at
the same time, and the prefix cache.

\b
  agentcall server bench http://127.0.0.1:23333/v1
  agentcall server bench embedded --concurrency 1,2 --seconds 60
  agentcall server bench http://gpu1:23333/v1,http://gpu2:23333/v1 --concurrency 8,32,128

The server is asked for real answers, and works for it. Each measurement ends after --seconds; what
is then under way is counted apart. Speed is measured, not whether answers are right.

\b
Exit codes:
  0  there are figures for all
  1  something ended without a single whole answer
  2  the command is wrong
  3  the server cannot be reached, or refuses
"""


@dataclass(frozen=True, slots=True)
class ServerBenchOptions:
    """What `agentcall server bench` is told."""

    url: Annotated[
        str | None,
        typer.Argument(
            help="http://host:port/v1, with #NAME for one of its models, lmdeploy:NAME or "
            "embedded; several with commas between. Default: AGENTCALL_MODEL, else "
            "http://127.0.0.1:23333/v1.",
        ),
    ] = None
    concurrency: Annotated[
        str, typer.Option(help="How many at the same time, one measurement after the other.")
    ] = "1,8,32"
    each: Annotated[
        int, typer.Option(help="Answers of each stream, and runs of each agent, in a row.")
    ] = 2
    tokens: Annotated[int, typer.Option(help="Tokens of a streamed answer at most.")] = 128
    seconds: Annotated[float, typer.Option(help="Seconds for one measurement at most.")] = 30.0
    dialect: Annotated[str, typer.Option(help="How tools are offered; auto asks the server.")] = (
        "auto"
    )
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False


def bench(options: ServerBenchOptions) -> None:
    """Measures, prints and exits with the code that HELP says."""
    from agentcall.cli.benching import run_bench

    code = run_bench(options)
    if code:
        raise typer.Exit(code)
