"""Describe an optional dependency that is missing, with the command that installs it.

The command depends on how agentcall was installed, which pip and uv record in `direct_url.json`
(PEP 610) and `INSTALLER` beside the metadata: from a clone, from an archive, from version control,
or from an index.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = re.compile(r"[\w.-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w.-]+)['\"]")


def describe_missing_extra(
    feature: str, extra: str, module: str = "", name: str = "agentcall"
) -> str:
    """Return a message: what the feature needs, and the command that installs the extra.

    module: the module that could not be imported, in case its package is installed.
    name: the distribution that has the extra.
    """
    try:
        installed = distribution(name)
    except PackageNotFoundError:  # the sources are on sys.path without an installation
        return (
            f"{feature} needs the extra {extra!r}. In a clone of {name}: pip install '.[{extra}]'"
        )
    packages = _find_missing_packages(installed, extra) or [module.partition(".")[0]]
    verb = "are" if packages[1:] else "is"
    return (
        f"{feature} needs {_join(packages)}, which {verb} not installed. "
        f"Install the extra {extra!r}: {format_install_command(extra, name)}"
    )


def format_install_command(extra: str, name: str = "agentcall") -> str:
    """Return the shell command that adds an extra to this installation."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return f"pip install '.[{extra}]'"
    pip = "uv pip" if (installed.read_text("INSTALLER") or "").strip() == "uv" else "pip"
    return f"{pip} install {_format_requirement(installed, extra)}"


def _format_requirement(installed: Distribution, extra: str) -> str:
    """Return the argument of `pip install`, quoted for a shell."""
    name = installed.metadata["Name"]
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    url = str(origin.get("url", ""))
    if url.startswith("file:"):
        path = Path(url2pathname(urlsplit(url).path))
        if path.exists():
            is_editable = origin.get("dir_info", {}).get("editable", False)
            return ("-e " if is_editable else "") + _quote(f"{path}[{extra}]")
    elif "vcs_info" in origin:
        revision = origin["vcs_info"].get("requested_revision")
        version = f"@{revision}" if revision else ""
        return _quote(f"{name}[{extra}] @ {origin['vcs_info']['vcs']}+{url}{version}")
    elif url:
        return _quote(f"{name}[{extra}] @ {url}")
    return _quote(f"{name}[{extra}]")


def _quote(text: str) -> str:
    """Quote an argument for a shell, or for cmd.exe, which knows double quotes only."""
    return f'"{text}"' if sys.platform == "win32" else shlex.quote(text)


def _find_missing_packages(installed: Distribution, extra: str) -> list[str]:
    """Return the names of the packages of an extra that are not installed."""
    missing: list[str] = []
    for requirement in installed.requires or ():
        match, name = _EXTRA.search(requirement), _NAME.match(requirement)
        if match is None or name is None or match[1] != extra:
            continue
        try:
            distribution(name[0])
        except PackageNotFoundError:
            missing.append(name[0])
    return missing


def _join(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
