"""`agentcall eval`: runs the cases of a file, and prints what passed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from agentcall.cli.command import make_app
from agentcall.cli.interrupt import InterruptibleLoop
from agentcall.cli.load import build_agent
from agentcall.cli.options import AgentOptions
from agentcall.cli.terminal import write_note
from agentcall.errors import UsageError
from agentcall.evals import Comparison, Report, Trial, compare_reports, evaluate, load_cases
from agentcall.models.resolve import describe_model

EVAL_HELP = """Run the cases of a file, and print what passed.

A case is a question, and checks of the calls and of the answer: YAML or lines of JSON
(docs/evals.md). Several models are compared: give -m several times.

\b
  agentcall eval cases.yaml -t shop.py
  agentcall eval cases.yaml -t shop.py -m ollama:qwen3:8b --also vllm:Qwen/Qwen3-8B
  agentcall eval cases.yaml -t shop.py --json report.json --before last.json

\b
Exit codes: 0 all trials passed, or as many as --min asks for; 1 fewer did; 2 the command is wrong.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions(AgentOptions):
    """Options of `agentcall eval`."""

    cases_file: Annotated[str, typer.Argument(metavar="FILE", help="The file of cases.")]
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="MODEL", help="A further model to compare. Repeatable."),
    ] = None
    repeat: Annotated[
        int | None,
        typer.Option(
            "--repeat",
            min=1,
            metavar="N",
            help="Runs of each case. Default: 10, or 1 with --temperature 0.",
        ),
    ] = None
    concurrency: Annotated[
        int,
        typer.Option("--concurrency", min=1, metavar="N", help="Runs at the same time."),
    ] = 8
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="MODEL", help="The model of `judge` checks. Default: -m."),
    ] = None
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the report with all conversations."),
    ] = None
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="FILE", help="Compare with this report of --json."),
    ] = None
    min_share: Annotated[
        float,
        typer.Option("--min", min=0, max=1, metavar="SHARE", help="The share that has to pass."),
    ] = 1.0
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only the totals.")] = False


def run_eval(options: EvalOptions) -> int:
    """Evaluate and return the exit code. Raises UsageError."""
    cases = load_cases(options.cases_file, options.judge or options.model)
    earlier = None if options.before is None else Report.from_json(_read(options.before))
    agent = build_agent(options)
    agents = [agent, *(replace(agent, model=model) for model in options.also or ())]
    reports: list[Report] = []
    with InterruptibleLoop() as loop:
        for one in agents:
            label = describe_model(one.model).strip("'") if one.model is not None else "default"
            work = evaluate(
                one,
                cases,
                repeat=options.repeat,
                concurrency=options.concurrency,
                label=label,
                on_trial=None if options.quiet else _print_trial,
            )
            reports.append(loop.run(work))
    for report in reports:
        _print_report(report, quiet=options.quiet)
    for other in reports[1:]:
        _print_comparison(reports[0].label, other.label, compare_reports(reports[0], other))
    if earlier is not None:
        _print_comparison("before", "now", compare_reports(earlier, reports[0]))
    if options.json_file is not None:
        Path(options.json_file).write_text(reports[0].to_json(), "utf-8")
    return 0 if all(report.passed.share >= options.min_share for report in reports) else 1


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"the report {path} cannot be read: {error}") from error


def _print_trial(trial: Trial) -> None:
    if not trial.passed:
        write_note(f"{trial.case} (run {trial.number}): {'; '.join(trial.problems)}")


def _print_report(report: Report, *, quiet: bool) -> None:
    rows = [
        (name, f"{sum(t.passed for t in trials)}/{len(trials)}")
        for name, trials in report.cases.items()
    ]
    labels = [*(name for name, _ in rows), *(f"[{tag}]" for tag in report.tags), "passed"]
    width = max(map(len, labels))
    typer.echo(f"\n{report.label}")
    for name, share in () if quiet else rows:
        typer.echo(f"  {name:<{width}}  {share}")
    for tag, interval in report.tags.items():
        typer.echo(f"  {f'[{tag}]':<{width}}  {interval}")
    usage, count = report.usage, len(report.trials)
    typer.echo(f"  {'passed':<{width}}  {report.passed}")
    typer.echo(
        f"  {usage.requests / count:.1f} requests, {usage.total_tokens / count:,.0f} tokens and "
        f"{_mean_seconds(report.trials):.1f} s a run"
    )


def _mean_seconds(trials: Sequence[Trial]) -> float:
    return sum(trial.seconds for trial in trials) / len(trials)


def _print_comparison(one: str, other: str, comparison: Comparison) -> None:
    typer.echo(f"\n{one} -> {other}: p = {comparison.p_value:g} (McNemar)")
    for word, names in (("gained", comparison.gained), ("lost", comparison.lost)):
        typer.echo(f"  {word} {len(names)}{': ' if names else ''}{', '.join(names)}")


app = make_app(EvalOptions, run_eval, EVAL_HELP)
