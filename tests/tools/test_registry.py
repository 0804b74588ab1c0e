from __future__ import annotations

import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

from agentcall import Agent, Tool, ToolRegistry, tool
from agentcall.errors import DuplicateTool, SchemaError, UnknownTool, UsageError
from agentcall.testing import ScriptedModel, say


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def mul(a: int, b: int) -> int:
    """Multiply."""
    return a * b


def other_add(a: int, b: int) -> int:
    """Add too."""
    return a + b


other_add.__name__ = "add"


class Counter:
    def __init__(self) -> None:
        self.count = 0
        self.extra = tool(mul)

    @tool
    def up(self) -> int:
        """Up."""
        self.count += 1
        return self.count

    @classmethod
    @tool
    def kind(cls) -> str:
        """Kind."""
        return cls.__name__

    @staticmethod
    @tool
    def zero() -> int:
        """Zero."""
        return 0

    def plain(self) -> None:
        raise AssertionError("not a tool")


class Methods:
    def first(self, a: int) -> int:
        """First."""
        return a

    def second(self) -> str:
        """Second."""
        return "2"

    def _hidden(self) -> None: ...

    value = 3


class Shout:
    """Shout."""

    def __call__(self, text: str) -> str:
        return text.upper()


def test_a_registry_acts_like_a_collection() -> None:
    registry = ToolRegistry(add, mul)
    assert len(registry) == 2
    assert "add" in registry
    assert add in registry
    assert "div" not in registry
    assert [found.name for found in registry] == ["add", "mul"] == list(registry.names)
    assert registry["mul"](2, 3) == 6
    assert registry.by_name["add"] is add
    assert repr(registry) == "ToolRegistry(add, mul)"


def test_functions_become_tools_by_decoration() -> None:
    registry = ToolRegistry()

    @registry.tool
    def one() -> int:
        """One."""
        return 1

    @registry.tool(name="zwei", timeout=5)
    def two() -> int:
        """Two."""
        return 2

    assert registry.names == ("one", "zwei")
    assert (one(), two()) == (1, 2)
    assert registry["zwei"].options.timeout == 5


def test_an_unknown_name_is_reported_with_the_known_ones() -> None:
    with pytest.raises(UnknownTool, match="unknown tool 'div'; the tools are: add, mul"):
        ToolRegistry(add, mul)["div"]
    with pytest.raises(KeyError, match="the tools are: none"):
        ToolRegistry()["x"]


def test_two_tools_of_one_name_are_refused_naming_both_places_and_nothing_is_added() -> None:
    registry = ToolRegistry(add)
    lines = [f.__code__.co_firstlineno for f in (add.function, other_add)]
    with pytest.raises(DuplicateTool) as caught:
        registry.add(mul, other_add)
    for line in lines:
        assert f"{__file__}:{line}" in str(caught.value)
    assert registry.names == ("add",)


def test_the_same_tool_may_be_added_again() -> None:
    counter = Counter()
    registry = ToolRegistry(add, mul, counter)
    registry.add(add, mul, [counter.up])
    assert registry.names == ("add", "mul", "up", "kind", "zero")
    with pytest.raises(DuplicateTool):
        registry.add(Counter())


def test_an_object_gives_its_decorated_methods_bound_to_it() -> None:
    counter = Counter()
    registry = ToolRegistry(counter)
    assert registry.names == ("up", "kind", "zero", "mul")
    assert [registry["up"].call({}) for _ in range(2)] == [1, 2]
    assert counter.count == 2
    assert registry["kind"].call({}) == "Counter"
    assert registry["zero"].call({}) == 0


def test_an_object_without_decorated_methods_offers_only_those_that_are_added() -> None:
    with pytest.raises(SchemaError, match=r"such as \[methods\.first\]; it has: first, second"):
        ToolRegistry(Methods())
    with pytest.raises(SchemaError, match="mark the methods"):
        Agent(ScriptedModel([say("hi")]), tools=[Methods()])
    registry = ToolRegistry(Methods().first)
    assert registry.names == ("first",)
    assert registry["first"].call({"a": 3}) == 3


