"""From words on the command line to tools, agents, sessions and prompts.

A word names tools in one of these ways:

    calculator            a ready tool of an installed package
    files=/srv/notes      a toolkit of an installed package, made with a value
    package.module        the tools of a module, or its public functions
    package.module:name   a function, tool, registry or object in it
    path/to/file.py       the tools of a file, or its public functions
    path/to/file.py:name  one object in it
    mcp:URL               the tools of an MCP server
    mcp:COMMAND           the same, of a server that this command starts

The folder of a file, and the current folder for modules, are added to `sys.path`, as `python` does.

A package that offers tools may define `KITS` beside its `TOOLS`: a dict of names to
`module:attribute` of callables that take one text and return an object with tools.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Timer
from types import ModuleType
from typing import Any, Protocol, cast

import orjson

from agentcall.agent import Agent
from agentcall.cli.options import AgentOptions, AgentSessionOptions, ResumeOptions
from agentcall.cli.terminal import write_note
from agentcall.errors import UnknownTool, UsageError
from agentcall.messages import JSON, Image, Text
from agentcall.sessions import SessionStore, SQLiteSession
from agentcall.settings import ModelSettings, merge_settings
from agentcall.tools.registry import ENTRY_POINT_GROUP, ToolRegistry
from agentcall.tools.skill import Skill
from agentcall.tools.tool import Tool

# Tools.


class ToolFactory(Protocol):
    """Makes an object with tools from the value after the =, or from nothing."""

    def __call__(self, *values: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Toolkit:
    """A factory of tools; `name` is what precedes the = on the command line."""

    name: str
    factory: ToolFactory
    module: str

    @property
    def usage(self) -> str:
        """How to write it: `files=ROOT`, or the name alone if it takes no value."""
        first = next(iter(inspect.signature(self.factory).parameters.values()), None)
        if first is None or first.kind is not first.POSITIONAL_OR_KEYWORD:
            return self.name
        return f"{self.name}={first.name.upper()}"

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools that are known before the factory is called."""
        values = cast("Mapping[str, object]", vars(self.factory)).values()
        return [cast("Tool", value) for value in values if isinstance(value, Tool)]

    def make_tools(self, *values: str) -> object:
        """Return the object with the tools. Raises UsageError."""
        try:
            inspect.signature(self.factory).bind(*values)
        except TypeError:
            raise UsageError(f"write it as {self.usage}, with your own value") from None
        try:
            return self.factory(*values)
        except (ValueError, OSError) as error:
            raise UsageError(f"{'='.join((self.name, *values))}: {error}") from error


def load_toolkits() -> Mapping[str, Toolkit]:
    """Return the toolkits of installed packages by name. Raises UsageError if one is broken."""
    toolkits: dict[str, Toolkit] = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            kits: object = getattr(point.load(), "KITS", {})
            for name, path in cast("Mapping[str, str]", kits).items():
                module, _, attribute = path.partition(":")
                factory = cast("ToolFactory", getattr(import_module(module), attribute))
                toolkits[name] = Toolkit(name, factory, module)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"the toolkits of {point.value} cannot be loaded: {error}") from error
    return toolkits


def load_tools(words: Sequence[str]) -> ToolRegistry:
    """Return the tools that the words name. Raises UsageError, listing the ready tools."""
    ready: ToolRegistry | None = None
    registry = ToolRegistry()
    for word in words:
        if word.startswith("mcp:"):
            from agentcall.mcp import MCPTools

            registry.add(MCPTools(word.removeprefix("mcp:")))
            continue
        if _is_import_path(word):
            registry.add(_expand_tools(load_object(word)))
            continue
        ready = ToolRegistry.discover() if ready is None else ready
        name, equals, value = word.partition("=")
        if word in ready:
            registry.add(ready[word])
        elif name.isidentifier() and (kit := load_toolkits().get(name)) is not None:
            registry.add(kit.make_tools(*([value] if equals else [])))
        else:
            registry.add(_load_module_tools(word, ready))
    return registry


def load_tool(word: str, registry: ToolRegistry) -> Tool:
    """Return a tool of the registry by name, else the one the word names. Raises UnknownTool."""
    if word in registry:
        return registry[word]
    tools = load_tools([word])
    if len(tools) != 1:
        raise UnknownTool(f"{word} holds {len(tools)} tools: {', '.join(tools.names)}; name one")
    return next(iter(tools))


def _is_import_path(word: str) -> bool:
    """Return whether it names a file or an attribute; `sql=sqlite:///shop.db` does not."""
    return re.match(r"\w+=", word) is None and (":" in word or word.endswith(".py"))


