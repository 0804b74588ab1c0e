from __future__ import annotations

import json
from pathlib import Path

from command_line import agentcall

from agentcall.testing import FakeServer, forever, say, status


def test_a_healthy_server_ends_with_0_and_says_what_it_is(tmp_path: Path) -> None:
    with FakeServer([forever(say("x"))], models=["internlm2_5-7b-chat"]) as server:
        done = agentcall("doctor", server.url, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "internlm2_5-7b-chat" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_is_the_whole_report(tmp_path: Path) -> None:
    with FakeServer([forever(say("x"))], models=["a", "b"]) as server:
        done = agentcall("doctor", f"{server.url}#b", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (report["model"], report["served"]) == ("b", ["a", "b"])
    assert report["healthy"] is (done.returncode == 0)
    assert {"level", "what", "advice"} <= set(report["findings"][0])


def test_a_model_that_is_not_served_ends_with_1(tmp_path: Path) -> None:
    with FakeServer([forever(say("x"))]) as server:
        done = agentcall("doctor", server.url, "-m", "other", cwd=tmp_path)
    assert done.returncode == 1
    assert "other" in done.stdout


def test_no_server_ends_with_3(tmp_path: Path) -> None:
    server = FakeServer([])
    server.start()
    server.stop()
    done = agentcall("doctor", server.url, cwd=tmp_path)
    assert done.returncode == 3
    assert "error" in done.stdout


def test_a_server_that_wants_a_key_ends_with_3(tmp_path: Path) -> None:
    refusal = status(401)
    with FakeServer([forever(refusal)], pages={"/v1/models": refusal}) as server:
        assert agentcall("doctor", server.url, cwd=tmp_path).returncode == 3


def test_the_server_may_come_from_the_environment(tmp_path: Path) -> None:
    with FakeServer([forever(say("x"))]) as server:
        done = agentcall(
            "doctor", cwd=tmp_path, env={"AGENTCALL_MODEL": f"{server.url}#fake-model"}
        )
    assert server.url in done.stdout


def test_of_several_servers_the_first_is_examined(tmp_path: Path) -> None:
    with FakeServer([forever(say("x"))], models=["a"]) as server:
        names = f"{server.url}#a,http://127.0.0.1:9/v1"
        done = agentcall("doctor", cwd=tmp_path, env={"AGENTCALL_MODEL": names})
    assert done.returncode == 0, done.stdout
    assert server.url in done.stdout


def test_what_is_no_server_is_a_usage_error(tmp_path: Path) -> None:
    done = agentcall("doctor", "embedded", cwd=tmp_path)
    assert done.returncode == 2
    assert "'embedded' is not a model server" in done.stderr
