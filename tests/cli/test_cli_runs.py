"""`agentcall run --durable`, `runs`, `worker` and `batch`, as processes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command_line import SCRIPT, TOOLS, agentcall, asked, environment, model_of

from agentcall.testing import FakeServer, RecordedRequest, Reply, call, calls, forever, say, status

MORE = (
    TOOLS
    + """
import os
from pathlib import Path

@tool
def slow(name: str) -> str:
    "Does slow work."
    with Path("ledger").open("a") as ledger:
        ledger.write(name + "\\n")
    time.sleep(60)
    return "done"

@tool
def note(name: str) -> str:
    "Notes."
    with Path("ledger").open("a") as ledger:
        ledger.write(name + "\\n")
    return "noted"

shop = Agent(tools=[note], name="shop")
"""
)
CANARY = "canary-4711"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MORE)
    return tmp_path


def state(folder: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(folder / "state")}


def begun(folder: Path, *words: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """A command that has come to its tool."""
    process = subprocess.Popen(
        [SCRIPT, *words], cwd=folder, env=environment(**env), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(3000):
        if (folder / "ledger").exists():
            return process
        time.sleep(0.01)
    raise AssertionError("it did not begin")


def test_a_run_is_listed_shown_and_its_answer_given_again(folder: Path) -> None:
    env = state(folder)
    with model_of(call("add", a=3, b=5), say("8")) as server:
        words = ("run", "3+5?", "-t", "mine.py", "-m", server.url, "--durable", "--run-id", "sum")
        assert agentcall(*words, cwd=folder, env=env).stdout == "8\n"
        assert agentcall("runs", "resume", "sum", cwd=folder, env=env).stdout == "8\n"
        assert len(asked(server)) == 2
    listed = agentcall("runs", "list", cwd=folder, env=env).stdout
    assert listed.split("\t")[:2] == ["sum", "ended: final"]
    [row] = json.loads(agentcall("runs", "list", "--json", cwd=folder, env=env).stdout)
    assert (row["run_id"], row["prompt"], row["outcome"]) == ("sum", "3+5?", "final")
    shown = agentcall("runs", "show", "sum", cwd=folder, env=env).stdout
    assert "started: 3+5?" in shown
    assert "calls: add(a=3, b=5)" in shown
    records = json.loads(agentcall("runs", "show", "sum", "--json", cwd=folder, env=env).stdout)
    kinds = [record["kind"] for record in records]
    assert kinds == ["begin", "turn", "start", "end", "turn", "finish"]


@pytest.mark.processes
def test_ctrl_c_leaves_a_run_that_goes_on_from_another_folder(folder: Path) -> None:
    env = state(folder)
    with model_of(call("slow", name="a"), say("I do not know.")) as server:
        process = begun(
            folder, "run", "go", "-t", "mine.py", "-m", server.url, "--durable", env=env
        )
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
        assert process.returncode == 130
        command = told.partition("continue it: agentcall ")[2].splitlines()[0].split()
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        done = agentcall(*command, cwd=elsewhere, env=env)
    assert (done.returncode, done.stdout) == (0, "I do not know.\n")
    assert "outcome is unknown" in done.stderr
    assert (folder / "ledger").read_text() == "a\n"


@pytest.mark.durable
def test_a_second_resume_names_the_first(folder: Path) -> None:
    env = state(folder)
    with model_of(call("slow", name="a"), say("ok")) as server:
        process = begun(folder, "run", "go", "-t", "mine.py", "-m", server.url, "--durable",
                        "--run-id", "x", env=env)  # fmt: skip
        listed = agentcall("runs", "list", cwd=folder, env=env).stdout
        second = agentcall("runs", "resume", "x", cwd=folder, env=env)
        stopped = agentcall("runs", "cancel", "x", cwd=folder, env=env)
        process.communicate(timeout=20)
        last = agentcall("runs", "cancel", "x", cwd=folder, env=env)
    assert f"running in the process {process.pid}" in listed
    assert second.returncode == 1
    assert f"being executed by the process {process.pid}" in second.stderr
    assert f"asked the process {process.pid}" in stopped.stdout
    assert process.returncode == 1  # it ended without an answer
    assert "has ended already: cancelled" in last.stderr


@pytest.mark.durable
def test_a_server_that_fails_leaves_a_run_that_goes_on(folder: Path) -> None:
    env = state(folder)
    with model_of(call("note", name="a"), status(400)) as server:
        words = ("run", "go", "-t", "mine.py", "-m", server.url, "--db", "sqlite:///own.db")
        done = agentcall(*words, cwd=folder, env=env)
    assert done.returncode == 3
    assert "agentcall resume" in done.stderr
    command = done.stderr.partition("continue it: agentcall ")[2].splitlines()[0].split()
    with model_of(say("done")) as server:
        again = agentcall(*command, "-m", server.url, cwd=folder, env=env)
    assert again.stdout == "done\n"
    assert (folder / "ledger").read_text() == "a\n"


@pytest.mark.durable
def test_words_for_a_run_that_is_not_there(folder: Path) -> None:
    env = state(folder)
    for words in (("resume", "x"), ("show", "x"), ("cancel", "x")):
        done = agentcall("runs", *words, cwd=folder, env=env)
        assert done.returncode == 2
        assert "there is no run x" in done.stderr
    assert agentcall("runs", "list", cwd=folder, env=env).stdout == ""
    missing = agentcall("runs", "list", "--db", "sqlite:///no.db", cwd=folder, env=env)
    assert missing.returncode == 2
    assert "there is no journal at" in missing.stderr


def test_no_secret_is_in_a_journal_or_in_what_is_said(folder: Path) -> None:
    env = {**state(folder), "AGENTCALL_API_KEY": f"{CANARY}-key", "PRIVATE": f"{CANARY}-env"}
    words = ("-t", "mine.py", "--durable", "--run-id")
    with model_of(call("note", name="a"), status(400)) as server:
        url = (
            server.url.replace("://", f"://me:{CANARY}-user@") + f"?token={CANARY}-query#fake-model"
        )
        said = [agentcall("run", "go", "-m", url, *words, "x", cwd=folder, env=env)]
        said += [agentcall("runs", verb, "x", cwd=folder, env=env) for verb in ("show", "resume")]
    said.append(agentcall("runs", "show", "x", "--json", cwd=folder, env=env))
    for done in said:
        assert CANARY not in done.stdout + done.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "runs.db" for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


# Batches and workers.


def results(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def note_brain(messages: list[dict[str, object]], tools: object) -> Reply:
    last = messages[-1]
    if last["role"] == "tool":
        return say(f"{messages[-2]['tool_calls'][0]['function']['arguments']} {last['content']}")  # type: ignore[index]
    return call("note", name=str(last["content"]))


def test_a_batch_writes_a_line_for_each_task_and_takes_its_journal_away(folder: Path) -> None:
    (folder / "tasks.jsonl").write_text('"a"\n\n{"prompt": "b", "id": "bee"}\n')
    with FakeServer(brain=note_brain) as server:
        words = ("batch", "tasks.jsonl", "-o", "out.jsonl", "-t", "mine.py", "-m", server.url)
        done = agentcall(*words, cwd=folder)
        again = agentcall(*words, cwd=folder)
    assert (done.returncode, again.returncode) == (0, 0)
    assert "2 of 2 tasks in out.jsonl: 2 final" in done.stderr
    assert {line["id"]: line["output"] for line in results(folder)} == {
        1: '{"name": "a"} noted',
        "bee": '{"name": "b"} noted',
    }
    assert sorted((folder / "ledger").read_text().split()) == ["a", "b"]
    assert not list(folder.glob("out.jsonl.runs.db*"))


def test_what_is_wrong_with_a_task_is_in_its_line_alone(folder: Path) -> None:
    tasks = ['"good"', "no json", "[1]", '{"prompt": 5}', '{"promt": "x"}', '{"id": 9}']
    (folder / "tasks.jsonl").write_text("\n".join(tasks))
    with FakeServer(brain=note_brain) as server:
        words = ("batch", "tasks.jsonl", "-o", "out.jsonl", "-t", "mine.py", "-m", server.url)
        done = agentcall(*words, cwd=folder)
    assert done.returncode == 1
    errors = {line["id"]: line["error"] for line in results(folder)}
    assert errors.pop(1) is None
    assert {error["type"] for error in errors.values()} == {"BadTask"}  # type: ignore[index]
    assert len(errors) == 5


@pytest.mark.durable
def test_a_batch_that_was_killed_goes_on_and_mends_a_torn_line(folder: Path) -> None:
    names = [f"task{n}" for n in range(30)]
    (folder / "tasks.jsonl").write_text("".join(f'"{name}"\n' for name in names))

    def answer(request: RecordedRequest) -> Reply:
        time.sleep(0.05)
        return note_brain(request.messages, request.tools)  # type: ignore[arg-type]

    words = ["batch", "tasks.jsonl", "-o", "out.jsonl", "-t", "mine.py", "--concurrency", "3", "-q"]
    with FakeServer(answer) as server:
        words += ["-m", f"{server.url}#fake-model"]
        for _ in range(3):
            process = subprocess.Popen([SCRIPT, *words], cwd=folder, env=environment())
            out, before = folder / "out.jsonl", len((folder / "ledger").read_text()) if (
                folder / "ledger").exists() else 0  # fmt: skip
            for _ in range(3000):
                if (folder / "ledger").exists() and len((folder / "ledger").read_text()) > before:
                    break
                time.sleep(0.01)
            time.sleep(0.1)
            process.kill()
            process.wait()
            with out.open("a") as file:
                file.write('{"id": 77, "run_id": "torn')
        last = agentcall(*words, cwd=folder)
    assert last.returncode == 0, last.stderr
    assert sorted(line["id"] for line in results(folder)) == list(range(1, 31))  # type: ignore[type-var]
    notes = (folder / "ledger").read_text().split()
    assert set(notes) <= set(names)
    assert len(notes) == len(set(notes))
    unknown = [line for line in results(folder) if "notes" in line]
    assert len(set(notes)) + len(unknown) >= 30


@pytest.mark.durable
def test_two_batches_do_not_write_one_file(folder: Path) -> None:
    (folder / "tasks.jsonl").write_text('"a"\n')
    with model_of(call("slow", name="a"), say("ok")) as server:
        words = ("batch", "tasks.jsonl", "-o", "out.jsonl", "-t", "mine.py", "-m", server.url)
        process = begun(folder, *words, env={})
        second = agentcall(*words, cwd=folder)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert second.returncode == 2
    assert "another process writes" in second.stderr
    assert process.returncode == 130
    assert "the same command continues" in told


@pytest.mark.durable
def test_tasks_that_failed_are_tried_again_where_that_is_asked_for(folder: Path) -> None:
    (folder / "tasks.jsonl").write_text('"a"\n"b"\n')
    words = ("batch", "tasks.jsonl", "-o", "out.jsonl", "-t", "mine.py", "--concurrency", "1")
    with model_of(say("fine"), forever(status(400))) as server:
        done = agentcall(*words, "-m", f"{server.url}#fake-model", cwd=folder)
    assert done.returncode == 1
    assert "--retry" in done.stderr
    assert [line["stop_reason"] for line in results(folder)] == ["final", "error"]
    with model_of(say("better")) as server:
        again = agentcall(*words, "-m", f"{server.url}#fake-model", cwd=folder)
        assert (again.returncode, len(asked(server))) == (1, 0)
        last = agentcall(*words, "-m", f"{server.url}#fake-model", "--retry", cwd=folder)
    assert last.returncode == 0
    assert sorted(str(line["output"]) for line in results(folder)) == ["better", "fine"]


@pytest.mark.durable
def test_a_batch_whose_server_is_gone_stops_before_all_its_tasks_have_failed(folder: Path) -> None:
    (folder / "tasks.jsonl").write_text("".join(f'"{n}"\n' for n in range(40)))
    words = ("batch", "tasks.jsonl", "-o", "out.jsonl", "--concurrency", "1")
    with model_of(status(400)) as server:
        done = agentcall(*words, "-m", f"{server.url}#fake-model", cwd=folder)
    assert done.returncode == 3
    assert "10 tasks failed in a row" in done.stderr
    assert len(results(folder)) == 10
    with model_of(say("ok")) as server:
        again = agentcall(*words, "-m", f"{server.url}#fake-model", "--retry", cwd=folder)
    assert again.returncode == 0
    assert len(results(folder)) == 40


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no.jsonl", "-o", "out.jsonl"), "cannot be read"),
        (("tasks.jsonl", "-o", "out.jsonl", "--rate", "fast"), "such as 5/s"),
        (("twice.jsonl", "-o", "out.jsonl"), "has the id 'x', which an earlier line has too"),
        (("tasks.jsonl", "-o", "mine.py"), "is not a result of a batch"),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused(
    folder: Path, words: tuple[str, ...], told: str
) -> None:
    (folder / "tasks.jsonl").write_text('"a"\n')
    (folder / "twice.jsonl").write_text('{"id": "x", "prompt": "a"}\n' * 2)
    done = agentcall("batch", *words, "-m", "http://127.0.0.1:9/v1#fake-model", cwd=folder)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.durable
def test_a_rate_holds_requests_apart(folder: Path) -> None:
    (folder / "tasks.jsonl").write_text('"a"\n' * 4)
    with model_of(say("ok")) as server:
        words = ("batch", "tasks.jsonl", "-o", "out.jsonl", "--rate", "4/s", "-m", server.url)
        began = time.monotonic()
        assert agentcall(*words, cwd=folder).returncode == 0
    assert time.monotonic() - began >= 0.75


@pytest.mark.durable
def test_workers_on_one_machine_share_an_sqlite_journal(folder: Path) -> None:
    env = {"AGENTCALL_DB": "sqlite:///runs.db"}
    (folder / "leave.py").write_text("""
