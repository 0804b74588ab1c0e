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

_loading: list[str] = []
"""The homes that are being imported in this process."""


@dataclass(frozen=True, slots=True)
class Home:
    """A function's module (empty for a script), its file (empty if built in), its name in it."""

    module: str
    file: str
    name: str

    def found(self) -> object:
        """What lives there; imports it. Raises whatever the import raises."""
        with _noted(self.file or self.module):
            module = _by_name(self.module, self.file) or _by_file(self.file)
        return _named(module, self.name)


def why_homeless(function: object) -> str:
    """Why no other process could find the function, and what to do; nothing if it could."""
    name = str(getattr(function, "__qualname__", ""))
    if inspect.ismethod(function):
        return "it is bound to an object; make it a function at the top of a module"
    if not inspect.isroutine(function) or not name:
        return "it is no plain function; write one at the top of a module that calls it"
    if "<locals>" in name or "<lambda>" in name:
        return "it is defined within a function; define it at the top of a module"
    return ""


def home_of(function: object) -> Home:
    """The home of a function that is found there. Raises UsageError, with what to do."""
    why = why_homeless(function)
    if not why and os.name != "posix":
        why = "that needs Linux or macOS; on Windows, run the program in WSL"
    home = Home("", "", "") if why else _home(function)
    if not why and not (home.module or home.file):
        why = "it was typed in or made by exec(); put it into a file"
    if not why and not _lives_there(function, home.name):
        why = f"{home.file or home.module} has something else, or nothing, under this name"
    if why:
        name = getattr(function, "__qualname__", None) or repr(function)
        raise UsageError(f"{name} cannot be isolated: {why}")
    return home


def is_loading() -> bool:
    """Whether this process is just importing the home of a function."""
    return bool(_loading)


def _home(function: object) -> Home:
    name = str(getattr(function, "__module__", None) or "")
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if name == "__main__":
        spec = getattr(module, "__spec__", None)
        name = spec.name if spec else ""
    elif module is None:
        name = ""
    resolved = str(Path(file).resolve()) if file else ""
    return Home(name, resolved, str(getattr(function, "__qualname__", "")))


def _lives_there(function: object, name: str) -> bool:
    module = sys.modules[str(getattr(function, "__module__", None))]
    try:
        return _bottom(_named(module, name)) is _bottom(function)
    except AttributeError:
        return False


def _named(module: ModuleType, name: str) -> object:
    start: object = module
    return reduce(getattr, name.split("."), start)


def _bottom(function: object) -> object:
    """The function that decorators were laid over."""
    return inspect.unwrap(function) if callable(function) else function


@contextmanager
def _noted(place: str) -> Generator[None, None, None]:
    _loading.append(place)
    try:
        yield
    finally:
        _loading.pop()


def _by_name(name: str, file: str) -> ModuleType | None:
    """The module of this name, if there is one and it stands in this file."""
    try:
        module = import_module(name) if name else None
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise
    own = getattr(module, "__file__", None) or ""
    return module if os.path.realpath(own) == os.path.realpath(file) else None


def _by_file(file: str) -> ModuleType:
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
