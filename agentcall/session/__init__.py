"""Conversations that are kept from run to run."""

from agentcall.memory import Memory, Session
from agentcall.session.compaction import Compacted, Compaction, Shorter, Summary, Window
from agentcall.session.database import default_path
from agentcall.session.record import Found, KeptRun, KeptSession, Listed
from agentcall.session.sqlite import SQLiteSession
from agentcall.session.store import Store

__all__ = [
    "Compacted",
    "Compaction",
    "Found",
    "KeptRun",
    "KeptSession",
    "Listed",
    "Memory",
    "SQLiteSession",
    "Session",
    "Shorter",
    "Store",
    "Summary",
    "Window",
    "default_path",
]
