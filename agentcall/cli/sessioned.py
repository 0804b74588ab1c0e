"""The session that the words of a command line mean."""

from __future__ import annotations

from agentcall.cli.words import TalkOptions
from agentcall.errors import UsageError
from agentcall.session import SQLiteSession, Store


def session_of(options: TalkOptions) -> SQLiteSession | None:
    """The session that is meant; None where none is named. Raises UsageError."""
    if options.last and options.session is not None:
        raise UsageError("--session and --continue both name a session; choose one")
    name = _last() if options.last else options.session
    return None if name is None else SQLiteSession(name, wait=0)


def _last() -> str:
    store = Store()
    listed = store.list()
    if not listed:
        raise UsageError(f"there is no session in {store.path}; begin one with --session ID")
    return listed[0].id
