r"""Restores Windows paths whose backslashes were not escaped: `"C:\new\temp"` is valid JSON.

JSON reads it as a line break and a tab, which no path can contain. A text is such a path only if
the whole of it has the form of one, and
- the name of its argument is that of a path (`path`, `out_file`), or
- different characters occur behind its backslashes (`\n` and `\t`): text has lines or columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agentcall.lenient_json import WINDOWS_PATH, parse_strict_json
from agentcall.messages import JSON
from agentcall.repair.fixes import Fix, Fixes, dump_json, make_value_fix

_CONTROLS = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
_ESCAPED = str.maketrans(_CONTROLS)
_PATH_WORD = re.compile(
    r"(?i)path|file|dir(?:s|ectory|ectories)?(?![a-z])|folder|cwd|(?:^|_)(?:src|source|dest(?:ination)?)$"
)
_MAX_DEPTH = 32


def restore_written_paths(arguments: str) -> tuple[str, Fixes] | None:
    """Return JSON arguments with the backslashes of their paths restored; None if nothing was."""
    if not any(f"\\{control}" in arguments for control in "nrtbf"):
        return None
    try:
        value, fixes = restore_paths(parse_strict_json(arguments))
        return (dump_json(value), fixes) if fixes else None
    except (ValueError, RecursionError):
        return None


def restore_paths(value: JSON) -> tuple[JSON, Fixes]:
    """Return a value with the backslashes of its paths restored, and the fixes."""
    fixes: list[Fix] = []
    restored = _restore(value, "", "", fixes, 0)
    return restored, tuple(fixes)


def _restore(value: JSON, key: str, path: str, fixes: list[Fix], depth: int) -> JSON:
    """Restore the paths in a value; `key` is the name of the argument that it belongs to."""
    if isinstance(value, str):
        restored = _restore_text(value, key)
        if restored != value:
            fixes.append(make_value_fix("windows-path", path, value, restored))
        return restored
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        return {
            name: _restore(item, name, f"{path}.{name}" if path else name, fixes, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [
            _restore(item, key, f"{path}[{i}]", fixes, depth + 1) for i, item in enumerate(value)
        ]
    return value


def _restore_text(text: str, key: str) -> str:
    """Return the path that was meant, or the text."""
    kinds = {char for char in text if char in _CONTROLS}
    if not kinds:
        return text
    written = text.translate(_ESCAPED)
    if written.startswith("\\") and not written.startswith("\\\\"):
        written = f"\\{written}"
    if not WINDOWS_PATH.fullmatch(written):
        return text
    is_mixed = len(kinds) + ("\\" in text[1:]) > 1 and not any(map(str.isspace, written))
    return written if is_mixed or _PATH_WORD.search(key) else text