def _load_module_tools(word: str, ready: ToolRegistry) -> object:
    try:
        return _expand_tools(_load_module(word))
    except _ModuleMissing:
        near = get_close_matches(word, ready.names, 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else "."
        known = ", ".join(ready.names) or "none"
        raise UsageError(
            f"there is no ready tool and no module {word!r}{hint} Ready tools: {known}. "
            f"Toolkits: {', '.join(kit.usage for kit in load_toolkits().values())}. "
            "Your own tools: file.py, file.py:name or module:name."
        ) from None


def _expand_tools(thing: object) -> object:
    """Return the objects that a module's `TOOLS` names as `module:attribute`, else the thing."""
    names = getattr(thing, "TOOLS", None)
    if not isinstance(thing, ModuleType) or not isinstance(names, Mapping):
        return thing
    values = cast("Mapping[str, object]", names).values()
    return [load_object(value) if isinstance(value, str) else value for value in values]


# Modules and files.


def load_object(word: str) -> object:
    """Return the module, or the object in a module or file, of this name. Raises UsageError."""
    source, _, name = word.rpartition(":")
    if word.endswith(".py") or not source:  # the colon is that of a Windows drive, or there is none
        source, name = word, ""
    module = _load_file(Path(source)) if source.endswith(".py") else _load_module(source)
    thing: object = module
    for part in name.split(".") if name else ():
        if not hasattr(thing, part):
            raise UsageError(
                f"{source} has no {name!r}{_format_choices(_list_public_names(module))}"
            )
        thing = getattr(thing, part)
    return thing


class _ModuleMissing(UsageError):
    """There is no module of this name."""


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
    # a module of the file's own name may exist already
    name = f"agentcall_file_{path.stem}_{abs(hash(path))}"
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
    """Return an error that names the failing line, as the user sees no traceback."""
    if isinstance(error, UsageError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}:{error.lineno})"
    else:
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}{where}")


def _list_public_names(module: ModuleType) -> Iterable[str]:
    """Return the names of the module's own functions, tools, registries and agents."""
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
    return f"; it has: {known}" if known else ""


# Agents, and how they were made.


def build_agent(options: AgentOptions) -> Agent[Any, Any]:  # Any: the user's own types
    """Return the agent that the options describe. Raises UsageError."""
    if options.keep_alive is not None:
        keep_model(options.keep_alive)
    agent: Agent[Any, Any] = load_agent(options.agent) if options.agent else Agent()
    if options.tools:
        agent = replace(agent, tools=_add_tools(agent, options.tools))
    if options.model is not None:
        agent = replace(agent, model=options.model)
    if options.instructions is not None:
        agent = replace(agent, instructions=options.instructions)
    if options.skills:
        agent = replace(agent, skills=[*agent.skills, *load_skills(options.skills)])
    if options.max_requests is not None:
        agent = replace(agent, limits=replace(agent.limits, requests=options.max_requests))
    settings = merge_settings(agent.settings, parse_settings(options))
    return agent if settings is agent.settings else replace(agent, settings=settings)


def _add_tools(agent: Agent[Any, Any], words: Sequence[str]) -> Sequence[object]:
    """Return the agent's tools and those that the words name. Raises UsageError.

    MCP servers remain sources, whose tools may change during a run, and whose questions wait for
    the person at the terminal.
    """
    own = () if agent.tools is None else agent.tools
    servers = [word.removeprefix("mcp:") for word in words if word.startswith("mcp:")]
    sources: list[object] = [own, load_tools([w for w in words if not w.startswith("mcp:")])]
    if servers:
        from agentcall.mcp import MCPTools

        sources += [MCPTools(server, on_elicit="approval") for server in servers]
    _ = ToolRegistry(sources)  # starts the servers, and refuses two tools of one name
    return sources


def load_skills(folders: Iterable[str]) -> list[Skill]:
    """Return the skills of the folders, each a skill or a folder of skills. Raises UsageError."""
    skills: list[Skill] = []
    for folder in folders:
        is_skill = (Path(folder) / "SKILL.md").is_file()
        skills += [Skill.read(folder)] if is_skill else Skill.read_all(folder)
    return skills


def parse_settings(options: AgentOptions) -> ModelSettings | None:
    """Return the model settings that the options give; None without any. Raises UsageError."""
    given: dict[str, Any] = {  # Any: of the fields of ModelSettings
        name: value
        for name in _SETTING_FIELDS
        if (value := getattr(options, name)) not in (None, [])
    }
    if options.extra_body is not None:
        try:
            given["extra_body"] = orjson.loads(options.extra_body)
        except ValueError as error:
            raise UsageError(
                f"--extra-body {options.extra_body!r} is not JSON ({error}); it is an object such "
                """as '{"top_k": 1}'"""
            ) from error
    if options.headers:
        given["extra_headers"] = dict(map(_parse_header, options.headers))
    return ModelSettings(**given) if given else None


def _parse_header(word: str) -> tuple[str, str]:
    name, colon, value = word.partition(":")
    if not (colon and name.strip()):
        raise UsageError("a --header is not NAME:VALUE, such as 'X-Tenant: lab'")
    return name.strip(), value.strip()


def keep_model(duration: str) -> None:
    """Have the embedded model stay loaded for this time after the command. Raises UsageError."""
    from agentcall_server.errors import BadValue
    from agentcall_server.units import parse_duration

    try:
        parse_duration(duration)
    except BadValue as error:
        raise UsageError(f"--keep-alive: {error}") from None
    os.environ["AGENTCALL_KEEP_ALIVE"] = duration