import asyncio
from mine import shop
from agentcall.durable import durable

async def main():
    with durable(shop, "sqlite:///runs.db") as runs:
        for n in range(12):
            await runs.enqueue(f"n{n}", run_id=f"n{n}")

asyncio.run(main())
""")
    with FakeServer(brain=note_brain) as server:
        env["AGENTCALL_MODEL"] = f"{server.url}#fake-model"
        python = str(Path(SCRIPT).with_name("python"))
        subprocess.run([python, "leave.py"], cwd=folder, env=environment(**env), check=True)
        words = (SCRIPT, "worker", "-a", "mine.py:shop", "--until-empty")
        crew = [subprocess.Popen(words, cwd=folder, env=environment(**env)) for _ in range(2)]
        assert [worker.wait(60) for worker in crew] == [0, 0]
    assert sorted((folder / "ledger").read_text().split()) == sorted(f"n{n}" for n in range(12))
    rows = json.loads(agentcall("runs", "list", "--json", cwd=folder, env=env).stdout)
    assert {(row["state"], row["queue"]) for row in rows} == {("ended: final", "shop")}


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (["--approve", "all"], "deleted x"),
        (["--deny", "all=it is needed"], "it is needed"),
        (["--edit", 'all={"path": "y"}'], "deleted y"),
    ],
)
def test_a_durable_run_goes_on_with_the_decisions_that_are_said(
    folder: Path, decision: list[str], told: str
) -> None:
    env = state(folder)
    with model_of(calls(call("delete", path="x")), say("Well.")) as server:
        words = ("run", "go", "-t", "mine.py", "-m", server.url, "--durable", "--run-id", "x")
        assert agentcall(*words, cwd=folder, env=env).returncode == 4
        wrong = agentcall("runs", "resume", "x", "--approve", "nobody", cwd=folder, env=env)
        assert wrong.returncode == 2
        assert "'nobody' names no pending call" in wrong.stderr
        done = agentcall("runs", "resume", "x", *decision, cwd=folder, env=env)
        assert (done.returncode, done.stdout) == (0, "Well.\n"), done.stderr
        assert told in asked(server)[-1].messages[-1]["content"]
        late = agentcall("runs", "resume", "x", *decision, cwd=folder, env=env)
    assert (late.returncode, late.stdout) == (0, "Well.\n")
    assert "no call waits" in late.stderr


@pytest.mark.durable
def test_a_call_waits_for_approval_without_a_terminal(folder: Path) -> None:
    env = state(folder)
    with model_of(calls(call("delete", path="x")), say("I may not.")) as server:
        words = ("run", "go", "-t", "mine.py", "-m", server.url, "--durable")
        done = agentcall(*words, cwd=folder, env=env)
    assert (done.returncode, done.stdout) == (4, "")
    assert "agentcall resume" in done.stderr
