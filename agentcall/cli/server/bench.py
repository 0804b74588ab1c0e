"""`agentcall server bench`: how fast a server answers streams and agents."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from agentcall.cli.command import make_app
from agentcall.cli.errors import UNFINISHED
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.model_server import get_default_server, resolve_server
from agentcall.cli.options import JSONObjectOption
from agentcall.cli.render import format_duration
from agentcall.cli.terminal import make_table, write_json, write_note
from agentcall.diagnostics.bench import (
    AgentStats,
    BenchReport,
    BenchScope,
    BenchServer,
    BenchTarget,
    IncompleteCounts,
    Percentiles,
    StreamStats,
    measure,
)
from agentcall.dialects.constrained import ConstrainedDialect
from agentcall.display import to_single_line
from agentcall.errors import UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.resolve import split_shorthands

BENCH_HELP = """Measure a model server: time to the first token, tokens per second, concurrent
agents with tools, and the prefix cache.

\b
  agentcall server bench http://127.0.0.1:23333/v1
  agentcall server bench embedded --concurrency 1,2 --seconds 60
  agentcall server bench http://gpu1:23333/v1,http://gpu2:23333/v1 --concurrency 8,32,128

The server generates real answers. Each measurement ends after --seconds; unfinished answers are
counted separately. Only speed is measured, not whether answers are right.

\b
Exit codes:
  0  all measurements have results
  1  a measurement ended without a complete answer
  2  the command is wrong
  3  the server cannot be reached, or refuses the request
