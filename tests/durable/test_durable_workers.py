"""Workers that share a PostgreSQL: whatever happens to them, every run ends once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import SCRIPT, environment
from payments import brain
from postgres_server import Server, server
from typing_extensions import Self

from agentcall.testing import FakeServer, Reply

pytestmark = pytest.mark.durable

RUNS, WORKERS, STEPS = 200, 4, 3
LATENCY = 0.1
AGENT = """
import os
from pathlib import Path
from payments import agent_at

agent = agent_at(os.environ["MODEL"], Path(__file__).parent, {})
"""


@pytest.fixture(scope="module")
def postgres() -> Generator[Server, None, None]:
    with server() as found:
        yield found


@pytest.fixture
def bank() -> Generator[FakeServer, None, None]:
    def answer(
        messages: Sequence[Mapping[str, object]], tools: Sequence[Mapping[str, object]]
    ) -> Reply:
        time.sleep(LATENCY)
        return brain(messages, tools)

    with FakeServer(brain=answer) as found:
        yield found


class Crew:
    """Workers of which one dies now and then, and is replaced."""

    def __init__(self, folder: Path, url: str, env: Mapping[str, str]) -> None:
        self._folder, self._url, self._env = folder, url, env
        self._workers = [self._hired() for _ in range(WORKERS)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()

    def kill_one(self) -> None:
        place = random.randrange(WORKERS)
        self._workers[place].send_signal(signal.SIGKILL)
        self._workers[place].wait()
        self._workers[place] = self._hired()

    def dismiss(self) -> None:
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            assert worker.wait(60) in (130, -signal.SIGTERM)  # it may have just been hired

    def _hired(self) -> subprocess.Popen[bytes]:
        words = ("worker", "-a", "shop.py:agent", "--db", self._url, "--lease", "3", "-q")
        return subprocess.Popen([SCRIPT, *words], cwd=self._folder, env=self._env)


def test_two_hundred_runs_end_once_though_a_worker_is_killed_every_two_seconds(
    postgres: Server, bank: FakeServer, tmp_path: Path
) -> None:
    url = postgres.schema()
    env = environment(MODEL=bank.url, PYTHONPATH=str(Path(__file__).parents[1] / "support"))
    (tmp_path / "shop.py").write_text(AGENT)
    (tmp_path / "tasks.jsonl").write_text(f'"pay {STEPS}"\n' * RUNS)
    batch = [SCRIPT, "batch", "tasks.jsonl", "-o", "results.jsonl", "-a", "shop.py:agent",
             "--db", url, "-q"]  # fmt: skip
    with Crew(tmp_path, url, env) as crew:
        waiting = subprocess.Popen(batch, cwd=tmp_path, env=env)
        for kills in range(1, 41):  # then a machine that is too busy to live with it is left alone
            with suppress(subprocess.TimeoutExpired):
                waiting.wait(2)
                break
            crew.kill_one()
            if kills == 3:  # the batch itself, too
                waiting.kill()
                waiting.wait()
                waiting = subprocess.Popen(batch, cwd=tmp_path, env=env)
        assert waiting.wait(240) == 0
        crew.dismiss()
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == list(range(1, RUNS + 1))
    assert {(line["stop_reason"], line["output"]) for line in lines} == {("final", "All is paid.")}
    paid = [line.split() for line in (tmp_path / "ledger").read_text().splitlines()]
    made = sorted((key.split(":")[0], int(n)) for n, key in paid)
    assert made == sorted((line["run_id"], n) for line in lines for n in range(1, STEPS + 1))
    assert kills >= 5
