"""Conversations that are kept from run to run."""

from agentcall.memory import Session, SessionSnapshot
from agentcall.session.compaction import (
    CompactionPlan,
    CompactionResult,
    CompactionStrategy,
    Summary,
    Window,
)
from agentcall.session.database import default_path
from agentcall.session.record import SearchHit, SessionSummary, StoredRun, StoredSession
from agentcall.session.sqlite import SQLiteSession
from agentcall.session.store import SessionStore

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
