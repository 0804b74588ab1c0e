"""A collection of tools, in a stable order."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, cast, overload

from typing_extensions import Unpack

from agentcall.errors import DuplicateTool, SchemaError, UnknownTool, UsageError
from agentcall.tools.tool import Function, P, R, Tool, ToolOptionArguments, make_tool

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from agentcall.tools.search import ToolIndex

ENTRY_POINT_GROUP = "agentcall.tools"
"""The entry point group under which installed packages offer tools."""


class LazyToolSource(ABC):
    """A source whose tools are not known at once, as a server has to be asked for them."""

    @abstractmethod
    async def wait_until_ready(self, seconds: float | None = None) -> None:
        """Waits until its tools are known, for so many seconds at most."""


class ToolRegistry:
    """Tools, in the order in which they were added.

    A collection: `in` (a name or a tool), `len`, iteration over the tools, `[name]`. Two tools of
    one name are refused, naming the places of both.
    """

    def __init__(self, *sources: object) -> None:
        self._tools: dict[str, Tool] = {}
        self._index: ToolIndex | None = None
        self.add(*sources)

    def add(self, *sources: object) -> None:
        """Adds what each source holds.

        A source is a tool, a function, a callable object, a module (its tools, or where it has
        none its public functions), any other object (its tools, or its public methods), or a
        list or registry of such. Raises DuplicateTool or SchemaError and then adds nothing.
        """
        added = dict(self._tools)
        for found in (found for source in sources for found in collect_tools(source)):
            other = added.setdefault(found.name, found)
            if not _is_same_tool(found, other):
                raise DuplicateTool(
                    f"two tools are called {found.name!r}: one at {other.location}, one at "
                    f"{found.location}; rename one with @tool(name=...) or add it under a prefix()"
                )
        self._tools = added
        self._index = None

    @overload
    def tool(self, function: Callable[P, R], /) -> Tool[P, R]: ...

    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        **marks: Unpack[ToolOptionArguments],
    ) -> Callable[[Callable[P, R]], Tool[P, R]]: ...

    def tool(
        self,
        function: Function | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        **marks: Unpack[ToolOptionArguments],
    ) -> Tool | Callable[[Function], Tool]:
        """As `agentcall.tools.tool`, and adds the tool to this registry."""

        def decorate(target: Function) -> Tool:
            made = make_tool(target, name=name, description=description, **marks)
            self.add(made)
            return made

        return decorate if function is None else decorate(function)

    def search(self, query: str, count: int = 10) -> list[Tool]:
        """The tools that fit a query best, the best first; none that has no word of it.

        By the words of names, descriptions and parameters, without a model (docs/tool_search.md).
        """
        if self._index is None:
            from agentcall.tools.search import ToolIndex  # here, as few registries are searched

            self._index = ToolIndex(self)
        return self._index.search(query, count)

    def pick(self, *names: str) -> ToolRegistry:
        """A registry of these tools alone, in this order. Raises UnknownTool."""
        return ToolRegistry(*(self[name] for name in names))

    def without(self, *names: str) -> ToolRegistry:
        """A registry of all tools but these. Raises UnknownTool."""
        left_out = {self[name].name for name in names}
        return ToolRegistry(*(found for found in self if found.name not in left_out))

    def prefix(self, prefix: str) -> ToolRegistry:
        """A registry of the same tools, each name with `prefix` before it."""
        return ToolRegistry(*(found.with_name(prefix + found.name) for found in self))

    def merge(self, *others: object) -> ToolRegistry:
        """A registry of these tools and the others'. Raises DuplicateTool."""
        return ToolRegistry(self, *others)

    def __or__(self, other: object) -> ToolRegistry:
        return self.merge(other)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tools, in order."""
        return tuple(self._tools)

    @property
    def by_name(self) -> Mapping[str, Tool]:
        """The tools by name; a view."""
        return MappingProxyType(self._tools)

    @classmethod
    def discover(cls, group: str = ENTRY_POINT_GROUP) -> ToolRegistry:
        """The tools that installed packages offer under the entry point group `agentcall.tools`.

        An entry point names a tool, a function, a module or a list of such; a module may hold
        `TOOLS`, a dict of names to `module:attribute`, so that nothing is imported before its use.
        """
        from importlib.metadata import entry_points  # here, as it reads what is installed

        found = cls()
        for point in sorted(entry_points(group=group), key=lambda point: point.name):
            found.add(*_load_entry_point(point))
        return found

    def __getitem__(self, name: str) -> Tool:
        try:
            return self._tools[name]
        except KeyError:
            known = ", ".join(self._tools) or "none"
            raise UnknownTool(f"there is no tool {name!r}; there are: {known}") from None

    def __contains__(self, name: object) -> bool:
        return (name.name if isinstance(name, Tool) else name) in self._tools

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"ToolRegistry({', '.join(self._tools)})"


def _is_same_tool(one: Tool, other: Tool) -> bool:
    """Whether two tools are one function, offered alike: adding it again does no harm."""
    if one is other:
        return True
    alike = one.function == other.function and one.options == other.options
    return alike and one.definition == other.definition


def _load_entry_point(point: EntryPoint) -> Iterable[object]:
    try:
        source = point.load()
        listed = getattr(source, "TOOLS", None)
        if isinstance(source, ModuleType) and isinstance(listed, Mapping):
            paths = cast("Mapping[str, object]", listed).values()
            return [_import_attribute(str(path)) for path in paths]
    except (ImportError, AttributeError) as error:
        dist = point.dist.name if point.dist else "an installed package"
        raise UsageError(
            f"the entry point {point.name} = {point.value} of {dist} cannot be loaded: {error}"
        ) from error
    return [source]


def _import_attribute(path: str) -> object:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def collect_tools(source: object) -> Iterable[Tool]:
    """The tools that a source holds, as `ToolRegistry.add` says. Raises UsageError for none."""
    if isinstance(source, Tool):
        return [cast("Tool", source)]
    if inspect.isroutine(source):
        return [make_tool(source)]
    if isinstance(source, ModuleType):
        return _collect_from_module(source)
    if isinstance(source, Mapping):
        return [t for s in cast("Mapping[Any, object]", source).values() for t in collect_tools(s)]
    if isinstance(source, (str, bytes)):
        raise UsageError(f"{source!r} is a text, not a tool; add the function itself")
    if isinstance(source, Iterable):
        return [t for s in cast("Iterable[object]", source) for t in collect_tools(s)]
    return _collect_from_object(source)


def _collect_from_module(module: ModuleType) -> Iterable[Tool]:
    public = [value for name, value in vars(module).items() if not name.startswith("_")]
    tools = [cast("Tool", value) for value in public if isinstance(value, Tool)]
    if tools:
        return tools
    own = [f for f in public if inspect.isfunction(f) and f.__module__ == module.__name__]
    if not own:
        raise UsageError(f"the module {module.__name__} has no tools and no public functions")
    return [make_tool(function) for function in own]


def _collect_from_object(source: object) -> Iterable[Tool]:
    tools = [make_tool(value) for value in _find_decorated_tools(source)]
    for made in tools:
        if made.needs_instance:
            raise UsageError(
                f"{made.name} at {made.location} is a method: add an instance of "
                f"{source!r}, not the class"
            )
    if tools:
        return tools
    if callable(source):
        return [make_tool(source)]
    owner = type(source)
    methods = [
        getattr(source, name)
        for name in _list_public_names(owner)
        if inspect.isfunction(inspect.getattr_static(owner, name))
    ]
    if not methods:
        raise SchemaError(
            f"{source!r} is not a tool, a function, a module or an object with public methods"
        )
    return [make_tool(method) for method in methods]


def _find_decorated_tools(source: object) -> Iterable[Function]:
    """What was decorated with `@tool` in an object or in its class, bound to the object."""
    owner = source if isinstance(source, type) else type(source)
    for name in dict.fromkeys([*_list_public_names(owner), *_list_own_names(source)]):
        static = inspect.getattr_static(source, name)
        if isinstance(getattr(static, "__func__", static), Tool):
            yield getattr(source, name)


def _list_own_names(source: object) -> Iterable[str]:
    """The public names of an object's own attributes."""
    attributes = cast("Mapping[str, object]", getattr(source, "__dict__", {}))
    return [name for name in attributes if not name.startswith("_")]


def _list_public_names(owner: type) -> Iterable[str]:
    """The public names of a class in the order of definition, base classes first."""
    names = (name for base in reversed(owner.__mro__) for name in vars(base))
    return dict.fromkeys(name for name in names if not name.startswith("_"))
