"""How an agent was made at the command line, so that another process can make it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentcall.cli.deciding import CommonResumeOptions
from agentcall.cli.making import AgentArguments
from agentcall.messages import JSON

_USER_INFO = re.compile(r"(https?://)[^/@\s]*@")
_QUERY = re.compile(r"\?[^#]*")
_RECIPE_FIELDS = ("agent", "tools", "model", "instructions", "max_requests")


def make_recipe(arguments: AgentArguments) -> dict[str, JSON]:
    """How the agent was made, so that another process can make it; no keys and passwords."""
    recipe: dict[str, JSON] = {
        "agent": arguments.agent and _make_absolute(arguments.agent),
        "tools": [_make_absolute(word) for word in arguments.tools or ()],
        "model": arguments.model and strip_credentials(arguments.model),
        "instructions": arguments.instructions,
        "max_requests": arguments.max_requests,
    }
    return {name: value for name, value in recipe.items() if value}


def read_recipe(recipe: Mapping[str, JSON]) -> dict[str, Any]:  # Any: the fields of options
    """The recipe as fields of the command's options."""
    return {name: recipe[name] for name in _RECIPE_FIELDS if name in recipe}


def merge_recipe(
    recipe: Mapping[str, JSON], options: CommonResumeOptions
) -> dict[str, Any]:  # Any: as above
    """The same, with what is told now in place of what was told then."""
    given = {"model": options.model, "tools": options.tools, "agent": options.agent}
    return read_recipe(recipe) | {name: value for name, value in given.items() if value}


def _make_absolute(word: str) -> str:
    """The word with the whole path of its file, if it names a file."""
    path, mark, name = word.rpartition(":")
    if word.endswith(".py"):
        return str(Path(word).absolute())
    return f"{Path(path).absolute()}{mark}{name}" if path.endswith(".py") else word


def strip_credentials(url: str) -> str:
    """The URL without user, password and query."""
    return _QUERY.sub("", _USER_INFO.sub(r"\1", url))
