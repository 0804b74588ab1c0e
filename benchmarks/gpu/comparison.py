"""Compare the sizes of a memory plan with those of nvidia-smi, as a table for docs/gpu.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentcall_server.memory_plan import MemoryPlan
from agentcall_server.units import format_size


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """Used bytes of the GPU: before the server's start, when it is ready, and the peak."""

    before: int
    ready: int
    highest: int


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One size in bytes, as planned and as measured."""

    what: str
    planned: int
    measured: int

    @property
    def difference(self) -> int:
        """Measured minus planned; above zero the plan was too optimistic."""
        return self.measured - self.planned

    @property
    def share(self) -> float:
        """The difference as a share of the planned size."""
        return self.difference / self.planned if self.planned else 0.0


def compare_memory(
    plan: MemoryPlan, measured: MeasuredMemory
) -> tuple[ComparisonRow, ComparisonRow]:
    """Compare the memory of the server alone, at its start and at its peak."""
    return (
        ComparisonRow("held at start", plan.bytes_at_start, measured.ready - measured.before),
        ComparisonRow("held at most", plan.peak_bytes, measured.highest - measured.before),
    )


def format_table(lines: Sequence[ComparisonRow]) -> str:
    """Format the rows as a Markdown table."""
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