def test_bound_methods_lists_mappings_and_callables_are_sources() -> None:
    methods, counter = Methods(), Counter()
    registry = ToolRegistry([methods.first, [counter.up]], {"x": mul}, Shout(), (add,))
    assert registry.names[:3] == ("first", "up", "mul")
    assert registry.names[-1] == "add"
    assert len(registry) == 5


def test_a_class_with_tools_that_need_an_instance_is_refused() -> None:
    with pytest.raises(UsageError, match="add an instance"):
        ToolRegistry(Counter)


def test_a_module_gives_its_tools_or_else_its_own_functions() -> None:
    decorated, plain = types.ModuleType("decorated"), types.ModuleType("plain")
    decorated.add, decorated.helper = add, mul  # type: ignore[attr-defined]
    exec_in(plain, "from os.path import join\ndef f(a: int) -> int:\n    return a\ndef _g(): ...")
    assert ToolRegistry(decorated).names == ("add",)
    assert ToolRegistry(plain).names == ("f",)
    with pytest.raises(UsageError, match="the module bare has no tools"):
        ToolRegistry(types.ModuleType("bare"))


def exec_in(module: types.ModuleType, source: str) -> None:
    exec(source, vars(module))


@pytest.mark.parametrize("source", ["add", b"add"])
def test_a_text_is_not_a_tool(source: object) -> None:
    with pytest.raises(UsageError, match="is a text, not a tool"):
        ToolRegistry(source)


@pytest.mark.parametrize("source", [3, None])
def test_what_holds_no_tools_is_refused(source: object) -> None:
    with pytest.raises((SchemaError, UsageError)):
        ToolRegistry(object() if source is None else source)


def test_pick_without_prefix_and_merge_give_new_registries() -> None:
    registry = ToolRegistry(add, mul)
    assert registry.pick("mul").names == ("mul",)
    assert registry.pick("mul", "add").names == ("mul", "add")
    assert registry.without("add").names == ("mul",)
    assert registry.prefix("math_").names == ("math_add", "math_mul")
    assert registry.prefix("math_")["math_add"](1, 2) == 3
    assert (registry | registry.prefix("x_")).names == ("add", "mul", "x_add", "x_mul")
    assert registry.merge([Shout()], Methods().first).names[-1] == "first"
    assert registry.names == ("add", "mul")
    for change in (registry.pick, registry.without):
        with pytest.raises(UnknownTool):
            change("div")
    with pytest.raises(DuplicateTool):
        registry.merge(other_add)


PACKAGE = """
from agentcall import tool

@tool
def shout(text: str) -> str:
    "Shout."
    return text.upper()

def quiet(text: str) -> str:
    "Quiet."
    return text.lower()
"""


def install(folder: Path, name: str, source: str, points: str) -> None:
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[test.tools]\n{points}\n")


def discovered(*folders: Path) -> str:
    code = f"""
        import sys
        sys.path[:0] = {[str(folder) for folder in folders]!r}
        from agentcall import ToolRegistry
        try:
            print(*ToolRegistry.discover("test.tools").names)
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_tools_of_installed_packages_are_discovered(tmp_path: Path) -> None:
    lazy = 'TOOLS = {"q": "loud:quiet"}\n'
    install(tmp_path, "loud", PACKAGE, "b = loud")
    install(tmp_path, "lazy", lazy, "a = lazy\nc = loud:quiet")
    assert discovered(tmp_path) == "quiet shout"


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    install(tmp_path, "broken", "import not_there_at_all", "x = broken")
    said = discovered(tmp_path)
    assert said.startswith("UsageError")
    for word in ("x = broken", "of broken", "not_there_at_all"):
        assert word in said


def test_an_attribute_that_is_not_there_is_named(tmp_path: Path) -> None:
    install(tmp_path, "thin", 'TOOLS = {"q": "thin:nothing"}', "x = thin")
    assert "nothing" in discovered(tmp_path)


def test_without_packages_there_is_nothing() -> None:
    assert isinstance(ToolRegistry.discover("no.such.group"), ToolRegistry)
    assert len(ToolRegistry.discover("no.such.group")) == 0


def test_the_ready_tools_are_discovered() -> None:
    assert "calculator" in ToolRegistry.discover()
    assert all(isinstance(found, Tool) for found in ToolRegistry.discover())
