from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_line import (
    SCRIPT,
    TOOLS,
    Terminal,
    agentcall,
    asked,
    environment,
    kept_in,
    model_of,
)
from rows import each_row

from agentcall import Agent, Approved, Denied, Edited, tool
from agentcall.cli.approvals import parse_decision_options
from agentcall.cli.load import make_recipe
from agentcall.cli.options import ResumeOptions, RunOptions
from agentcall.cli.resume import resume_run
from agentcall.display import format_full_call
from agentcall.errors import UsageError
from agentcall.messages import ToolCall, Usage
from agentcall.result import MissingOutput, PendingCall, RunResult
from agentcall.testing import (
    FakeServer,
    ScriptedCall,
    ScriptedModel,
    call,
    calls,
    forever,
    say,
    status,
)

MORE = """
@tool(requires_approval=True)
def send(to: str, text: str = "") -> str:
    "Sends."
    with open("sent", "a") as log:
        log.write(to + "\\n")
    return f"sent to {to}"
"""
TEAM = """
from agentcall import Agent
from mine import send

mailer = Agent(tools=[send], name="mailer")
agent = Agent(tools=[mailer.as_tool("mailer", "Sends mail.")])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(TOOLS + MORE)
    return tmp_path


def journal(folder: Path) -> Path:
    return folder / "state" / "agentcall" / "runs.db"


def state_of(folder: Path, run: str) -> str:
    """The state of a run, as `agentcall runs list` says it."""
    rows = json.loads(agentcall("runs", "list", "--json", cwd=folder).stdout)
    return next(row["state"] for row in rows if row["run_id"] == run)


def begun(folder: Path, server: FakeServer, *more: str) -> str:
    """The id of a run that waits."""
    done = agentcall("run", "?", "-t", "mine.py", "-m", server.url, *more, cwd=folder)
    assert done.returncode == 4, done.stderr
    (run,) = set(re.findall(r"agentcall resume (\w+) ", done.stderr))
    return run


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A journal with a run that waits for `send(to="ann")`, call_1; and the run's id."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "mine.py").write_text(TOOLS + MORE)
    with model_of(calls(ScriptedCall("send", {"to": "ann"}, id="call_1"))) as server:
        run = begun(folder, server)
    return journal(folder), run


@pytest.fixture
def run(folder: Path, one_run: tuple[Path, str]) -> str:
    """The id of that run, which waits in the folder."""
    path, run = one_run
    shutil.copytree(path.parent, journal(folder).parent)
    return run


def resumed(folder: Path, run: str, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return agentcall("resume", run, "-t", "mine.py", "-m", url, *words, cwd=folder)


def sent(folder: Path) -> Sequence[str]:
    log = folder / "sent"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(
    ("decision", "told", "did"),
    [
        (["--approve", "call_1"], "sent to ann", ["ann"]),
        (["--deny", "call_1=not = today"], "not = today", []),
        (["--edit", 'call_1={"to": "bob"}'], "sent to bob", ["bob"]),
    ],
)
def test_a_run_goes_on_in_another_process(
    folder: Path, run: str, decision: list[str], told: str, did: list[str]
) -> None:
    with model_of(say("Well.")) as server:
        done = resumed(folder, run, server.url, *decision)
        assert (done.returncode, done.stdout) == (0, "Well.\n"), done.stderr
        assert told in asked(server)[-1].messages[-1]["content"]
    assert sent(folder) == did
    assert state_of(folder, run) == "ended: final"


def test_the_state_is_for_its_owner_and_holds_no_secret(folder: Path) -> None:
    with model_of(call("send", to="ann"), say("x")) as server:
        url = server.url.replace("http://", "http://canary-user:canary-password@")
        done = agentcall(
            "run", "?", "-t", "mine.py", "-m", url, cwd=folder,
            env={"AGENTCALL_API_KEY": "canary-key"},
        )  # fmt: skip
    assert done.returncode == 4
    path = journal(folder)
    assert path.parent.stat().st_mode & 0o077 == 0
    for file in path.parent.glob("runs.db*"):
        assert file.stat().st_mode & 0o777 == 0o600
        assert b"canary" not in file.read_bytes()
    assert "canary" not in done.stderr
    run = re.findall(r"agentcall resume (\w+) ", done.stderr)[0]
    records = json.loads(agentcall("runs", "show", run, "--json", cwd=folder).stdout)
    assert [record["kind"] for record in records] == ["begin", "pause"]
    assert records[0]["recipe"]["tools"] == [str(folder / "mine.py")]


def test_a_run_is_made_again_as_it_was_and_goes_on_once(folder: Path) -> None:
    with model_of(call("send", to="ann"), say("Well.")) as server:
        run = begun(folder, server)
        done = agentcall("resume", run, "--approve", "all", cwd=folder)
        assert (done.returncode, done.stdout) == (0, "Well.\n")
        again = agentcall("resume", run, "--approve", "all", cwd=folder)
    assert (again.returncode, again.stdout, sent(folder)) == (0, "Well.\n", ["ann"])
    assert "no call waits for approval" in again.stderr


def test_what_was_begun_and_killed_is_told(folder: Path, run: str) -> None:
    dies = MORE.replace("return f", "import os; os._exit(9)\n    f")
    (folder / "mine.py").write_text(TOOLS + dies)
    with model_of(say("Well.")) as server:
        assert resumed(folder, run, server.url, "--approve", "all").returncode == 9
        again = resumed(folder, run, server.url, "--approve", "all")
    assert sent(folder) == ["ann"]
    assert "outcome is unknown" in again.stderr


def test_a_decision_is_kept_where_the_server_is_gone(folder: Path, run: str) -> None:
    done = resumed(folder, run, "http://127.0.0.1:9/v1#m", "--deny", "all")
    assert done.returncode == 3
    assert f"continue it: agentcall resume {run}" in done.stderr
    with model_of(say("Well.")) as server:
        again = resumed(folder, run, server.url)
    assert (again.returncode, again.stdout, sent(folder)) == (0, "Well.\n", [])


def test_a_run_may_wait_again(folder: Path) -> None:
    script = [
        call("send", to="ann"),
        call("send", to="bob"),
        call("delete", path="/"),
        say("Well."),
    ]
    with model_of(*script) as server:
        run = begun(folder, server)
        half = agentcall("resume", run, "--approve", "all", cwd=folder)
        assert half.returncode == 4
        assert 'send(to="bob")' in half.stderr
        more = agentcall("resume", run, "--always-tool", "all", cwd=folder)
        assert more.returncode == 4
        assert 'delete(path="/")' in more.stderr
        done = agentcall("resume", run, "--deny", "all=no", cwd=folder)
    assert (done.returncode, done.stdout, sent(folder)) == (0, "Well.\n", ["ann", "bob"])


def test_what_waits_is_listed_and_shown(folder: Path, run: str) -> None:
    listed = agentcall("resume", cwd=folder)
    assert listed.stdout == f'{run}\tcall_1\tsend(to="ann")\n'
    shown = agentcall("resume", run, "-t", "mine.py", cwd=folder)
    assert shown.returncode == 4
    assert f"agentcall resume {run} --approve call_1" in shown.stderr
    assert state_of(folder, run) == "waits for approval"


WAITING = RunResult(
    MissingOutput("why"), (), 0, Usage(), "approval", "r",
    pending=tuple(PendingCall(ToolCall(n, "f", "{}"), "agent") for n in ("a", "a=b", "c")),
)  # fmt: skip


@each_row(
    ("options", "decided"),
    [
        (ResumeOptions(approve=["a"], deny=["c"]), {"a": Approved(), "c": Denied()}),
        (ResumeOptions(always_tool=["a=b"]), {"a=b": Approved(always="tool")}),
        (ResumeOptions(always_call=["c"]), {"c": Approved(always="call")}),
        (ResumeOptions(deny=["a=not = now"]), {"a": Denied("not = now")}),
        (ResumeOptions(deny=["a=b=why"]), {"a=b": Denied("why")}),
        (ResumeOptions(edit=['c={"x": 1}']), {"c": Edited('{"x": 1}')}),
        (ResumeOptions(approve=["all"]), dict.fromkeys(["a", "a=b", "c"], Approved())),
        (ResumeOptions(deny=["all=no"]), dict.fromkeys(["a", "a=b", "c"], Denied("no"))),
        (ResumeOptions(), {}),
    ],
)
def test_words_are_decisions(options: ResumeOptions, decided: object) -> None:
    assert dict(parse_decision_options(options, WAITING)) == decided


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ResumeOptions(approve=["nope"]),
            "'nope' names no pending call; these are pending: a, a=b, c",
        ),
        (ResumeOptions(approve=["a=why"]), "names no pending call"),
        (ResumeOptions(approve=["all"], deny=["a"]), "there are two decisions about a"),
    ],
)
def test_decisions_that_make_no_sense_are_refused(options: ResumeOptions, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        dict(parse_decision_options(options, WAITING))


def test_an_edit_that_does_not_fit_carries_nothing_out(folder: Path, run: str) -> None:
    done = resumed(folder, run, "http://127.0.0.1:9/v1#m", "--edit", 'all={"nobody": 1}')
    assert done.returncode == 2
    assert "do not fit" in done.stderr
    assert state_of(folder, run) == "waits for approval"


def test_a_state_that_a_program_has_written_needs_its_agent(folder: Path) -> None:
    @tool(requires_approval=True)
    def send(to: str) -> str:
        """Send."""
        return ""

    result = Agent(ScriptedModel([call("send", to="ann")]), tools=[send]).run_sync("go")
    (folder / "state.json").write_text(result.to_json())
    done = agentcall("resume", "state.json", "--approve", "all", cwd=folder)
    assert done.returncode == 2
    assert "-a file.py:agent" in done.stderr
    with model_of(say("Well.")) as server:
        done = agentcall(
            "resume",
            "state.json",
            "--approve",
            "all",
            "-t",
            "mine.py",
            "-m",
            server.url,
            cwd=folder,
        )
    assert (done.stdout, sent(folder)) == ("Well.\n", ["ann"])
    assert (folder / "state.json").exists()


def test_how_an_agent_was_made_names_its_mcp_servers_without_secrets() -> None:
    tools = ["mcp:agentcall mcp -t mine.py", "mcp:https://me:secret@host/mcp?key=secret", "mine.py"]
    assert make_recipe(RunOptions(tools=tools))["tools"] == [
        "mcp:agentcall mcp -t mine.py",
        "mcp:https://host/mcp",
        str(Path("mine.py").absolute()),
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"agentcall": 99}', '{"agentcall": 1}'])
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match="result of a run"):
        resume_run(ResumeOptions(run_id=str(tmp_path / "x.json")))


def test_json_says_what_waits(folder: Path) -> None:
    with model_of(call("send", to="ann"), say("Well.")) as server:
        done = agentcall("run", "?", "--json", "-t", "mine.py", "-m", server.url, cwd=folder)
        document = json.loads(done.stdout)
        assert document["stop_reason"] == "approval"
        (waits,) = document["pending"]
        assert (waits["name"], waits["arguments"]) == ("send", {"to": "ann"})
        done = agentcall(
            "resume", document["run_id"], "--approve", waits["id"], "--json", cwd=folder
        )
    assert json.loads(done.stdout)["output"] == "Well."


def test_a_run_in_a_session_goes_on_in_it(folder: Path) -> None:
    with model_of(call("send", to="ann"), say("Sent."), say("Yes.")) as server:
        run = begun(folder, server, "--session", "mail")
        warned = agentcall("run", "?", "-c", "-m", server.url, cwd=folder)
        assert f"agentcall resume {run}" in warned.stderr
        done = agentcall("resume", run, "--approve", "all", cwd=folder)
        assert done.stdout in ("Sent.\n", "Yes.\n")
    assert state_of(folder, run) == "ended: final"
    shown = agentcall("sessions", "show", "mail", cwd=folder).stdout
    assert 'send(to="ann")' in shown
    assert "-> sent to ann" in shown


def test_a_run_in_a_session_that_has_ended_gives_its_answer_again(folder: Path) -> None:
    with model_of(call("send", to="ann"), say("Sent.")) as server:
        run = begun(folder, server, "--session", "mail")
        agentcall("resume", run, "--approve", "all", cwd=folder)
        for decision in ([], ["--approve", "all"]):
            done = agentcall("resume", run, *decision, cwd=folder)
            assert (done.returncode, done.stdout) == (0, "Sent.\n"), done.stderr
    assert sent(folder) == ["ann"]


def test_a_run_in_a_session_that_fails_waits_no_longer(folder: Path) -> None:
    with model_of(call("send", to="ann"), forever(status(400))) as server:
        run = begun(folder, server, "--session", "mail")
        done = agentcall("resume", run, "--approve", "all", cwd=folder)
        assert done.returncode == 3
        assert agentcall("resume", cwd=folder).stdout == ""
        assert state_of(folder, run) == "ended: error"
    assert sent(folder) == ["ann"]


def test_a_run_in_a_session_that_is_interrupted_waits_no_longer(folder: Path) -> None:
    slow = MORE.replace("    return f", "    time.sleep(60)\n    return f")
    (folder / "mine.py").write_text(TOOLS + slow)
    with model_of(call("send", to="ann")) as server:
        run = begun(folder, server, "--session", "mail")
        process = subprocess.Popen(
            [SCRIPT, "resume", run, "--approve", "all"],
            cwd=folder,
            env=environment(**kept_in(folder)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 20
        while not sent(folder) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert agentcall("resume", cwd=folder).stdout == ""
        assert state_of(folder, run) == "ended: cancelled"
    assert sent(folder) == ["ann"]


def test_an_agent_in_an_agent_is_asked_about_at_the_command_line(folder: Path) -> None:
    (folder / "team.py").write_text(TEAM)
    script = [
        calls(ScriptedCall("mailer", {"task": "x"}, id="c1")),
        calls(ScriptedCall("send", {"to": "ann"}, id="c2")),
        say("sent"),
        say("Well."),
    ]
    with model_of(*script) as server:
        env = {"AGENTCALL_MODEL": server.url}
        done = agentcall("run", "?", "-a", "team.py:agent", cwd=folder, env=env)
        assert done.returncode == 4, done.stderr
        assert 'c1/c2  mailer ▸ send(to="ann")' in done.stderr
        (run,) = set(re.findall(r"agentcall resume (\w+) ", done.stderr))
        done = agentcall("resume", run, "--approve", "c1/c2", cwd=folder, env=env)
    assert (done.stdout, sent(folder)) == ("Well.\n", ["ann"])
    assert 'tool: mailer: send(to="ann") -> sent to ann' in done.stderr


# At a terminal.


WHETHER, WHAT = "why not: ", "as it was): "
"""The ends of the two questions."""


def typed(
    folder: Path, opened: list[Terminal], script: Sequence[object], *answers: tuple[str, str]
) -> Terminal:
    """A run at a terminal at which a person answers these questions."""
    asked_so_far: Counter[str] = Counter()
    with model_of(*script) as server:  # type: ignore[arg-type]
        shown = Terminal("run", "?", "-t", "mine.py", "-m", server.url, cwd=folder)
        opened.append(shown)
        for question, keys in answers:
            asked_so_far[question] += 1
            shown.wait_for(question, times=asked_so_far[question])
            shown.type(keys + "\n")
        assert shown.end() == 0
    return shown


def test_always_for_the_tool_is_asked_once(folder: Path, opened: list[Terminal]) -> None:
    script = [call("send", to="ann"), call("send", to="bob"), say("Well.")]
    shown = typed(folder, opened, script, (WHETHER, "t"))
    assert shown.text.count("why not: ") == 1
    assert sent(folder) == ["ann", "bob"]


def test_always_for_the_tool_holds_beside_it(folder: Path, opened: list[Terminal]) -> None:
    script = [calls(call("send", to="ann"), call("send", to="bob")), say("Well.")]
    shown = typed(folder, opened, script, (WHETHER, "tool"))
    assert (shown.text.count("why not: "), sorted(sent(folder))) == (1, ["ann", "bob"])


def test_always_for_the_call_is_for_that_call(folder: Path, opened: list[Terminal]) -> None:
    script = [call("send", to="ann"), call("add", a=1, b=1), call("send", to="ann"),
              call("send", to="bob"), say("Well.")]  # fmt: skip
    shown = typed(folder, opened, script, (WHETHER, "c"), (WHETHER, "n"))
    assert (shown.text.count("why not: "), sent(folder)) == (2, ["ann", "ann"])


def test_arguments_are_edited_until_they_fit(folder: Path, opened: list[Terminal]) -> None:
    script = [call("send", to="ann"), say("Well.")]
    shown = typed(
        folder, opened, script, (WHETHER, "e"), (WHAT, '{"whom": "bob"}'), (WHAT, '{"to": "bob"}')
    )
    assert "do not fit" in shown.text
    assert sent(folder) == ["bob"]


def test_editing_may_be_left(folder: Path, opened: list[Terminal]) -> None:
    script = [call("send", to="ann"), say("Well.")]
    shown = typed(folder, opened, script, (WHETHER, "e"), (WHAT, ""), (WHETHER, "y"))
    assert (shown.text.count("why not: "), sent(folder)) == (2, ["ann"])


def test_a_long_call_is_shown_whole(folder: Path, opened: list[Terminal]) -> None:
    text = " ".join(f"word{n}" for n in range(300)) + " and rm -rf at the end"
    script = [call("send", to="ann", text=text), say("Well.")]
    shown = typed(folder, opened, script, (WHETHER, "y"))
    flat = "".join(shown.text.split())
    assert "".join(text.split()) in flat


@each_row(
    ("arguments", "shown"),
    [
        ('{"to": "ann", "n": 3}', 'f(to="ann", n=3)'),
        ('{"to": "a\\nb\\u0000"}', 'f(to="a\\nb\\u0000")'),
        ('{"to": "a\u202eb\u200b"}', 'f(to="a\\u202eb\\u200b")'),
        ('{"to": "a  b"}', 'f(to="a  b")'),
        ('{"to": "a", "to": "b"}', 'f {"to": "a", "to": "b"}'),
        ('{"n": 1e400}', 'f {"n": 1e400}'),
        ('{"n": 0.10000000000000000001}', 'f {"n": 0.10000000000000000001}'),
        ("{", "f {"),
        ("{}", "f()"),
    ],
)
def test_a_call_is_shown_with_nothing_hidden(arguments: str, shown: str) -> None:
    assert format_full_call(ToolCall("a", "f", arguments)) == shown


def test_resume_asks_at_a_terminal(folder: Path, opened: list[Terminal], run: str) -> None:
    with model_of(say("Well.")) as server:
        shown = Terminal("resume", run, "-t", "mine.py", "-m", server.url, cwd=folder)
        opened.append(shown)
        shown.wait_for("why not: ")
        shown.type("y\n")
        assert shown.end() == 0
    assert "Well." in shown.text
    assert sent(folder) == ["ann"]
    assert state_of(folder, run) == "ended: final"


def test_a_server_that_is_gone_after_an_approval_is_an_error(folder: Path, run: str) -> None:
    with model_of(forever(status(400))) as server:
        done = resumed(folder, run, server.url, "--approve", "all")
    assert (done.returncode, sent(folder)) == (3, ["ann"])
    assert state_of(folder, run) == "stopped"
