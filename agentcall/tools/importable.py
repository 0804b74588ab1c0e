"""References to functions by module or file and name, so that another process can import them.

Only functions that can be imported have a reference. Closures, bound methods and lambdas are
created while a program runs, and another process cannot create the same ones.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from agentcall.errors import UsageError

_imports_in_progress: list[str] = []
"""The modules and files that this process is importing for a reference."""


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """A function's module (empty for a script), file (empty if built in) and name."""

    module: str
    file: str
    name: str

    def load(self) -> object:
        """Import and return the function. Raises whatever the import raises."""
        with _track_import(self.file or self.module):
            module = _import_by_name(self.module, self.file) or _import_file(self.file)
        return _get_attribute(module, self.name)


def explain_not_importable(function: object) -> str:
    """Return why another process cannot import the function, with advice; empty if it can."""
    name = str(getattr(function, "__qualname__", ""))
    if inspect.ismethod(function):
        return "it is bound to an object; make it a function at the top of a module"
    if not inspect.isroutine(function) or not name:
        return "it is not a plain function; write one at the top of a module that calls it"
    if "<locals>" in name or "<lambda>" in name:
        return "it is defined within a function; define it at the top of a module"
    return ""


def make_function_ref(function: object) -> FunctionRef:
    """Return a reference to a function. Raises UsageError, with advice, if it has none."""
    reason = explain_not_importable(function)
    if not reason and sys.platform == "win32":
        reason = "that needs Linux or macOS; on Windows, run the program in WSL"
    ref = FunctionRef("", "", "") if reason else _locate_function(function)
    if not reason and not (ref.module or ref.file):
        reason = "it was defined in an interactive session or by exec(); put it into a file"
    if not reason and not _is_importable_as(function, ref.name):
        reason = f"{ref.file or ref.module} has no such function under this name"
    if reason:
        name = getattr(function, "__qualname__", None) or repr(function)
        raise UsageError(f"{name} cannot be isolated: {reason}")
    return ref


def is_importing() -> bool:
    """Whether this process is importing the module of a reference."""
    return bool(_imports_in_progress)


def _locate_function(function: object) -> FunctionRef:
    name = str(getattr(function, "__module__", None) or "")
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if name == "__main__":
        spec = getattr(module, "__spec__", None)
        name = spec.name if spec else ""
    elif module is None:
        name = ""
    resolved = str(Path(file).resolve()) if file else ""
    return FunctionRef(name, resolved, str(getattr(function, "__qualname__", "")))


def _is_importable_as(function: object, name: str) -> bool:
    module = sys.modules[str(getattr(function, "__module__", None))]
    try:
        return _unwrap_decorators(_get_attribute(module, name)) is _unwrap_decorators(function)
    except AttributeError:
        return False


def _get_attribute(module: ModuleType, name: str) -> object:
    start: object = module
    return reduce(getattr, name.split("."), start)


def _unwrap_decorators(function: object) -> object:
    """Return the function under its decorators."""
    return inspect.unwrap(function) if callable(function) else function


@contextmanager
def _track_import(location: str) -> Generator[None, None, None]:
    _imports_in_progress.append(location)
    try:
        yield
    finally:
        _imports_in_progress.pop()


def _import_by_name(name: str, file: str) -> ModuleType | None:
    """Import a module by name; return None if it does not exist or is in another file."""
    try:
        module = import_module(name) if name else None
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise
    module_file = getattr(module, "__file__", None) or ""
    return module if os.path.realpath(module_file) == os.path.realpath(file) else None


def _import_file(file: str) -> ModuleType:
    """Import a file under another module name, so that its `__main__` block does not run."""
    name = f"agentcall_home_{Path(file).stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file or 'it'} cannot be imported")
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
