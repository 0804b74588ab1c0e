"""Conversations that are stored and continued from run to run."""

from agentcall.runtime.compaction import (
    CompactionPlan,
    CompactionResult,
    CompactionStrategy,
    Summary,
    Window,
)
from agentcall.runtime.session import (
    ChatSession,
    Session,
    SessionSnapshot,
    SessionSummary,
    StoredRun,
    check_pending,
    find_undo_start,
)
from agentcall.sessions.sqlite_session import SQLiteSession
from agentcall.sessions.store import SearchHit, SessionStore, StoredSession, default_path

__all__ = [
    "ChatSession",
    "CompactionPlan",
    "CompactionResult",
    "CompactionStrategy",
    "SQLiteSession",
    "SearchHit",
    "Session",
    "SessionSnapshot",
    "SessionStore",
    "SessionSummary",
    "StoredRun",
    "StoredSession",
    "Summary",
    "Window",
    "check_pending",
    "default_path",
    "find_undo_start",
]
