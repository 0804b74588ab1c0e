"""The process of a peer's adapter, which is restarted when it hangs or dies."""

from __future__ import annotations

import json
import os
import select
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from agentcall.testing import FakeServer
from benchmarks.robustness.installation import Peer, find_python
from benchmarks.robustness.scenario import Execution, Scenario
from benchmarks.robustness.verdict import Outcome

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT = 60.0
"""Timeout of a run, in seconds; starting an adapter may take twice as long."""

_QUIET = {
    "AGNO_TELEMETRY": "false",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "PYTHONUNBUFFERED": "1",
}


class PeerError(Exception):
    """An adapter does not start; the message has its name and command line."""


class _NoReply(Exception):
    """No reply in time, or the process is dead."""


@dataclass
class PeerProcess:
    """The process of a peer's adapter."""

    peer: Peer
    versions: dict[str, str] = field(default_factory=dict[str, str])
    _process: subprocess.Popen[str] | None = None

    def run(self, scenario: Scenario, *, stream: bool) -> Outcome:
        """Return the outcome of a scenario.

        Raises:
            PeerError: the adapter does not start.
        """
        self.start()
        with FakeServer(scenario.script, **scenario.traits) as server:
            task: dict[str, object] = {
                "url": server.url,
                "tools": scenario.tools,
                "question": scenario.question,
                "stream": stream,
            }
            try:
                said = self._request(task)
            except _NoReply as silence:
                self.close()
                return Outcome(None, error=str(silence), requests=len(server.requests))
            return _parse_outcome(said, len(server.requests))

    def close(self) -> None:
        """Kill the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def start(self) -> None:
        """Start the process unless it is running.

        Raises:
            InstallationError: pip could not create its environment.
            PeerError: the adapter does not start.
        """
        if self._process is not None:
            return
        module = f"benchmarks.robustness.peers.{Path(self.peer.adapter).stem}"
        command = [str(find_python(self.peer)), "-m", module]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **_QUIET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self.versions = self._read_line(2 * RUN_TIMEOUT)["versions"]
        except _NoReply as silence:
            self.close()
            raise PeerError(f"{self.peer.name}: {silence}; see: {' '.join(command)}") from None

    def _request(self, task: dict[str, object]) -> dict[str, Any]:  # Any: JSON
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        return self._read_line(RUN_TIMEOUT)

    def _read_line(self, seconds: float) -> dict[str, Any]:  # Any: JSON
        process = self._process
        assert process is not None
        out: IO[str] | None = process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], seconds)
        if not ready:
            raise _NoReply(f"no end after {seconds:g} seconds")
        line = out.readline()
        if not line:
            raise _NoReply("the process died")
        said: dict[str, Any] = json.loads(line)  # Any: JSON
        return said


def _parse_outcome(said: dict[str, Any], requests: int) -> Outcome:  # Any: JSON
    return Outcome(
        said["answer"],
        tuple(Execution(each["tool"], each["arguments"]) for each in said["executions"]),
        said["error"],
        requests=requests,
        seconds=said["seconds"],
    )
