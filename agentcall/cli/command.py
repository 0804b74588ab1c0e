"""What all commands share: options as one frozen dataclass, groups that import late, traces."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, ClassVar, TypeVar, get_type_hints

import typer
from typer.core import TyperGroup

Options = TypeVar("Options")
Handler = Callable[[Options], int | None]
"""Runs a command; returns its exit code, where None is 0."""


def make_command(options: type[Options], handler: Handler[Options]) -> Callable[..., None]:
    """Return a typer callback that fills the dataclass `options` and calls `handler` with it.

    typer reads the fields as parameters: their annotations hold the `typer.Option`.
    """

    def command(**values: Any) -> None:  # Any: typer has parsed them by the fields' types
        try:
            code = handler(options(**values))
        except KeyboardInterrupt:
            from agentcall.cli.interrupt import exit_after_interrupt

            exit_after_interrupt()
        if code:
            raise typer.Exit(code)

    hints = get_type_hints(options, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(options).parameters.items()
    ]
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010 - no such slot
    command.__annotations__ = hints
    return command


def make_app(options: type[Options], handler: Handler[Options], help_text: str) -> typer.Typer:
    """Return an app that is one command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(help=help_text)(make_command(options, handler))
    return app


def make_group(help_text: str, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """Return an app that groups commands and prints its help without one."""
    app = typer.Typer(
        cls=cls, help=help_text, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )
    app.callback()(lambda: None)
    return app


def add_command(
    group: typer.Typer, name: str, options: type[Options], handler: Handler[Options], help_text: str
) -> None:
    """Add a command to a group."""
    group.command(name, help=help_text)(make_command(options, handler))


CommandTable = Mapping[str, tuple[str, str]]
"""For each command its app, as `module:attribute`, and one line of help."""


def make_lazy_group(table: CommandTable) -> type[TyperGroup]:
    """Return the class of a group with these commands."""
    return type("LazyGroup", (LazyGroup,), {"table": table})


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is called or shows its own help."""

    table: ClassVar[CommandTable] = {}

    def __init__(self, **settings: Any) -> None:  # Any: typer's own
        super().__init__(**settings)
        self.commands = _LazyCommands(self.table)

    def list_commands(self, ctx: Any) -> list[str]:  # Any: typer bundles a click of its own
        """Return the names in the order of the table."""
        return list(self.table)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # Any: as above
        """Write the table's lines of help, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])


class _LazyCommands(MutableMapping[str, Any]):  # Any: as above
    def __init__(self, table: CommandTable) -> None:
        self._table = table
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            module, _, attribute = self._table[name][0].partition(":")
            app: typer.Typer = getattr(import_module(module), attribute)
            self._loaded[name] = typer.main.get_command(app)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def trace_to(path: str | None, *, content: bool = False) -> AbstractContextManager[None]:
    """Write the runs within this context to a file, if one is given. Raises UsageError."""
    if content and path is None:
        from agentcall.errors import UsageError

        raise UsageError("--trace-content needs the file of the trace: add --trace FILE")
    if path is None:
        return nullcontext()
    from agentcall.tracing import write_trace

    return write_trace(path, content=content)


def trace_from_environment() -> AbstractContextManager[None]:
    """Write the runs of any command to the file in AGENTCALL_TRACE. Raises UsageError."""
    return trace_to(os.environ.get("AGENTCALL_TRACE") or None)
