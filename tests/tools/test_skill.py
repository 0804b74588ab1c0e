"""Skills: found by their descriptions, loaded on demand, with their tools and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcall import Agent, Skill, tool
from agentcall.durable import durable
from agentcall.errors import DuplicateTool, UsageError
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import FakeServer, ScriptedModel, call, say

pytest_plugins = ["agentcall.testing.plugin"]
Serve = Callable[..., FakeServer]

SKILL_FILE = """---
name: pdf-forms
description: >
  Fill in a PDF form. Use it
  when a form has to be filled in.
license: MIT
---
# Forms
Read references/fields.md first.
"""


@tool
def refund(order: str) -> str:
    """Refund an order."""
    return f"refunded {order}"


@tool
def look_up(order: str) -> str:
    """Look an order up."""
    return f"{order} is paid"


REFUNDS = Skill("refunds", "How to refund an order.", "Look the order up first.", [refund])
GREETINGS = Skill("greetings", "How to greet.", "Say hello.")


def offered(model: ScriptedModel, request: int) -> list[str]:
    return [item["function"]["name"] for item in model.requests[request].tools]


def make_folder(path: Path, text: str = SKILL_FILE) -> Path:
    (path / "references").mkdir(parents=True)
    (path / "SKILL.md").write_text(text)
    (path / "references" / "fields.md").write_text("name, date")
    return path


async def test_the_tools_of_a_skill_are_offered_once_it_is_loaded() -> None:
    script = [call("load_skill", name="refunds"), call("refund", order="7"), say("done")]
    model = ScriptedModel(script)
    agent = Agent(model, tools=[look_up], skills=[REFUNDS, GREETINGS])
    result = await agent.run("Refund order 7.")
    assert offered(model, 0) == ["look_up", "load_skill"]
    assert offered(model, 1) == ["look_up", "load_skill", "refund"]
    loaded, refunded = (given.text for _, given in result.tool_calls if given)
    assert loaded == "Look the order up first.\n\nThese tools can be called now: refund"
    assert refunded == "refunded 7"


async def test_the_model_sees_what_each_skill_is_for() -> None:
    model = ScriptedModel([say("hello")])
    await Agent(model, skills=[REFUNDS, GREETINGS]).run("Hi!")
    function = model.requests[0].tools[0]["function"]
    assert "refunds: How to refund an order.\ngreetings: How to greet." in function["description"]
    assert function["parameters"]["properties"]["name"]["enum"] == ["refunds", "greetings"]


async def test_of_many_skills_the_model_finds_one() -> None:
    skills = [Skill(f"skill_{n}", f"How to do thing {n}.", f"Do {n}.") for n in range(30)]
    script = [
        call("find_skills", query="refund"),
        call("load_skill", name="nothing"),
        call("load_skill", name="refunds"),
        say("ok"),
    ]
    model = ScriptedModel(script)
    result = await Agent(model, skills=[*skills, REFUNDS]).run("Refund order 7.")
    assert offered(model, 0) == ["load_skill", "find_skills"]
    found, unknown, loaded = (given.text for _, given in result.tool_calls if given)
    assert found == "refunds: How to refund an order."
    assert "no skill 'nothing'" in unknown
    assert loaded.startswith("Look the order up first.")


async def test_a_skill_is_read_from_a_folder_with_its_files(tmp_path: Path) -> None:
    make_folder(tmp_path / "pdf-forms")
    (skill,) = Skill.read_all(tmp_path)
    assert (
        skill.description.strip() == "Fill in a PDF form. Use it when a form has to be filled in."
    )
    script = [
        call("load_skill", name="pdf-forms"),
        call("read_skill_file", skill="pdf-forms", path="references/fields.md"),
        say("ok"),
    ]
    result = await Agent(ScriptedModel(script), skills=[skill]).run("Fill it in.")
    loaded, fields = (given.text for _, given in result.tool_calls if given)
    assert loaded.startswith("# Forms\nRead references/fields.md first.")
    assert loaded.endswith("read_skill_file reads: references/fields.md")
    assert fields == "name, date"


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "link.txt", ".env", "SKILL.md"])
async def test_no_file_outside_of_a_skill_is_read(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = make_folder(tmp_path / "pdf-forms")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / ".env").write_text("secret")
    script = [call("read_skill_file", skill="pdf-forms", path=path), say("ok")]
    result = await Agent(ScriptedModel(script), skills=[Skill.read(folder)]).run("Read it.")
    text = result.tool_calls[0][1]
    assert text is not None
    assert f"has no file {path!r}. Its files: references/fields.md" in text.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no front matter", "does not begin with `---`"),
        ("---\nname: a\n---\nText", "has no description"),
        ("---\n- a\n---\nText", "has no `name:` and `description:`"),
        ("---\nname: [\n---\nText", "is not YAML"),
        ("---\nname: a b\ndescription: c\n---\nText", "Skill(name='a b')"),
        ("---\nname: a\ndescription: c\n---\n", "Skill(instructions=''"),
    ],
)
def test_a_folder_that_is_no_skill_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        Skill.read(make_folder(tmp_path / "a", text))
    assert said in str(raised.value)
    assert "SKILL.md" in str(raised.value)


def test_wrong_skills_are_refused_where_the_agent_is_made(tmp_path: Path) -> None:
    model: Any = ScriptedModel([])
    with pytest.raises(UsageError, match="a list of Skill"):
        Agent(model, skills=["refunds"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="two skills are called 'refunds'"):
        Agent(model, skills=[REFUNDS, REFUNDS])
    with pytest.raises(DuplicateTool):
        Agent(model, tools=[tool(name="refund")(look_up.function)], skills=[REFUNDS])
    with pytest.raises(UsageError, match="no folder with a SKILL"):
        Skill.read_all(tmp_path)


async def test_skills_work_over_http_in_streams_handoffs_and_sub_agents(
    fake_server: Serve,
) -> None:
    script = [call("load_skill", name="refunds"), call("refund", order="7"), say("done")]
    served = HTTPChat(fake_server(script).url, "fake-model", dialect="native")
    clerk = Agent(served, name="clerk", skills=[REFUNDS])
    assert "".join([text async for text in clerk.stream_text("Refund order 7.")]) == "done"

    clerk = Agent(ScriptedModel(script), name="clerk", skills=[REFUNDS])
    front = Agent(ScriptedModel([call("transfer_to_clerk")]), handoffs=[clerk])
    assert (await front.run("Refund order 7.")).output == "done"

    clerk = Agent(ScriptedModel(script), name="clerk", skills=[REFUNDS])
    boss = Agent(ScriptedModel([call("clerk", task="7"), say("ok")]), tools=[clerk.as_tool()])
    assert (await boss.run("Refund order 7.")).output == "ok"


def test_a_durable_run_continues_with_the_skills_that_were_loaded(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"

    @tool(requires_approval=True)
    def pay_back(order: str) -> str:
        """Pay back."""
        return f"paid {order}"

    def make_agent(*script: Any) -> tuple[ScriptedModel, Agent]:
        model = ScriptedModel(script)
        return model, Agent(model, skills=[Skill("refunds", "Refunds.", "Pay back.", [pay_back])])

    _, agent = make_agent(call("load_skill", name="refunds"), call("pay_back", order="7"))
    with durable(agent, url) as runs:
        paused = runs.run_sync("Refund order 7.", run_id="r")
    model, agent = make_agent(say("done"))
    with durable(agent, url) as runs:
        result = runs.resume_sync("r", {paused.pending[0].call.id: True})
    assert result.output == "done"
    assert offered(model, 0) == ["load_skill", "pay_back"]
