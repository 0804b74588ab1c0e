"""The tools: list, read, search and write files."""

import codecs
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from agentcall import tool
from agentcall_tools.files.root_folder import FileError, RootFolder
from agentcall_tools.files.walk import MAX_DEPTH, FolderEntry, FolderWalk

MAX_SHOWN = 20_000
MAX_LISTED = 300
MAX_MATCHES = 100
MAX_WRITTEN = 1_000_000
MAX_SEARCHED = 2_000_000
_MAX_LINE_LENGTH = 300


class Files:
    """The files of a folder and its subfolders as tools: `Agent(tools=[Files("/srv/notes")])`.

    deny: patterns of names that are not listed, read or written; by default hidden files, which
        often have keys and settings.
    """

    def __init__(self, root: str | Path, *, deny: Sequence[str] = (".*",)) -> None:
        self._root = RootFolder(root, deny)

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=30)
    def list_files(self, path: str = "", pattern: str = "") -> str:
        """Lists a folder, or finds files beneath it by a pattern.

        Args:
            path: The folder, for example "docs"; empty for the whole.
            pattern: To find files in all folders below: "*.md", or "docs/*.md" with a path.
        """
        walk = FolderWalk(self._root)
        lines: list[str] = []
        for entry in walk.list_entries(self._root.parse_path(path), MAX_DEPTH if pattern else 1):
            if not pattern or (entry.matches(pattern) and not entry.is_folder):
                lines.append(f"{entry.path}/" if entry.is_folder else _format_entry(entry))
            if len(lines) > MAX_LISTED:
                break
        if not lines:
            return f"no file fits {pattern!r}" if pattern else "the folder is empty"
        return _format_list(lines, MAX_LISTED, is_truncated=walk.is_truncated)

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=30)
    def read_file(self, path: str, offset: int = 0) -> str:
        """Reads a text file.

        Args:
            path: The file, relative to the folder, for example "docs/notes.md".
            offset: The byte to start from, where an earlier answer named one.
        """
        with self._root.open_file(self._root.parse_path(path)) as file:
            size = os.fstat(file).st_size
            if not 0 <= offset <= size:
                raise FileError(f"{path} has {size} bytes; offset={offset} is not in it")
            return _format_part(path, os.pread(file, MAX_SHOWN, offset), offset, size)

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    def search_files(self, text: str, path: str = "", pattern: str = "*") -> str:
        """Finds the lines of files that contain a text; upper and lower case are the same.

        Args:
            text: The words to look for, as they stand in a line.
            path: A folder to stay in; empty for the whole.
            pattern: Only files of such names, for example "*.py".
        """
        query = text.strip().casefold()
        if not query or "\n" in query:
            raise FileError("text is words that stand in one line; it is empty or of several lines")
        walk = FolderWalk(self._root)
        matches: list[str] = []
        for entry in walk.list_entries(self._root.parse_path(path)):
            if not entry.is_folder and entry.matches(pattern):
                matches += _find_lines(entry, query)
            if len(matches) > MAX_MATCHES:
                break
        if not matches:
            return (
                f"no line contains {text!r}{' as far as was searched' if walk.is_truncated else ''}"
            )
        return _format_list(matches, MAX_MATCHES, is_truncated=walk.is_truncated)

    @tool(idempotent=True, requires_approval=True, sequential=True, timeout=30)
    def write_file(self, path: str, text: str) -> str:
        """Writes a text file, whole; a file that is there already is replaced.

        Args:
            path: The file, relative to the folder; missing folders are made.
            text: The whole content.
        """
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_WRITTEN:
            raise FileError(f"text has {len(data)} bytes, at most {MAX_WRITTEN} are written")
        old_size = self._root.write(self._root.parse_path(path), data)
        change = "a new file" if old_size is None else f"it had {old_size} bytes"
        return f"wrote {len(data)} bytes to {path} ({change})"


def _format_list(lines: Sequence[str], limit: int, *, is_truncated: bool) -> str:
    more = ["[there may be more: name a folder or a pattern]"] * (
        is_truncated or len(lines) > limit
    )
    return "\n".join([*lines[:limit], *more])


def _format_entry(entry: FolderEntry) -> str:
    return f"{entry.path} ({entry.size} bytes)"


def _format_part(path: str, data: bytes, offset: int, size: int) -> str:
    """Format a part of a file, with the offset of the next part."""
    if b"\0" in data:
        raise FileError(f"{path} is not text; it has {size} bytes")
    start = offset
    while offset and data and 0x80 <= data[0] < 0xC0 and start - offset < 3:
        data, start = data[1:], start + 1  # the rest of a character that began before the offset
    end = start + len(data)
    if end < size:  # end at a line break if there is one in the second half
        line_end = data.rfind(b"\n") + 1
        data = data[:line_end] if line_end > len(data) // 2 else data
    decoder = codecs.getincrementaldecoder("utf-8-sig" if not start else "utf-8")("replace")
    text = decoder.decode(data, final=end == size)
    end = start + len(data) - len(decoder.getstate()[0])
    if start == 0 and end == size:
        return text or "(the file is empty)"
    more = f"; call read_file with offset={end} for more" if end < size else ""
    return f"{text}\n[bytes {start} to {end} of {size}{more}]"


def _find_lines(entry: FolderEntry, query: str) -> Iterator[str]:
    """Yield the lines of a file that contain a text, with their numbers and byte offsets."""
    data = entry.read(MAX_SEARCHED)
    if b"\0" in data or query not in data.decode("utf-8", "replace").casefold():
        return
    offset = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.decode("utf-8", "replace").strip()
        index = text.casefold().find(query)
        if index >= 0:
            start = max(index - _MAX_LINE_LENGTH // 2, 0)
            extract = text[start : start + _MAX_LINE_LENGTH]
            yield f"{entry.path}:{number} (offset {offset}): {extract}"
        offset += len(line) + 1
