"""The session that the words of a command line mean."""

from __future__ import annotations

from agentcall.cli.words import AgentSessionOptions
from agentcall.errors import UsageError
from agentcall.sessions import SessionStore, SQLiteSession


def open_session(options: AgentSessionOptions) -> SQLiteSession | None:
    """The session that is meant; None where none is named. Raises UsageError."""
    if options.last and options.session is not None:
        raise UsageError("--session and --continue both name a session; choose one")
    name = _find_last_session() if options.last else options.session
    return None if name is None else SQLiteSession(name, wait=0)


def _find_last_session() -> str:
    store = SessionStore()
    listed = store.list_sessions()
    if not listed:
        raise UsageError(f"there is no session in {store.path}; begin one with --session ID")
    return listed[0].id
