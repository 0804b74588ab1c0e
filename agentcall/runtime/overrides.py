"""The arguments of a run that change its agent: `agent.run(prompt, limits=..., tools=[...])`.

Rules:
1. `limits`, `model` and `output_type` replace those of the agent; `instructions` and `tools` are
   added to its own. They concern the agent that the run begins with; the limits concern the run.
2. A run that is resumed, by a decision or after a crash, continues with the same arguments. Data is
   saved with the run: limits, a text of instructions, a model's shorthand without secrets. What is
   not data has to be given again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentcall.errors import UsageError
from agentcall.models.resolve import split_shorthands
from agentcall.models.url import extract_url_secrets
from agentcall.result import SavedOverrides
from agentcall.tools.tool import is_function

_NAMES = ("limits", "instructions", "model", "tools", "output_type")

Overrides = dict[str, Any]  # Any: checked by the agent


def normalize_overrides(overrides: Mapping[str, Any]) -> Overrides:
    """Return the arguments that are given; None gives nothing, except as an output type.

    Raises TypeError for other names, and UsageError for instructions of another type.
    """
    for name in overrides:
        if name not in _NAMES:
            raise TypeError(f"a run has no argument {name!r}; it may change {', '.join(_NAMES)}")
    instructions = overrides.get("instructions")
    if not (instructions is None or isinstance(instructions, str) or is_function(instructions, 1)):
        raise UsageError(
            f"instructions={instructions!r:.100}: it has to be a text, or a function of a "
            "RunContext"
        )
    return {
        name: value
        for name, value in overrides.items()
        if value is not None or name == "output_type"
    }


def save_overrides(overrides: Mapping[str, Any]) -> SavedOverrides:
    """Return what can be saved of the arguments of a run."""
    instructions, model = overrides.get("instructions"), overrides.get("model")
    saved = SavedOverrides(
        overrides.get("limits"),
        instructions if isinstance(instructions, str) else None,
        model if isinstance(model, str) and not _has_secret(model) else None,
    )
    kept = {"limits": True, "instructions": saved.instructions, "model": saved.model}
    unsaved = tuple(name for name in _NAMES if name in overrides and not kept.get(name))
    return SavedOverrides(saved.limits, saved.instructions, saved.model, unsaved)


def restore_overrides(saved: SavedOverrides | None, given: Mapping[str, Any]) -> Overrides:
    """Return the arguments of a run that continues: those that were saved, and those given again.

    Raises UsageError if one that could not be saved is not given.
    """
    if saved is None:
        return dict(given)
    missing = [f"{name}=" for name in saved.unsaved if name not in given]
    if missing:
        raise UsageError(
            f"the run was started with {' and '.join(missing)}, which cannot be saved: give "
            f"{'it' if len(missing) == 1 else 'them'} again to continue the run"
        )
    values = {name: getattr(saved, name) for name in ("limits", "instructions", "model")}
    return {**{name: value for name, value in values.items() if value is not None}, **given}


def _has_secret(model: str) -> bool:
    return any(any(extract_url_secrets(shorthand)) for shorthand in split_shorthands(model))


def make_key(overrides: Overrides) -> object:
    """Return a key for arguments without tools; None if they have none, as they may change."""
    key = tuple(overrides.items())
    try:
        hash(key)
    except TypeError:
        return None
    return key
