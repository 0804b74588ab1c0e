"""How the command line builds an agent from its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentcall.cli.load import build_agent, make_recipe
from agentcall.cli.options import AgentOptions
from agentcall.errors import UsageError


def test_skills_of_folders_are_added_and_recorded_for_a_resume(tmp_path: Path) -> None:
    for name in ("forms", "letters"):
        (tmp_path / name).mkdir()
        text = f"---\nname: {name}\ndescription: About {name}.\n---\nDo it."
        (tmp_path / name / "SKILL.md").write_text(text)
    options = AgentOptions(skills=[str(tmp_path), str(tmp_path / "forms")])
    with pytest.raises(UsageError, match="two skills are called 'forms'"):
        build_agent(options)
    options = AgentOptions(skills=[str(tmp_path)])
    assert [skill.name for skill in build_agent(options).skills] == ["forms", "letters"]
    assert make_recipe(options)["skills"] == [str(tmp_path)]
