"""The progress that tools report while they run, as events of the run.

Rules:
1. A tool never waits: what it reports is queued, from whatever thread, and emitted in the run's
   event loop, in the order in which it was reported.
2. A call's progress is emitted before its end; what is reported after it is logged and dropped.
3. Progress is not state: it is not recorded, and a call that is not executed again reports none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress

from agentcall.events import Emit, ToolProgress
from agentcall.messages import ToolCall

_log = logging.getLogger("agentcall.tools")


class ProgressQueue:
    """What the running calls of one run have reported; created in the run's event loop."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._running: dict[str, ToolCall] = {}
        self._values: deque[tuple[str, object]] = deque()
        self._late: set[str] = set()
        self._is_scheduled = False

    def begin(self, call: ToolCall) -> None:
        """Accept the progress of a call."""
        self._running[call.id] = call

    def end(self, call_id: str) -> None:
        """Emit the rest of a call's progress; drop what is reported from now on."""
        if self._values:
            self._flush()
        self._running.pop(call_id, None)

    def report(self, call_id: str, value: object) -> None:
        """Queue a value. May be called from any thread."""
        if call_id not in self._running:
            self._drop(call_id)
            return
        self._values.append((call_id, value))
        try:
            is_in_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_in_loop = False
        if is_in_loop:
            self._flush()
        elif not self._is_scheduled:
            # A value that is queued between the two lines below is emitted by the `_flush` that
            # this schedules, as that resets the mark before it looks at the queue.
            self._is_scheduled = True
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        while self._values:
            call_id, value = self._values.popleft()
            call = self._running.get(call_id)
            if call is None:
                self._drop(call_id)
            else:
                self._emit(ToolProgress(call, value))

    def _drop(self, call_id: str) -> None:
        """Log, once for each call, that it reports after its end."""
        if call_id not in self._late:
            self._late.add(call_id)
            _log.info("progress of the call %s came after its end: it is dropped", call_id)
