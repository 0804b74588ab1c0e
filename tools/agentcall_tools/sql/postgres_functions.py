"""Refusal of PostgreSQL functions that may have effects.

A READ ONLY transaction protects the tables, but not against other effects of functions: ending
sessions, taking locks, reading files, reloading the configuration. PostgreSQL classifies functions
by volatility. A VOLATILE function may have effects and is refused, except those below and those
that the user allows.

Names are searched in the whole text, including quotes and comments, so that no quoting hides one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from agentcall_tools.sql.rows import SqlError

if TYPE_CHECKING:
    from psycopg import AsyncConnection

_HARMLESS_FUNCTIONS = [
    "clock_timestamp", "current_query", "gen_random_uuid", "pg_blocking_pids",
    "pg_database_size", "pg_indexes_size", "pg_is_in_recovery", "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn", "pg_last_xact_replay_timestamp", "pg_partition_ancestors",
    "pg_partition_tree", "pg_relation_size", "pg_sequence_last_value", "pg_sleep",
    "pg_sleep_for", "pg_sleep_until", "pg_table_size", "pg_tablespace_size",
    "pg_total_relation_size", "pg_xact_commit_timestamp", "random", "random_normal",
    "timeofday", "uuidv4", "uuidv7",
]  # fmt: skip
"""PostgreSQL's own functions that are VOLATILE but change nothing."""

_NAME_CHARACTER = r"[\w$\u0080-\U0010ffff]"
_NAME = rf"(?<!{_NAME_CHARACTER})[A-Za-z_\u0080-\U0010ffff]{_NAME_CHARACTER}*(?!{_NAME_CHARACTER})"
_NAME_PATTERN = re.compile(_NAME)
_QUOTED_NAME = re.compile(r'(?="([^"]+)")')
_CALL = re.compile(rf'({_NAME})"?\s*(?=\(|/\*|--)')
_QUOTED_CALL = re.compile(r'(?="([^"]+)"\s*(?:\(|/\*|--))')
_UNICODE_ESCAPE = re.compile(r"""[uU]&["']""")
_MAX_NAME_BYTES = 63

_FIND_VOLATILE = """
WITH effects AS (
  SELECT p.oid, p.proname, p.pronamespace, p.pronargs, p.proargtypes FROM pg_proc p
    LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
    LEFT JOIN pg_proc step ON step.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn)
  WHERE (p.provolatile = 'v' OR step.provolatile = 'v') AND p.proname::text <> ALL(%(allowed)s)
    AND NOT (p.pronamespace = 'pg_catalog'::regnamespace AND p.proname::text = ANY(%(harmless)s))
)
SELECT oid::regprocedure::text FROM effects
WHERE proname::text = ANY(%(qualified)s)
  OR (proname::text = ANY(%(called)s) AND pg_function_is_visible(oid))
UNION ALL
SELECT e.oid::regprocedure::text FROM effects e JOIN pg_type t ON t.oid = e.proargtypes[0]
WHERE e.pronargs = 1 AND t.typtype IN ('c', 'p') AND e.proname::text = ANY(%(named)s)
  AND t.typname NOT IN ('cstring', 'internal', 'trigger', 'event_trigger')
UNION ALL
SELECT 'the cast to ' || t.typname FROM pg_cast c JOIN pg_type t ON t.oid = c.casttarget
  JOIN pg_proc p ON p.oid = c.castfunc
WHERE p.provolatile = 'v' AND t.typname::text = ANY(%(named)s)
UNION ALL
SELECT 'the operator ' || o.oprname FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
WHERE p.provolatile = 'v' AND position(o.oprname::text IN %(query)s) > 0
LIMIT 1"""


async def check_effects(
    connection: AsyncConnection[tuple[Any, ...]], query: str, allowed: Sequence[str]
) -> None:
    """Raise SqlError if a query may call a function that has effects."""
    if _UNICODE_ESCAPE.search(query):
        raise SqlError('names and texts of the form U&"..." are not taken; write them as they are')
    calls = [*_CALL.finditer(query), *_QUOTED_CALL.finditer(query)]
    qualified = [call for call in calls if _is_qualified(query, call.start())]
    names = {*_NAME_PATTERN.findall(query), *_QUOTED_NAME.findall(query)}
    cursor = await connection.execute(
        _FIND_VOLATILE,
        {
            "called": _list_spellings(call[1] for call in calls),
            "qualified": _list_spellings(call[1] for call in qualified),
            "named": _list_spellings(names),
            "harmless": _HARMLESS_FUNCTIONS,
            "allowed": list(allowed),
            "query": query,
        },
    )
    row = await cursor.fetchone()
    if row is not None:
        raise SqlError(
            f"{row[0]} may have effects, and a query is read-only: leave it out, or have the user "
            "allow it (functions=)"
        )


def _is_qualified(query: str, start: int) -> bool:
    """Return whether a schema's name may precede a position; a comment may hide it."""
    before = query[:start]
    bare = before.rstrip().removesuffix('"').rstrip()
    is_new_line = {"\n", "\r"} & {*before[len(bare) :]}
    return bare.endswith((".", "*/")) or bool(is_new_line and "--" in bare)


def _list_spellings(names: Iterable[str]) -> list[str]:
    """Return the names unchanged, and as PostgreSQL folds and truncates them."""
    folded = {spelling for name in names for spelling in (name, name.lower())}
    cut = {name.encode()[:_MAX_NAME_BYTES].decode("utf-8", "ignore") for name in folded}
    return sorted(folded | cut)