def load_agent(word: str) -> Agent[object, object]:
    """Return the agent at `module:name` or `file.py:name`. Raises UsageError."""
    thing = load_object(word)
    if isinstance(thing, ModuleType):
        agents = [name for name, value in vars(thing).items() if isinstance(value, Agent)]
        raise UsageError(f"{word} names no agent; add one as {word}:NAME{_format_choices(agents)}")
    if not isinstance(thing, Agent):
        raise UsageError(f"{word} is a {type(thing).__name__}, not an Agent")
    return cast("Agent[object, object]", thing)


_USER_INFO = re.compile(r"(https?://)[^/@\s]*@")
_QUERY = re.compile(r"\?[^#]*")
_SETTING_FIELDS = (
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "stop",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "thinking",
    "timeout",
)
_SAVED_SETTINGS = (*_SETTING_FIELDS, "extra_body")
_RECIPE_FIELDS = (
    *("agent", "tools", "model", "instructions", "skills", "max_requests"),
    *_SAVED_SETTINGS,
)


def make_recipe(options: AgentOptions) -> dict[str, JSON]:
    """Return the options as JSON, so that another process can build the agent.

    Without secrets: the headers are left out.
    """
    recipe: dict[str, JSON] = {
        "agent": options.agent and _make_absolute(options.agent),
        "tools": [_make_portable(word) for word in options.tools or ()],
        "model": options.model and strip_credentials(options.model),
        "instructions": options.instructions,
        "skills": [str(Path(folder).absolute()) for folder in options.skills or ()],
        "max_requests": options.max_requests,
        **{name: getattr(options, name) for name in _SAVED_SETTINGS},
    }
    return {name: value for name, value in recipe.items() if value not in (None, "", [])}


def merge_recipe(
    recipe: Mapping[str, JSON], options: ResumeOptions
) -> dict[str, Any]:  # Any: fields of RunOptions
    """Return the recipe's options, where given ones replace them."""
    recorded = {name: recipe[name] for name in _RECIPE_FIELDS if name in recipe}
    given = {"model": options.model, "tools": options.tools, "agent": options.agent}
    return recorded | {name: value for name, value in given.items() if value}


def _make_portable(word: str) -> str:
    """Return the word for tools as another process may use it; without secrets."""
    if word.startswith(("mcp:http://", "mcp:https://")):
        return strip_credentials(word)
    return word if word.startswith("mcp:") else _make_absolute(word)


def _make_absolute(word: str) -> str:
    """Return the word with the absolute path of its file, if it names a file."""
    path, colon, name = word.rpartition(":")
    if word.endswith(".py"):
        return str(Path(word).absolute())
    return f"{Path(path).absolute()}{colon}{name}" if path.endswith(".py") else word


def strip_credentials(url: str) -> str:
    """Return the URL without user, password and query."""
    return _QUERY.sub("", _USER_INFO.sub(r"\1", url))


# Sessions, the state folder, prompts.


def open_session(options: AgentSessionOptions) -> SQLiteSession | None:
    """Return the session of the options; None if they name none. Raises UsageError."""
    if options.last and options.session is not None:
        raise UsageError("--session and --continue both name a session; choose one")
    if not options.last:
        return None if options.session is None else SQLiteSession(options.session, wait=0)
    store = SessionStore()
    sessions = store.list_sessions()
    if not sessions:
        raise UsageError(f"there is no session in {store.path}; start one with --session ID")
    return SQLiteSession(sessions[0].id, wait=0)


def get_state_folder() -> Path:
    """Return $XDG_STATE_HOME/agentcall, else ~/.local/state/agentcall; it may not exist yet."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "agentcall"


def build_prompt(prompt: str | None, images: Sequence[str]) -> str | list[str | Text | Image]:
    """Return the images, then piped input, then the argument. Raises UsageError.

    Images come first, as in the training data of InternVL2, Qwen2-VL and LLaVA.
    """
    # Bytes of an argument that are not UTF-8 arrive as surrogates, which JSON cannot hold.
    text = (prompt or "").encode("utf-8", "replace").decode()
    if prompt == "-":
        text = read_stdin().strip("\n")
    elif sys.stdin is not None and not sys.stdin.isatty():
        text = "\n\n".join(part for part in (read_stdin().strip("\n"), text) if part)
    if not text.strip() and not images:
        raise UsageError('there is no prompt; use agentcall run "..." or pipe a text in')
    return [*map(load_image, images), *([text] if text.strip() else [])] if images else text


def read_stdin() -> str:
    """Read standard input to its end; print a hint after a second of waiting."""
    message = "reading standard input until its end (Ctrl-D); < /dev/null gives it none"
    hint = Timer(1.0, lambda: write_note(message, "dim"))
    hint.daemon = True
    hint.start()
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig", "replace")
    finally:
        hint.cancel()


def load_image(source: str) -> Image:
    """Return the image of a file or URL. Raises UsageError."""
    if source.startswith(("http:", "https:", "data:")):
        return Image(source)
    return Image.file(source)
