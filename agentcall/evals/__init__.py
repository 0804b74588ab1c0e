"""Evaluations: how often an agent does the right thing, with its model and its tools."""

from agentcall.evals.case import Case, load_cases
from agentcall.evals.checks import (
    Check,
    answer_contains,
    answer_equals,
    answer_matches,
    call_order,
    called,
    judged,
    max_requests,
    not_called,
)
from agentcall.evals.report import Comparison, Interval, Report, Trial, compare_reports
from agentcall.evals.runner import evaluate, evaluate_sync

__all__ = [
    "Case",
    "Check",
    "Comparison",
    "Interval",
    "Report",
    "Trial",
    "answer_contains",
    "answer_equals",
    "answer_matches",
    "call_order",
    "called",
    "compare_reports",
    "evaluate",
    "evaluate_sync",
    "judged",
    "load_cases",
    "max_requests",
    "not_called",
]
