"""More scenarios, from what users of local models reported."""

from __future__ import annotations

from benchmarks.robustness.answers import ANSWERS
from benchmarks.robustness.calls import CALLS, STREAMS
from benchmarks.robustness.loops import LOOPS, OVERFLOWS
from benchmarks.robustness.texts import TEXTS

MORE = (*TEXTS, *CALLS, *STREAMS, *ANSWERS, *LOOPS, *OVERFLOWS)
