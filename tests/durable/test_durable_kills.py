"""The kill matrix: kill -9 at every point of a run; every run ends, no effect is lost or doubled.

A point and a step say where the process dies; then the run is gone on with until it ends.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import pytest
from payments import brain, payments_of, result_of, standing
from postgres_server import Server, server
from zygote import Child, Zygote

from agentcall.testing import FakeServer, Reply

pytestmark = pytest.mark.durable

POINTS = (
    "request at server",
    "answer received",
    "tool entered",
    "effect done",
    "result recorded",
)
MATRIX = [
    ("not killed", 0),
    *[(point, step) for step in (1, 2, 3) for point in POINTS],
    ("request at server", 4),
    ("answer received", 4),
    ("final answer", 4),
]


class Bank:
    """The model's server, which knows where to kill whom."""

    def __init__(self) -> None:
        self._armed: tuple[str, int, Future[int]] | None = None
        self.server = FakeServer(brain=self._answer)

    def arm(self, point: str, step: int, pid: Future[int]) -> None:
        self._armed = (point, step, pid)

    def disarm(self) -> None:
        self._armed = None

    def _answer(
        self, messages: Sequence[Mapping[str, object]], tools: Sequence[Mapping[str, object]]
    ) -> Reply:
        n, unsure = standing(messages)
        match self._armed:
            case "request at server", step, pid if n == step and not unsure:
                self._armed = None
                os.kill(pid.result(), signal.SIGKILL)
            case "result recorded", step, pid if n > step:
                _wait_for_death(
                    pid.result()
                )  # it looks into its journal, and dies at what it sees there
            case _:
                pass
        return brain(messages, tools)


def _wait_for_death(pid: int) -> None:
    with suppress(ProcessLookupError):
        for _ in range(1000):
            os.kill(pid, 0)
            time.sleep(0.01)


@pytest.fixture(scope="module")
def postgres() -> Generator[Server, None, None]:
    with server() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runs.db"
    found: Server = request.getfixturevalue("postgres")
    return f"{found.schema()}"


@pytest.fixture(scope="module")
def zygote() -> Generator[Zygote, None, None]:
    with Zygote("payments", "aiohttp") as found:
        yield found


def started(zygote: Zygote, errand: Mapping) -> Child:
    return zygote.start("payments", [json.dumps(errand)], cwd=Path(str(errand["folder"])))


@pytest.fixture(scope="module")
def bank() -> Generator[Bank, None, None]:
    found = Bank()
    with found.server:
        yield found


def errand_of(bank: Bank, journal: str, folder: Path, steps: int, *, idempotent: bool) -> dict:
    return {
        "url": journal, "folder": str(folder), "model": bank.server.url, "steps": steps,
        "idempotent": idempotent,
    }  # fmt: skip


def run_until(bank: Bank, zygote: Zygote, errand: Mapping, point: str, step: int) -> int:
    """Runs, killed at the point; gives the exit code."""
    pid: Future[int] = Future()
    bank.arm(point, step, pid)  # before the child is there, which may ask at once
    child = started(zygote, {**errand, "point": point, "step": step})
    pid.set_result(child.pid)
    code = child.wait()
    bank.disarm()
    return code


def check(folder: Path, steps: int, *, idempotent: bool, unknown: bool | None) -> None:
    result = result_of(folder)
    assert (result["stop_reason"], result["output"]) == ("final", "All is paid.")
    made = payments_of(folder)
    numbers = [line.split()[0] for line in made]
    assert sorted(map(int, numbers)) == list(range(1, steps + 1))  # none lost, one key each
    if not idempotent:
        assert set(made.values()) == {1}
    if unknown is not None:
        notes = result.get("notes", [])
        assert isinstance(notes, list)
        assert any("outcome is unknown" in note for note in notes) == unknown


@pytest.mark.parametrize("idempotent", [False, True], ids=["once", "idempotent"])
@pytest.mark.parametrize(("point", "step"), MATRIX, ids=lambda value: str(value).replace(" ", "_"))
def test_a_run_of_three_steps_survives_a_kill(
    bank: Bank, zygote: Zygote, journal: str, tmp_path: Path, point: str, step: int,
    idempotent: bool,
) -> None:  # fmt: skip
    errand = errand_of(bank, journal, tmp_path, 3, idempotent=idempotent)
    code = run_until(bank, zygote, errand, point, step)
    assert code == (0 if point == "not killed" else -signal.SIGKILL)
    if code:
        assert not (tmp_path / "result.json").exists()
        assert run_until(bank, zygote, errand, "not killed", 0) == 0
    unknown = point in ("tool entered", "effect done") and not idempotent
    check(tmp_path, 3, idempotent=idempotent, unknown=unknown)


@pytest.mark.parametrize("idempotent", [False, True], ids=["once", "idempotent"])
def test_a_run_of_twenty_steps_survives_a_kill_at_each_of_them(
    bank: Bank, zygote: Zygote, journal: str, tmp_path: Path, idempotent: bool
) -> None:
    errand = errand_of(bank, journal, tmp_path, 20, idempotent=idempotent)
    for step in range(1, 21):
        code = run_until(bank, zygote, errand, POINTS[step % len(POINTS)], step)
        assert code == -signal.SIGKILL
    assert run_until(bank, zygote, errand, "final answer", 21) == -signal.SIGKILL
    assert run_until(bank, zygote, errand, "not killed", 0) == 0
    check(tmp_path, 20, idempotent=idempotent, unknown=not idempotent)


@pytest.mark.parametrize("idempotent", [False, True], ids=["once", "idempotent"])
def test_a_run_survives_kills_at_any_moment(
    bank: Bank, zygote: Zygote, journal: str, tmp_path: Path, idempotent: bool
) -> None:
    errand = errand_of(bank, journal, tmp_path, 20, idempotent=idempotent)
    dice, codes = random.Random(7), []
    for number in range(30):
        child = started(zygote, errand)
        seconds = dice.uniform(0, 0.1 + number / 20)  # a busy machine gets longer lives, too
        mercy = threading.Timer(seconds, os.kill, (child.pid, signal.SIGKILL))
        mercy.start()
        codes.append(child.wait())
        mercy.cancel()
        if codes[-1] == 0:
            break
    else:
        codes.append(run_until(bank, zygote, errand, "not killed", 0))
    assert codes[-1] == 0
    assert codes[:-1].count(-signal.SIGKILL) == len(codes) - 1 > 0
    check(tmp_path, 20, idempotent=idempotent, unknown=None)
