"""The figures of a measured server on the screen, or as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcall.bench import Report, Scope, Server, Target, measure
from agentcall.bench.figures import AgentFigures, Spread, StreamFigures, Tried
from agentcall.bench.prefix import PrefixFigures
from agentcall.cli.bench import BenchOptions
from agentcall.cli.faults import UNFINISHED
from agentcall.cli.interruptible import InterruptibleLoop
from agentcall.cli.plain import styled
from agentcall.cli.tally import lasted
from agentcall.cli.whereabouts import server_of, usual_server
from agentcall.dialects.constrained import Constrained
from agentcall.errors import UsageError
from agentcall.models.endpoint import Endpoint
from agentcall.models.launched import api_key
from agentcall.models.shorthand import parted
from agentcall.plaintext import line_of

_NONE = "-"


def benched(options: BenchOptions) -> int:
    """Prints the figures; gives the exit code."""
    scope = Scope(_sizes(options.concurrency), options.each, options.tokens, options.seconds)
    words = parted(options.url or usual_server())
    target = Target(tuple(_server(word, options.dialect) for word in words))
    with InterruptibleLoop() as loop:
        report = loop.run(measure(target, scope, _say))
    if options.json:
        document = orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2)
        sys.stdout.buffer.write(document + b"\n")
    else:
        _show(report)
    whole = all(level.streams.answers and level.agents.runs for level in report.levels)
    return 0 if whole else UNFINISHED


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise UsageError(f"--concurrency {text!r}: write numbers such as 1,8,32") from None


def _server(word: str, dialect: str) -> Server:
    kind, _, name = word.partition(":")
    if kind == "embedded":
        from agentcall_server.embedded import ensure

        here = ensure(name or None)
        return Server(Endpoint(here.url), here.model, Constrained())
    url, model = server_of(word)
    return Server(Endpoint(url, api_key(url)), model, dialect)


def _say(words: str) -> None:
    sys.stderr.write(styled(f"{words} ...", "dim", sys.stderr) + "\n")
    sys.stderr.flush()


# What was measured.


def _show(report: Report) -> None:
    console = Console(highlight=False)
    servers = ", ".join(report.servers)
    console.print(Text(line_of(f"{report.model} at {servers}, dialect {report.dialect}"), "bold"))
    console.print(Text(line_of(_prefix(report))))
    scope = report.scope
    console.print(_streams(report, f"streams of {scope.tokens} tokens at most, {scope.each} each"))
    console.print(_agents(report, f"agents with two tools, {scope.each} runs each"))
    for line in _remarks(report):
        console.print(Text(line_of(line), "yellow"))


def _prefix(report: Report) -> str:
    found = report.prefix
    if found is None:
        return f"prefix cache: not measured ({report.prefix_failed})"
    size = "a long prompt" if found.prompt_tokens is None else f"{found.prompt_tokens} tokens"
    took = f"{size}: {lasted(found.first_seconds)} the first time, {lasted(found.again_seconds)} "
    return f"prefix cache: {took}again; {_cached(found)}"


def _cached(found: PrefixFigures) -> str:
    if found.cached_tokens is None:
        return "the server does not tell what it had cached"
    if found.cached_tokens == 0:
        return "nothing of it was cached (LMDeploy: --enable-prefix-caching)"
    return f"{found.cached_tokens} of them were cached"


def _streams(report: Report, title: str) -> Table:
    table = _table(title, "first token", "p95", "tok/s each", "tok/s in all", "answers")
    for level in report.levels:
        found = level.streams
        table.add_row(
            str(level.concurrency),
            *_seconds(found.first_token),
            _rate(found.each.median if found.each else None),
            _rate(found.in_all),
            _count(found.answers, found.rest),
        )
    return table


def _agents(report: Report, title: str) -> Table:
    table = _table(title, "a run", "p95", "request", "runs/s", "tok/s", "cached", "calls", "runs")
    told = report.prefix is not None and report.prefix.cached_tokens is not None
    for level in report.levels:
        found = level.agents
        table.add_row(
            str(level.concurrency),
            *_seconds(found.run),
            _seconds(found.request)[0],
            _rate(found.runs_rate),
            _rate(found.tokens_rate),
            _share(found.usage.cached_tokens, found.usage.input_tokens) if told else _NONE,
            str(found.usage.tool_calls),
            _count(found.runs, found.rest),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, title=title, title_justify="left"
    )
    for column in ("at a time", *columns):
        table.add_column(column, justify="right")
    return table


def _seconds(found: Spread | None) -> tuple[str, str]:
    return (lasted(found.median), lasted(found.p95)) if found else (_NONE, _NONE)


def _rate(found: float | None) -> str:
    return _NONE if found is None else f"{found:,.0f}" if found >= 100 else f"{found:.3g}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else _NONE


def _count(whole: int, rest: Tried) -> str:
    return str(whole) if rest == Tried() else f"{whole} of {whole + rest.failed + rest.unfinished}"


def _remarks(report: Report) -> list[str]:
    lines: list[str] = []
    for level in report.levels:
        lines += _remark(f"streams, {level.concurrency} at a time", level.streams)
        lines += _remark(f"agents, {level.concurrency} at a time", level.agents)
        idle = level.agents.runs - level.agents.called
        if idle:
            of = f"{idle} of {level.agents.runs} runs"
            lines.append(f"agents, {level.concurrency} at a time: in {of} no tool was called")
    return lines


def _remark(what: str, found: StreamFigures | AgentFigures) -> list[str]:
    rest = found.rest
    lines = [f"{what}: {rest.failed} failed: {rest.why}"] if rest.failed else []
    if rest.unfinished:
        late = f"{rest.unfinished} under way when the time was over"
        lines.append(f"{what}: {late}; --seconds gives more than {found.seconds:.0f}")
    return lines
