"""A plan's figures beside those of nvidia-smi: pure arithmetic, and a table for docs/gpu.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentcall_server.memory_plan import MemoryPlan
from agentcall_server.units import format_size


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """Bytes in use on the GPU: before the server was started, once ready, and at most."""

    before: int
    ready: int
    highest: int


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One figure, in bytes: what the plan says, and what was measured."""

    what: str
    planned: int
    measured: int

    @property
    def difference(self) -> int:
        """Measured less planned; above zero: the plan promised too much room."""
        return self.measured - self.planned

    @property
    def share(self) -> float:
        """The difference as a share of what was planned."""
        return self.difference / self.planned if self.planned else 0.0


def compare_memory(
    plan: MemoryPlan, measured: MeasuredMemory
) -> tuple[ComparisonRow, ComparisonRow]:
    """What the server holds at the start and at most, others left out."""
    return (
        ComparisonRow("held at start", plan.bytes_at_start, measured.ready - measured.before),
        ComparisonRow("held at most", plan.peak_bytes, measured.highest - measured.before),
    )


def format_table(lines: Sequence[ComparisonRow]) -> str:
    """The lines as a table in Markdown."""
    rows = [
        f"| {line.what} | {format_size(line.planned)} | {format_size(line.measured)} "
        f"| {_format_signed(line.difference)} ({line.share:+.1%}) |"
        for line in lines
    ]
    return "\n".join(
        ["| | planned | nvidia-smi | difference |", "| --- | --- | --- | --- |", *rows]
    )


def _format_signed(size: int) -> str:
    return ("-" if size < 0 else "+") + format_size(abs(size))
