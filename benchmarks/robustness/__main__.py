"""Run the battery of scenarios.

python -m benchmarks.robustness              agentcall, plain and streamed
python -m benchmarks.robustness --peers      also its peers, each in its own environment
python -m benchmarks.robustness --peers agno smolagents

The results are written to results.json and to the tables of docs/robustness.md; those of other
frameworks are not changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from importlib.metadata import version
from time import perf_counter
from typing import Protocol

from benchmarks.robustness import page, results
from benchmarks.robustness.installation import PEERS
from benchmarks.robustness.ours import run_agentcall
from benchmarks.robustness.peer_process import PeerProcess
from benchmarks.robustness.results import MODES, Figure, Mode, Record, make_figure
from benchmarks.robustness.scenario import Scenario
from benchmarks.robustness.suite import GROUPS, SCENARIOS
from benchmarks.robustness.verdict import Outcome


class Run(Protocol):
    """A function that runs a scenario with a framework."""

    def __call__(self, scenario: Scenario, *, stream: bool) -> Outcome:
        """Return the outcome."""
        ...


def main() -> None:
    """Measure what the command line selects, and save the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness")
    names = [peer.name for peer in PEERS]
    parser.add_argument(
        "--peers", nargs="*", choices=names, default=None, help="peers to measure; all if none"
    )
    options = parser.parse_args()
    for record in _measure_all(options.peers):
        records = results.merge_records(results.load_records(), [record])
        results.save_records(records)
        page.write_page(records)


def _measure_all(peers: list[str] | None) -> Iterator[Record]:
    versions = {"agentcall": version("agentcall")}
    yield _measure_framework("agentcall", versions, run_agentcall)
    for peer in PEERS if peers is not None else ():
        if not peers or peer.name in peers:
            with closing(PeerProcess(peer)) as worker:
                worker.start()
                yield _measure_framework(peer.name, worker.versions, worker.run)


def _measure_framework(name: str, versions: dict[str, str], run: Run) -> Record:
    start = perf_counter()
    figures: dict[Mode, dict[str, Figure]] = {
        mode: _measure_mode(name, mode, run) for mode in MODES
    }
    today = datetime.now(timezone.utc).date().isoformat()
    record = Record(name, versions, today, round(perf_counter() - start, 1), figures)
    for mode in MODES:
        scores = ", ".join(record.score(mode, group.scenarios) for group in GROUPS)
        print(f"{name}, {mode}: {scores}; {record.seconds:g} s", flush=True)
    return record


def _measure_mode(name: str, mode: Mode, run: Run) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for scenario in SCENARIOS:
        figure = make_figure(scenario, run(scenario, stream=mode == "streamed"))
        figures[scenario.name] = figure
        print(f"{name:14} {mode:9} {figure.cell:6} {scenario}  {figure.wrong}", flush=True)
    return figures


if __name__ == "__main__":
    main()
