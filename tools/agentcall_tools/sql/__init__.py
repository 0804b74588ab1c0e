"""Tools that read a SQLite or PostgreSQL database and cannot change it."""

from agentcall_tools.sql.rows import SqlError
from agentcall_tools.sql.tools import Sql

__all__ = ["Sql", "SqlError"]
