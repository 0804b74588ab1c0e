"""The figures of a measured server on the screen, or as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.cli.bench import ServerBenchOptions
from agentcall.cli.faults import UNFINISHED
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.plain import style_text
from agentcall.cli.tally import format_duration
from agentcall.cli.whereabouts import get_default_server, resolve_server
from agentcall.diagnostics.bench import BenchReport, BenchScope, BenchServer, BenchTarget, measure
from agentcall.diagnostics.bench.load import PrefixCacheStats
from agentcall.diagnostics.bench.stats import AgentStats, IncompleteCounts, Percentiles, StreamStats
from agentcall.dialects.constrained import ConstrainedDialect
from agentcall.display import to_single_line
from agentcall.errors import UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.local_servers import find_api_key
from agentcall.models.resolve import split_shorthands

_NO_VALUE = "-"


def run_bench(options: ServerBenchOptions) -> int:
    """Prints the figures; gives the exit code."""
    scope = BenchScope(
        _parse_sizes(options.concurrency), options.each, options.tokens, options.seconds
    )
    words = split_shorthands(options.url or get_default_server())
    target = BenchTarget(tuple(_make_bench_server(word, options.dialect) for word in words))
    with InterruptibleLoop() as loop:
        report = loop.run(measure(target, scope, _print_step))
    if options.json:
        document = orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2)
        sys.stdout.buffer.write(document + b"\n")
    else:
        _print_report(report)
    whole = all(level.streams.answers and level.agents.runs for level in report.levels)
    return 0 if whole else UNFINISHED


def _parse_sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise UsageError(f"--concurrency {text!r}: write numbers such as 1,8,32") from None


def _make_bench_server(word: str, dialect: str) -> BenchServer:
    kind, _, name = word.partition(":")
    if kind == "embedded":
        from agentcall_server.embedded_server import ensure

        here = ensure(name or None)
        return BenchServer(HTTPEndpoint(here.url), here.model, ConstrainedDialect())
    url, model = resolve_server(word)
    return BenchServer(HTTPEndpoint(url, find_api_key(url)), model, dialect)


def _print_step(words: str) -> None:
    sys.stderr.write(style_text(f"{words} ...", "dim", sys.stderr) + "\n")
    sys.stderr.flush()


# What was measured.


def _print_report(report: BenchReport) -> None:
    console = Console(highlight=False)
    servers = ", ".join(report.servers)
    console.print(
        Text(to_single_line(f"{report.model} at {servers}, dialect {report.dialect}"), "bold")
    )
    console.print(Text(to_single_line(_format_prefix_cache(report))))
    scope = report.scope
    console.print(
        _build_streams_table(report, f"streams of {scope.tokens} tokens at most, {scope.each} each")
    )
    console.print(_build_agents_table(report, f"agents with two tools, {scope.each} runs each"))
    for line in _list_remarks(report):
        console.print(Text(to_single_line(line), "yellow"))


def _format_prefix_cache(report: BenchReport) -> str:
    found = report.prefix
    if found is None:
        return f"prefix cache: not measured ({report.prefix_failed})"
    size = "a long prompt" if found.prompt_tokens is None else f"{found.prompt_tokens} tokens"
    took = (
        f"{size}: {format_duration(found.first_seconds)} the first time, "
        f"{format_duration(found.again_seconds)} "
    )
    return f"prefix cache: {took}again; {_format_cached_tokens(found)}"


def _format_cached_tokens(found: PrefixCacheStats) -> str:
    if found.cached_tokens is None:
        return "the server does not tell what it had cached"
    if found.cached_tokens == 0:
        return "nothing of it was cached (LMDeploy: --enable-prefix-caching)"
    return f"{found.cached_tokens} of them were cached"


def _build_streams_table(report: BenchReport, title: str) -> Table:
    table = _make_table(title, "first token", "p95", "tok/s each", "tok/s in all", "answers")
    for level in report.levels:
        found = level.streams
        table.add_row(
            str(level.concurrency),
            *_format_percentiles(found.first_token),
            _format_rate(found.each.median if found.each else None),
            _format_rate(found.in_all),
            _format_completion(found.answers, found.rest),
        )
    return table


def _build_agents_table(report: BenchReport, title: str) -> Table:
    table = _make_table(
        title, "a run", "p95", "request", "runs/s", "tok/s", "cached", "calls", "runs"
    )
    told = report.prefix is not None and report.prefix.cached_tokens is not None
    for level in report.levels:
        found = level.agents
        table.add_row(
            str(level.concurrency),
            *_format_percentiles(found.run),
            _format_percentiles(found.request)[0],
            _format_rate(found.runs_rate),
            _format_rate(found.tokens_rate),
            _format_share(found.usage.cached_tokens, found.usage.input_tokens)
            if told
            else _NO_VALUE,
            str(found.usage.tool_calls),
            _format_completion(found.runs, found.rest),
        )
    return table


def _make_table(title: str, *columns: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, title=title, title_justify="left"
    )
    for column in ("at a time", *columns):
        table.add_column(column, justify="right")
    return table


def _format_percentiles(found: Percentiles | None) -> tuple[str, str]:
    return (
        (format_duration(found.median), format_duration(found.p95))
        if found
        else (_NO_VALUE, _NO_VALUE)
    )


def _format_rate(found: float | None) -> str:
    return _NO_VALUE if found is None else f"{found:,.0f}" if found >= 100 else f"{found:.3g}"


def _format_share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else _NO_VALUE


def _format_completion(whole: int, rest: IncompleteCounts) -> str:
    return (
        str(whole)
        if rest == IncompleteCounts()
        else f"{whole} of {whole + rest.failed + rest.unfinished}"
    )


def _list_remarks(report: BenchReport) -> list[str]:
    lines: list[str] = []
    for level in report.levels:
        lines += _describe_incomplete(f"streams, {level.concurrency} at a time", level.streams)
        lines += _describe_incomplete(f"agents, {level.concurrency} at a time", level.agents)
        idle = level.agents.runs - level.agents.called
        if idle:
            of = f"{idle} of {level.agents.runs} runs"
            lines.append(f"agents, {level.concurrency} at a time: in {of} no tool was called")
    return lines


def _describe_incomplete(what: str, found: StreamStats | AgentStats) -> list[str]:
    rest = found.rest
    lines = [f"{what}: {rest.failed} failed: {rest.why}"] if rest.failed else []
    if rest.unfinished:
        late = f"{rest.unfinished} under way when the time was over"
        lines.append(f"{what}: {late}; --seconds gives more than {found.seconds:.0f}")
    return lines
