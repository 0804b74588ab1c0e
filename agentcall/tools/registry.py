"""A collection of tools in a stable order."""

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
    """A source that knows its tools only after I/O, such as a server that lists them.

    revision: how often its tools have changed since they were first known.
    """

    revision = 0

    @abstractmethod
    async def wait_until_ready(self, seconds: float | None = None) -> None:
        """Wait until the tools of now are known, at most `seconds`."""


class ToolRegistry:
    """Tools in the order in which they were added.

    A collection: `in` (a name or a tool), `len`, iteration over the tools, `[name]`. Two tools with
    the same name raise DuplicateTool, which has the locations of both.
    """

    def __init__(self, *sources: object) -> None:
        self._tools: dict[str, Tool] = {}
        self._index: ToolIndex | None = None
        self.add(*sources)

    def add(self, *sources: object) -> None:
        """Add the tools of each source.

        A source is a tool, a function, a method, a callable object, a module (its tools, or its
        public functions if it has none), any other object (its methods with `@tool`), or a list or
        registry of sources. Raises DuplicateTool or SchemaError, and adds nothing then.
        """
        added = dict(self._tools)
        for new in (new for source in sources for new in collect_tools(source)):
            other = added.setdefault(new.name, new)
            if not _is_same_tool(new, other):
                raise DuplicateTool(
                    f"two tools are called {new.name!r}: one at {other.location}, one at "
                    f"{new.location}; rename one with @tool(name=...) or add it under a prefix()"
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
        **options: Unpack[ToolOptionArguments],
    ) -> Callable[[Callable[P, R]], Tool[P, R]]: ...

    def tool(
        self,
        function: Function | None = None,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        **options: Unpack[ToolOptionArguments],
    ) -> Tool | Callable[[Function], Tool]:
        """Make a function a tool as `agentcall.tool` does, and add it to this registry."""

        def decorate(target: Function) -> Tool:
            decorated = make_tool(target, name=name, description=description, **options)
            self.add(decorated)
            return decorated

        return decorate if function is None else decorate(function)

    def search(self, query: str, count: int = 10) -> list[Tool]:
        """Return the tools that match a query best, the best first; none without a common word.

        Searches names, descriptions and parameters, without a model (docs/tool_search.md).
        """
        if self._index is None:
            from agentcall.tools.search import ToolIndex  # on demand: few registries are searched

            self._index = ToolIndex(self)
        return self._index.search(query, count)

    def pick(self, *names: str) -> ToolRegistry:
        """Return a registry with only these tools, in this order. Raises UnknownTool."""
        return ToolRegistry(*(self[name] for name in names))

    def without(self, *names: str) -> ToolRegistry:
        """Return a registry with all tools except these. Raises UnknownTool."""
        left_out = {self[name].name for name in names}
        return ToolRegistry(*(found for found in self if found.name not in left_out))

    def prefix(self, prefix: str) -> ToolRegistry:
        """Return a registry with the same tools, each name preceded by `prefix`.

        So are the names in `after=`, if they are those of tools of this registry.
        """
        return ToolRegistry(*(self._with_prefix(found, prefix) for found in self))

    def _with_prefix(self, found: Tool, prefix: str) -> Tool:
        renamed = found.with_name(prefix + found.name)
        if not found.options.after:
            return renamed
        before = [
            prefix + name if name in self._tools else name for name in found.options.names_before
        ]
        return make_tool(renamed, after=before)

    def merge(self, *others: object) -> ToolRegistry:
        """Return a registry with these tools and those of the others. Raises DuplicateTool."""
        return ToolRegistry(self, *others)

    def __or__(self, other: object) -> ToolRegistry:
        return self.merge(other)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tools, in order."""
        return tuple(self._tools)

    @property
    def by_name(self) -> Mapping[str, Tool]:
        """The tools by name, as a read-only view."""
        return MappingProxyType(self._tools)

    @classmethod
    def discover(cls, group: str = ENTRY_POINT_GROUP) -> ToolRegistry:
        """Return the tools of installed packages, from the entry point group `agentcall.tools`.

        An entry point names a tool, a function, a module or a list of those. A module may define
        `TOOLS`, a dict of names to `module:attribute`, so that tools are imported only when used.
        """
        from importlib.metadata import (
            entry_points,
        )  # on demand: it reads the metadata of all packages

        found = cls()
        for point in sorted(entry_points(group=group), key=lambda point: point.name):
            found.add(*_load_entry_point(point))
        return found

    def __getitem__(self, name: str) -> Tool:
        try:
            return self._tools[name]
        except KeyError:
            known = ", ".join(self._tools) or "none"
            raise UnknownTool(f"unknown tool {name!r}; the tools are: {known}") from None

    def __contains__(self, name: object) -> bool:
        return (name.name if isinstance(name, Tool) else name) in self._tools

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"ToolRegistry({', '.join(self._tools)})"


def _is_same_tool(one: Tool, other: Tool) -> bool:
    """Whether two tools are the same function with the same schema and options."""
    if one is other:
        return True
    is_same_function = one.function == other.function and one.options == other.options
    return is_same_function and one.definition == other.definition


def _load_entry_point(point: EntryPoint) -> Iterable[object]:
    try:
        source = point.load()
        paths_by_name = getattr(source, "TOOLS", None)
        if isinstance(source, ModuleType) and isinstance(paths_by_name, Mapping):
            paths = cast("Mapping[str, object]", paths_by_name).values()
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
    """Return the tools of a source, as in `ToolRegistry.add`. Raises UsageError for none."""
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
    if source is None:
        raise UsageError("None is not a tool; leave tools= out, or pass a list of functions")
    if hasattr(source, "as_tool"):
        raise UsageError(f"{source!r:.100} is an agent; add its as_tool(), or name it in handoffs=")
    if isinstance(source, Iterable):
        return [t for s in cast("Iterable[object]", source) for t in collect_tools(s)]
    return _collect_from_object(source)


def _collect_from_module(module: ModuleType) -> Iterable[Tool]:
    public = [value for name, value in vars(module).items() if not name.startswith("_")]
    tools = [cast("Tool", value) for value in public if isinstance(value, Tool)]
    if tools:
        return tools
    functions = [f for f in public if inspect.isfunction(f) and f.__module__ == module.__name__]
    if not functions:
        place = getattr(module, "__file__", None) or f"the module {module.__name__}"
        raise UsageError(
            f"{place} has no tools: decorate a function with @tool, or define a public one"
        )
    return [make_tool(function) for function in functions]


def _collect_from_object(source: object) -> Iterable[Tool]:
    tools = [make_tool(value) for value in _find_decorated_tools(source)]
    for found in tools:
        if found.needs_instance:
            raise UsageError(
                f"{found.name} at {found.location} is a method: add an instance of "
                f"{source!r}, not the class"
            )
    if tools:
        return tools
    if callable(source):
        return [make_tool(source)]
    owner = type(source)
    methods = [
        name
        for name in _list_public_names(owner)
        if inspect.isfunction(inspect.getattr_static(owner, name))
    ]
    if not methods:
        raise SchemaError(
            f"{source!r:.200} is not a tool, a function, a module or an object of tools; if a call "
            "returned it, add the function itself, without ()"
        )
    # Not all of its methods: whoever adds a method to the class would give it to the model.
    raise SchemaError(
        f"{source!r:.200} has no tools; mark the methods that a model may call with @tool, or add "
        f"these methods themselves, such as [{owner.__name__.lower()}.{methods[0]}]; it has: "
        f"{', '.join(methods[:20])}"
    )


def _find_decorated_tools(source: object) -> Iterable[Function]:
    """Yield the tools that an object or its class defines with `@tool`, bound to the object."""
    owner = source if isinstance(source, type) else type(source)
    attributes = cast("Mapping[str, object]", getattr(source, "__dict__", {}))
    own_names = [name for name in attributes if not name.startswith("_")]
    for name in dict.fromkeys([*_list_public_names(owner), *own_names]):
        static = inspect.getattr_static(source, name)
        if isinstance(getattr(static, "__func__", static), Tool):
            yield getattr(source, name)


def _list_public_names(owner: type) -> Iterable[str]:
    """Return the public names of a class in order of definition, base classes first."""
    names = (name for base in reversed(owner.__mro__) for name in vars(base))
    return dict.fromkeys(name for name in names if not name.startswith("_"))
