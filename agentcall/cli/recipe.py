"""How an agent was made at the command line, so that another process can make it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentcall.cli.deciding import GoingOn
from agentcall.cli.making import Words
from agentcall.messages import JSON

_SECRETS = re.compile(r"(https?://)[^/@\s]*@")
_QUERY = re.compile(r"\?[^#]*")
_PARTS = ("agent", "tools", "model", "instructions", "max_requests")


def recipe_of(words: Words) -> dict[str, JSON]:
    """How the agent was made, so that another process can make it; no keys and passwords."""
    recipe: dict[str, JSON] = {
        "agent": words.agent and _found_from_anywhere(words.agent),
        "tools": [_found_from_anywhere(word) for word in words.tools or ()],
        "model": words.model and bare(words.model),
        "instructions": words.instructions,
        "max_requests": words.max_requests,
    }
    return {name: value for name, value in recipe.items() if value}


def parts_of(recipe: Mapping[str, JSON]) -> dict[str, Any]:  # Any: the fields of options
    """The recipe as fields of the command's options."""
    return {name: recipe[name] for name in _PARTS if name in recipe}


def parts_now(recipe: Mapping[str, JSON], told: GoingOn) -> dict[str, Any]:  # Any: as above
    """The same, with what is told now in place of what was told then."""
    given = {"model": told.model, "tools": told.tools, "agent": told.agent}
    return parts_of(recipe) | {name: value for name, value in given.items() if value}


def _found_from_anywhere(word: str) -> str:
    """The word with the whole path of its file, if it names a file."""
    path, mark, name = word.rpartition(":")
    if word.endswith(".py"):
        return str(Path(word).absolute())
    return f"{Path(path).absolute()}{mark}{name}" if path.endswith(".py") else word


def bare(url: str) -> str:
    """The URL without user, password and query."""
    return _QUERY.sub("", _SECRETS.sub(r"\1", url))
