"""Conversations that are kept from run to run."""

from agentcall.runtime.session import Session, SessionSnapshot
from agentcall.sessions.compaction import (
    CompactionPlan,
    CompactionResult,
    CompactionStrategy,
    Summary,
    Window,
)
from agentcall.sessions.database import default_path
from agentcall.sessions.rows import SearchHit, SessionSummary, StoredRun, StoredSession
from agentcall.sessions.sqlite import SQLiteSession
from agentcall.sessions.store import SessionStore

__all__ = [
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
    "default_path",
]
