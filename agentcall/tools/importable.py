"""Where a function lives, so that another process can find it: by module or file, and by name.

Only what can be imported has a home. A closure, a bound method or a lambda is made while a program
runs, and no other process can make the same one.
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
"""The homes that are being imported in this process."""


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """A function's module (empty for a script), its file (empty if built in), its name in it."""

    module: str
    file: str
    name: str

    def load(self) -> object:
        """What lives there; imports it. Raises whatever the import raises."""
        with _track_import(self.file or self.module):
            module = _import_by_name(self.module, self.file) or _import_file(self.file)
        return _get_attribute(module, self.name)


def explain_not_importable(function: object) -> str:
    """Why no other process could find the function, and what to do; nothing if it could."""
    name = str(getattr(function, "__qualname__", ""))
    if inspect.ismethod(function):
        return "it is bound to an object; make it a function at the top of a module"
    if not inspect.isroutine(function) or not name:
        return "it is no plain function; write one at the top of a module that calls it"
    if "<locals>" in name or "<lambda>" in name:
        return "it is defined within a function; define it at the top of a module"
    return ""


def make_function_ref(function: object) -> FunctionRef:
    """The home of a function that is found there. Raises UsageError, with what to do."""
    why = explain_not_importable(function)
    if not why and os.name != "posix":
        why = "that needs Linux or macOS; on Windows, run the program in WSL"
    home = FunctionRef("", "", "") if why else _locate_function(function)
    if not why and not (home.module or home.file):
        why = "it was typed in or made by exec(); put it into a file"
    if not why and not _is_importable_as(function, home.name):
        why = f"{home.file or home.module} has something else, or nothing, under this name"
    if why:
        name = getattr(function, "__qualname__", None) or repr(function)
        raise UsageError(f"{name} cannot be isolated: {why}")
    return home


def is_importing() -> bool:
    """Whether this process is just importing the home of a function."""
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
    """The function that decorators were laid over."""
    return inspect.unwrap(function) if callable(function) else function


@contextmanager
def _track_import(location: str) -> Generator[None, None, None]:
    _imports_in_progress.append(location)
    try:
        yield
    finally:
        _imports_in_progress.pop()


def _import_by_name(name: str, file: str) -> ModuleType | None:
    """The module of this name, if there is one and it stands in this file."""
    try:
        module = import_module(name) if name else None
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise
    own = getattr(module, "__file__", None) or ""
    return module if os.path.realpath(own) == os.path.realpath(file) else None


def _import_file(file: str) -> ModuleType:
    """A file as a module of another name, so that what a script does as `__main__` is not done."""
    name = f"agentcall_home_{Path(file).stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file or 'it'} cannot be imported")
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
