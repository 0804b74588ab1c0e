"""Where a journal is kept: the little of a database that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

SQLRow: TypeAlias = Sequence[Any]  # Any: what the columns are is known to who asks
T = TypeVar("T")


class JournalTransaction(Protocol):
    """A transaction that is under way; `?` stands for a value in the SQL."""

    def execute(self, sql: str, *values: object) -> int:
        """Carries a statement out; gives how many rows it touched."""
        ...

    def query(self, sql: str, *values: object) -> Iterable[SQLRow]:
        """The rows of a query."""
        ...


class JournalDatabase(Protocol):
    """Keeps tables. Raises JournalError where it cannot."""

    location: str
    """Where it is, without passwords."""
    lease_seconds: float
    """Seconds that a hold on a run lasts without being renewed; 0 where `lives` always knows."""
    heartbeat_seconds: float
    """Seconds between two looks at what others want of our runs."""
    skip_locked_sql: str
    """SQL behind a query that passes over the rows which another process is taking."""

    def transact(self, work: Callable[[JournalTransaction], T]) -> T:
        """What the work gives, done wholly or not at all, and on the disk when this returns.

        The work may be done again where the connection broke: twice must be as good as once.
        """
        ...

    def read(self, work: Callable[[JournalTransaction], T]) -> T:
        """What the work reads; it changes nothing."""
        ...

    def now(self) -> float:
        """Seconds since 1970, on one clock for all who use this database."""
        ...

    def create_lease(self) -> str:
        """A name for a hold of this process on a run, `host:pid:...`; never the same twice."""
        ...

    def drop_lease(self, lease_id: str) -> None:
        """Forgets a hold of this process, also where that cannot be written down."""
        ...

    def is_lease_alive(self, lease_id: str) -> bool | None:
        """Whether the process of a hold is there; None if only the lease can tell."""
        ...

    def close(self) -> None:
        """Gives up what it has open."""
        ...