"""


@dataclass(frozen=True, slots=True)
class ServerBenchOptions:
    """Options of `agentcall server bench`."""

    url: Annotated[
        str | None,
        typer.Argument(
            help="http://host:port/v1, with #NAME for one of its models, lmdeploy:NAME or "
            "embedded; several, separated by commas. Default: AGENTCALL_MODEL, else "
            "http://127.0.0.1:23333/v1.",
        ),
    ] = None
    concurrency: Annotated[
        str, typer.Option(help="Numbers of concurrent streams and agents, a measurement each.")
    ] = "1,8,32"
    each: Annotated[
        int, typer.Option(help="Number of answers of each stream, and of runs of each agent.")
    ] = 2
    tokens: Annotated[int, typer.Option(help="Maximum tokens of a streamed answer.")] = 128
    seconds: Annotated[float, typer.Option(help="Maximum seconds of a measurement.")] = 30.0
    dialect: Annotated[
        str, typer.Option(help="How tools are offered to the model; auto asks the server.")
    ] = "auto"
    json: JSONObjectOption = False


_NO_VALUE = "-"


def run_bench(options: ServerBenchOptions) -> int:
    """Measure, print the results and return the exit code."""
    scope = BenchScope(
        _parse_sizes(options.concurrency), options.each, options.tokens, options.seconds
    )
    addresses = split_shorthands(options.url or get_default_server())
    target = BenchTarget(tuple(_make_bench_server(a, options.dialect) for a in addresses))
    with InterruptibleLoop() as loop:
        report = loop.run(measure(target, scope, lambda step: write_note(f"{step} ...", "dim")))
    if options.json:
        write_json(asdict(report), indent=True)
    else:
        _print_report(report)
    is_complete = all(level.streams.answers and level.agents.runs for level in report.levels)
    return 0 if is_complete else UNFINISHED


def _parse_sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise UsageError(f"--concurrency {text!r}: use numbers such as 1,8,32") from None


def _make_bench_server(address: str, dialect: str) -> BenchServer:
    kind, _, name = address.partition(":")
    if kind == "embedded":
        from agentcall_server.shared_server import ensure

        server = ensure(name or None)
        return BenchServer(
            HTTPEndpoint(server.url, server.api_key), server.model, ConstrainedDialect()
        )
    endpoint, model = resolve_server(address)
    return BenchServer(endpoint, model, dialect)


def _print_report(report: BenchReport) -> None:
    console = Console(highlight=False)
    servers = ", ".join(report.servers)
    console.print(
        Text(to_single_line(f"{report.model} at {servers}, dialect {report.dialect}"), "bold")
    )
    console.print(Text(to_single_line(_format_prefix_cache(report))))
    scope = report.scope
    console.print(
        _build_streams_table(report, f"streams of up to {scope.tokens} tokens, {scope.each} each")
    )
    console.print(_build_agents_table(report, f"agents with two tools, {scope.each} runs each"))
    for line in _list_remarks(report):
        console.print(Text(to_single_line(line), "yellow"))


def _format_prefix_cache(report: BenchReport) -> str:
    stats = report.prefix
    if stats is None:
        return f"prefix cache: not measured ({report.prefix_failed})"
    size = "a long prompt" if stats.prompt_tokens is None else f"{stats.prompt_tokens} tokens"
    first, again = format_duration(stats.first_seconds), format_duration(stats.again_seconds)
    if stats.cached_tokens is None:
        cached = "the server does not report cached tokens"
    elif stats.cached_tokens == 0:
        cached = "none of them were cached (LMDeploy: --enable-prefix-caching)"
    else:
        cached = f"{stats.cached_tokens} of them were cached"
    return f"prefix cache: {size}: {first} the first time, {again} again; {cached}"


def _build_streams_table(report: BenchReport, title: str) -> Table:
    table = _make_table(title, "first token", "p95", "tok/s each", "tok/s total", "answers")
    for level in report.levels:
        stats = level.streams
        table.add_row(
            str(level.concurrency),
            *_format_percentiles(stats.first_token),
            _format_rate(stats.each.median if stats.each else None),
            _format_rate(stats.in_all),
            _format_completion(stats.answers, stats.rest),
        )
    return table


def _build_agents_table(report: BenchReport, title: str) -> Table:
    table = _make_table(
        title, "per run", "p95", "request", "runs/s", "tok/s", "cached", "calls", "runs"
    )
    reports_cache = report.prefix is not None and report.prefix.cached_tokens is not None
    for level in report.levels:
        stats = level.agents
        cached, total = stats.usage.cached_tokens, stats.usage.input_tokens
        table.add_row(
            str(level.concurrency),
            *_format_percentiles(stats.run),
            _format_percentiles(stats.request)[0],
            _format_rate(stats.runs_rate),
            _format_rate(stats.tokens_rate),
            f"{cached / total:.0%}" if reports_cache and total else _NO_VALUE,
            str(stats.usage.tool_calls),
            _format_completion(stats.runs, stats.rest),
        )
    return table


def _make_table(title: str, *columns: str) -> Table:
    return make_table(
        *(Column(name, justify="right") for name in ("concurrency", *columns)), title=title
    )


def _format_percentiles(times: Percentiles | None) -> tuple[str, str]:
    if times is None:
        return _NO_VALUE, _NO_VALUE
    return format_duration(times.median), format_duration(times.p95)


def _format_rate(rate: float | None) -> str:
    return _NO_VALUE if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _format_completion(complete: int, rest: IncompleteCounts) -> str:
    total = complete + rest.failed + rest.unfinished
    return str(complete) if rest == IncompleteCounts() else f"{complete} of {total}"


def _list_remarks(report: BenchReport) -> list[str]:
    lines: list[str] = []
    for level in report.levels:
        lines += _describe_incomplete(f"{level.concurrency} streams", level.streams)
        lines += _describe_incomplete(f"{level.concurrency} agents", level.agents)
        idle = level.agents.runs - level.agents.called
        if idle:
            runs = f"{idle} of {level.agents.runs} runs"
            lines.append(f"{level.concurrency} agents: {runs} called no tool")
    return lines


def _describe_incomplete(subject: str, stats: StreamStats | AgentStats) -> list[str]:
    rest = stats.rest
    lines = [f"{subject}: {rest.failed} failed: {rest.why}"] if rest.failed else []
    if rest.unfinished:
        lines.append(
            f"{subject}: {rest.unfinished} were unfinished after {stats.seconds:.0f} s; "
            "--seconds allows more"
        )
    return lines


app = make_app(ServerBenchOptions, run_bench, BENCH_HELP)
