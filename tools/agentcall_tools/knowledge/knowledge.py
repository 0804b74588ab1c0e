"""The tools: search passages in documents, and continue reading from one."""

import hashlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentcall import tool
from agentcall_tools.files.root_folder import RootFolder
from agentcall_tools.knowledge.index import FoundPassage, PassageIndex
from agentcall_tools.knowledge.refresh import IndexReport

MAX_PASSAGES = 20
MAX_QUERY_LENGTH = 1_000
REFRESH_SECONDS = 20.0
"""How long a search may update the index before it searches."""
_MAX_SHOWN = 6_000
_MAX_NAMED = 20


class KnowledgeError(ValueError):
    """The search failed; the message says why and what to do."""


class Knowledge:
    """The documents of a folder as tools: `Agent(tools=[Knowledge("/srv/handbook")])`.

    about: a description of the documents for the model: "the handbook of Example Ltd".
    index: the file of the index, which has the documents' text; by default in agentcall's cache
        folder.
    deny: patterns of names that are left out; by default hidden files.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        about: str = "",
        index: str | Path | None = None,
        deny: Sequence[str] = (".*",),
    ) -> None:
        root, path = RootFolder(folder, deny), Path(folder).expanduser().resolve()
        self._index = PassageIndex(
            root, path, _get_default_index(path) if index is None else Path(index)
        )
        if about:
            text = f"Searches {about} and returns the passages that fit best, with their place."
            self.search_knowledge = tool(description=text)(self.search_knowledge)

    def refresh(self, seconds: float = 3600.0) -> IndexReport:
        """Update the index. A search does so, too, but only for `REFRESH_SECONDS`."""
        try:
            return self._index.refresh(seconds)
        except sqlite3.Error as error:
            raise KnowledgeError(_explain_error(error)) from error

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=120)
    def search_knowledge(self, query: str, count: int = 5) -> str:
        """Searches the documents and returns the passages that fit best, with their place.

        Args:
            query: The words that the passage has, rather than a question about it.
            count: How many passages, up to 20.
        """
        if not query.strip() or len(query) > MAX_QUERY_LENGTH:
            raise KnowledgeError(f"query is 1 to {MAX_QUERY_LENGTH} characters, got {len(query)}")
        if not 1 <= count <= MAX_PASSAGES:
            raise KnowledgeError(f"count is 1 to {MAX_PASSAGES}, got {count}")
        report = self.refresh(REFRESH_SECONDS)
        found = self._index.search(query, count)
        notes = _make_notes(report)
        if not found:
            notes = [
                _describe_no_match(self._index.list_documents(_MAX_NAMED), report.documents),
                *notes,
            ]
        return "\n\n".join([*_format_passages(found), *notes])

    @tool(idempotent=True, read_only=True, untrusted=True, timeout=60)
    def read_knowledge(self, document: str, passage: int = 1) -> str:
        """Continues reading a document from one of its passages.

        Args:
            document: Its path, as a search gave it.
            passage: The number of the passage to begin with, from 1.
        """
        found = self._index.read_passages(document, passage, MAX_PASSAGES + 1)
        if not found:
            known = ", ".join(self._index.list_documents(_MAX_NAMED)) or "none yet; search first"
            raise KnowledgeError(
                f"{document[:200]!r} has no passage {passage}; the documents are: {known}"
            )
        shown = _format_passages(found[:MAX_PASSAGES])
        more = found[len(shown) :]
        note = [f"[continue with passage={more[0].number}]"] if more else []
        return "\n\n".join([*shown, *note])


def _get_default_index(folder: Path) -> Path:
    """Return the default file of a folder's index, in agentcall's cache folder."""
    cache = os.environ.get("AGENTCALL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return (Path(cache) if cache else Path(base) / "agentcall") / "knowledge" / f"{name}.db"


def _format_passages(found: Sequence[FoundPassage]) -> list[str]:
    """Format passages with their positions, at least one, up to `_MAX_SHOWN` characters."""
    shown: list[str] = []
    for path, unit, number, passage in found:
        numbers = f"{passage.first}-{passage.last}".removesuffix(f"-{passage.first}")
        place = f"{path}:{numbers}" if unit == "line" else f"{path}, page {numbers}"
        heading = f" ({passage.heading})" if passage.heading else ""
        text = f"[{place}, passage {number}{heading}]\n{passage.text}"
        if shown and sum(map(len, shown)) + len(text) > _MAX_SHOWN:
            break
        shown.append(text)
    return shown


def _describe_no_match(names: Sequence[str], count: int) -> str:
    if not names:
        return "there are no documents with text"
    more = ", ..." if count > len(names) else ""
    return f"no passage has any of these words; the documents are: {', '.join(names)}{more}"


def _make_notes(report: IndexReport) -> list[str]:
    notes: list[str] = []
    if report.is_truncated:
        notes.append("[the folder has more files than are looked at]")
    if report.pending:
        notes.append(f"[{report.pending} documents are not indexed yet: search again for more]")
    if report.unread_files:
        notes.append(_format_unread(report.unread_files))
    return notes


def _format_unread(why: Mapping[str, str]) -> str:
    first = "; ".join(f"{path}: {reason}" for path, reason in list(why.items())[:3])
    more = f"; and {len(why) - 3} more" if len(why) > 3 else ""
    return f"[not read: {first}{more}]"


def _explain_error(error: sqlite3.Error) -> str:
    if "fts5" in str(error):
        return "this Python's SQLite has no FTS5, which the index needs"
    return f"the index cannot be used: {error}; remove its file, and it is made again"
