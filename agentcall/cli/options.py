"""A command's options as one frozen value: a dataclass whose fields typer reads as parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

Options = TypeVar("Options")


def make_command(options: type[Options], handler: Callable[[Options], None]) -> Callable[..., None]:
    """A command that makes `options` of its parameters and hands them to `work`."""

    def command(**given: Any) -> None:  # Any: typer has parsed them by the fields' types
        try:
            handler(options(**given))
        except KeyboardInterrupt:
            from agentcall.cli.interruptible import exit_after_interrupt

            exit_after_interrupt()

    hints = get_type_hints(options, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(options).parameters.items()
    ]
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010 - no such slot
    command.__annotations__ = hints
    return command
