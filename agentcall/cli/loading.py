"""From words on the command line to tools and agents.

    calculator            a ready tool of an installed package
    files=/srv/notes      tools that an installed package makes with a word of yours
    package.module        the tools of a module, or its public functions
    package.module:name   a function, tool, registry or object in it
    path/to/file.py       the tools of a file, or its public functions
    path/to/file.py:name  one thing in it
    mcp:URL               the tools of an MCP server
    mcp:COMMAND           the same, of one that is started by a command

The folder of a file, and the current one for modules, are put on `sys.path`, as `python` does.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from agentcall.cli.kits import load_toolkits, make_toolkit_tools
from agentcall.errors import UnknownTool, UsageError
from agentcall.tools.registry import ToolRegistry
from agentcall.tools.tool import Tool

if TYPE_CHECKING:  # an agent's import costs as much as all the rest, and only `run -a` needs it
    from agentcall.agent import Agent


_MCP_PREFIX = "mcp:"


def load_tools(words: Sequence[str]) -> ToolRegistry:
    """The tools that the words name. Raises UsageError, listing what there is."""
    ready: ToolRegistry | None = None
    found = ToolRegistry()
    for word in words:
        if word.startswith(_MCP_PREFIX):
            found.add(_load_mcp_tools(word.removeprefix(_MCP_PREFIX)))
            continue
        if _is_import_path(word):
            found.add(_expand_tools(load_object(word)))
            continue
        ready = ToolRegistry.discover() if ready is None else ready
        if word in ready:
            found.add(ready[word])
        else:
            made = make_toolkit_tools(word)
            found.add(_load_module_tools(word, ready) if made is None else made)
    return found


def _load_mcp_tools(server: str) -> object:
    from agentcall.mcp import MCPTools

    return MCPTools(server)


def load_tool(word: str, given: ToolRegistry) -> Tool:
    """One tool: of the given ones by name, else what the word names. Raises UnknownTool."""
    if word in given:
        return given[word]
    found = load_tools([word])
    if len(found) != 1:
        raise UnknownTool(f"{word} holds {len(found)} tools: {', '.join(found.names)}; name one")
    return next(iter(found))


def load_agent(word: str) -> Agent[object, object]:
    """The agent at `module:name` or `file.py:name`. Raises UsageError."""
    from agentcall.agent import Agent

    thing = load_object(word)
    if isinstance(thing, ModuleType):
        agents = [name for name, value in vars(thing).items() if isinstance(value, Agent)]
        raise UsageError(f"{word} names no agent; add one as {word}:NAME{_format_choices(agents)}")
    if not isinstance(thing, Agent):
        raise UsageError(f"{word} is a {type(thing).__name__}, not an Agent")
    return cast("Agent[object, object]", thing)


def load_object(word: str) -> object:
    """The module, or the thing in a module or file, that a word names. Raises UsageError."""
    place, name = _split_import_path(word)
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    thing: object = module
    for part in name.split(".") if name else ():
        if not hasattr(thing, part):
            raise UsageError(
                f"{place} has no {name!r}{_format_choices(_list_public_names(module))}"
            )
        thing = getattr(thing, part)
    return thing


def _is_import_path(word: str) -> bool:
    """Whether it names a file or a thing in a module; `sql=sqlite:///shop.db` does not."""
    return re.match(r"\w+=", word) is None and (":" in word or word.endswith(".py"))


def _split_import_path(word: str) -> tuple[str, str]:
    """The place and the name in it; a drive letter is no place."""
    place, _, name = word.rpartition(":")
    return (word, "") if word.endswith(".py") or not place else (place, name)


def _load_module_tools(word: str, ready: ToolRegistry) -> object:
    try:
        return _expand_tools(_load_module(word))
    except _ModuleMissing:
        near = get_close_matches(word, ready.names, 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else "."
        known = ", ".join(ready.names) or "none"
        raise UsageError(
            f"there is no ready tool and no module {word!r}{hint} Ready tools: {known}. "
            f"With a word of yours: {', '.join(kit.usage for kit in load_toolkits().values())}. "
            "Tools of your own: file.py, file.py:name or module:name."
        ) from None


class _ModuleMissing(UsageError):
    """No module of this name."""


def _load_module(name: str) -> ModuleType:
    _add_to_sys_path(Path.cwd())
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise _ModuleMissing(
                f"there is no module {name!r} in {Path.cwd()} or among the installed packages"
            ) from None
        raise _make_import_error(name, error) from error
    except (Exception, SystemExit) as error:
        raise _make_import_error(name, error) from error


def _load_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        near = sorted(other.name for other in path.parent.glob("*.py"))
        raise UsageError(f"there is no file {path}{_format_choices(near)}")
    name = f"agentcall_file_{path.stem}_{abs(hash(path))}"  # its own name might be taken
    if name in sys.modules:
        return sys.modules[name]
    _add_to_sys_path(path.parent)
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be loaded as a Python file")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _make_import_error(str(path), error) from error
    return module


def _add_to_sys_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _make_import_error(name: str, error: BaseException) -> UsageError:
    """Names the line that failed, as there is no traceback to look at."""
    if isinstance(error, UsageError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}:{error.lineno})"
    else:
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}{where}")


def _expand_tools(thing: object) -> object:
    """A module's `TOOLS`, names to `module:attribute`, as the things they name; else the thing."""
    listed = getattr(thing, "TOOLS", None)
    if not isinstance(thing, ModuleType) or not isinstance(listed, Mapping):
        return thing
    values = cast("Mapping[str, object]", listed).values()
    return [load_object(value) if isinstance(value, str) else value for value in values]


def _list_public_names(module: ModuleType) -> Iterable[str]:
    """The names of what is of use here: functions, tools, registries, agents."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, (ModuleType, type))
        and (_is_defined_in(value, module) or type(value).__module__.startswith("agentcall."))
    ]


def _is_defined_in(value: object, module: ModuleType) -> bool:
    return module.__name__ in (getattr(value, "__module__", None), type(value).__module__)


def _format_choices(names: Iterable[str]) -> str:
    known = ", ".join(list(names)[:20])
    return f"; there is: {known}" if known else ""
