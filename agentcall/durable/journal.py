"""The journal: a header and a list of records for each run, in the tables of a database.

Rules:
1. Records are only ever appended. A record and the header that counts it are written together.
2. The process that executes a run has a lease on it and writes every record under that lease. A
   process that has lost its lease cannot write, so it cannot start a tool either.
3. Headers and records have checksums. The digest of a record covers all records before it.

A record has a JSON body. Its kinds:

    begin    the agent's name, the messages, the agent's fingerprint, and how the command line
             built it (`recipe`)
    resume   who continues the run, the present fingerprint, and what has changed
    turn     the checkpoint at which the model was asked, and its turn
    start    a tool call that is about to be executed
    end      its result
    pause    the result of a run that waits for approval
    decide   a person's decisions about the waiting calls
    finish   the result of the run
    fail     the error that ended the run for good
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import orjson

from agentcall.errors import JournalDamaged, JournalError, RunBusy, UsageError
from agentcall.messages import JSON, encode_json
from agentcall.storage.codec import JSONObject, compute_digest
from agentcall.storage.locks import LeaseOwner, describe_owner

RecordKind: TypeAlias = Literal[
    "begin", "resume", "turn", "point", "start", "end", "pause", "decide", "finish", "fail"
]
RunStatus: TypeAlias = Literal["open", "paused", "finished", "failed"]
RecordBody: TypeAlias = JSONObject
SQLRow: TypeAlias = Sequence[Any]  # Any: the caller knows the types of its columns
T = TypeVar("T")

FORMAT_VERSION = 2
_HEADER_COLUMNS = (
    "run_id, state, outcome, queue, title, records, digest, holder, until, claims, created"
)
_SEALED_COLUMNS = "run_id, state, outcome, records, digest"


class JournalTransaction(Protocol):
    """An open transaction; `?` in the SQL is a parameter."""

    def execute(self, sql: str, *values: object) -> int:
        """Execute a statement and return the number of affected rows."""
        ...

    def query(self, sql: str, *values: object) -> Iterable[SQLRow]:
        """Return the rows of a query."""
        ...


class JournalDatabase(Protocol):
    """A database that stores a journal. Methods raise JournalError if it cannot be used."""

    location: str
    """The path or URL, without passwords."""
    lease_seconds: float
    """Seconds after which a lease expires unless it is renewed; 0 if its owner's lock decides."""
    heartbeat_seconds: float
    """Seconds between two checks of the leases of this process."""
    skip_locked_sql: str
    """SQL at the end of a query that skips rows which another process is claiming."""

    @property
    def lease_owner(self) -> LeaseOwner:
        """This process as an owner of leases."""
        ...

    def transact(self, work: Callable[[JournalTransaction], T]) -> T:
        """Execute the work in a transaction that is on the disk when this returns.

        The work is repeated if the connection breaks, so executing it twice must be harmless.
        """
        ...

    def read(self, work: Callable[[JournalTransaction], T]) -> T:
        """Execute work that changes nothing."""
        ...

    def now(self) -> float:
        """Return the seconds since 1970 on a clock that all users of this database share."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class JournalRecord(NamedTuple):
    """A record of a run. `sequence` counts from 1; `body` is JSON text."""

    run_id: str
    sequence: int
    kind: str
    body: str
    digest: str

    @property
    def fields(self) -> RecordBody:
        """The parsed body."""
        return cast("RecordBody", orjson.loads(self.body))


class RunHeader(NamedTuple):
    """A run without its records.

    state: "open" is a run that is being executed, waits for a worker or was interrupted.
    outcome: the `stop_reason` of a finished run, or the name of the error that it failed with.
    until: when the lease expires, or when a worker may claim the run.
    claims: how often in a row the run was claimed without completing a step.
    """

    run_id: str
    state: RunStatus
    outcome: str
    queue: str
    title: str
    records: int
    digest: str
    holder: str
    until: float
    claims: int
    created: float


class JournalEntry(NamedTuple):
    """A record to write under a lease, with the new state and outcome of the header."""

    record: JournalRecord
    lease_id: str
    previous_digest: str
    state: RunStatus = "open"
    outcome: str = ""


def seal_record(
    run_id: str, sequence: int, kind: RecordKind, body: Mapping[str, JSON], previous_digest: str
) -> JournalRecord:
    """Create the record that follows the one with this digest."""
    text = encode_json(body).decode()
    return JournalRecord(
        run_id, sequence, kind, text, compute_digest(previous_digest, run_id, sequence, kind, text)
    )


def verify_records(
    run_id: str, records: Iterable[JournalRecord], count: int, digest: str
) -> list[JournalRecord]:
    """Return the records if they are the whole chain. Raises JournalDamaged naming the place."""
    verified: list[JournalRecord] = []
    previous = ""
    for sequence, record in enumerate(records, start=1):
        expected = compute_digest(previous, run_id, sequence, record.kind, record.body)
        if (record.run_id, record.sequence, record.digest) != (run_id, sequence, expected):
            raise _create_damaged_error(run_id, sequence)
        verified.append(record)
        previous = expected
    if len(verified) != count or previous != digest:
        raise _create_damaged_error(run_id, len(verified) + 1)
    return verified


def _create_damaged_error(run_id: str, sequence: int) -> JournalDamaged:
    return JournalDamaged(
        f"record {sequence} of the run {run_id} is not what was written, so the run cannot "
        "continue. Restore the journal from a copy, or start the run again under another id"
    )


class Journal:
    """Reads and writes the runs of a database. Use it in one thread."""

    def __init__(self, database: JournalDatabase) -> None:
        self.database = database

    def create_run(
        self,
        first: JournalRecord,
        lease_id: str,
        *,
        queue: str = "",
        title: str = "",
        last: JournalEntry | None = None,
    ) -> bool:
        """Create a run with its first record; return False if it exists already.

        lease_id: the lease of the process that executes it; "" leaves it to a worker of the queue.
        last: the second record, of a run that is recorded when it pauses.
        """
        run_id, now = first.run_id, self.database.now()
        until = now + self.database.lease_seconds if lease_id else 0.0
        state: RunStatus = "open"
        seal = compute_digest(run_id, state, "", 1, first.digest)

        def work(transaction: JournalTransaction) -> bool:
            added = transaction.execute(
                "INSERT INTO agentcall_runs (run_id, state, outcome, queue, title, records, digest,"
                " seal, holder, until, claims, cancel, created)"
                " VALUES (?, ?, '', ?, ?, 1, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT DO NOTHING",
                *(run_id, state, queue, title, first.digest, seal, lease_id, until, now),
            )
            if added:
                _insert_record(transaction, first)
            if added and last is not None:
                _append_entry(transaction, last)
            return bool(added)

        return self.database.transact(work)

    def find_run(self, run_id: str) -> RunHeader | None:
        """Return the header of a run, or None. Raises JournalDamaged if it has changed."""
        return self.database.read(lambda transaction: _find_header(transaction, run_id))

    def list_runs(self, queue: str | None = None) -> list[RunHeader]:
        """Return the headers of all runs, or of those of a queue, the newest first."""
        where, values = ("", ()) if queue is None else (" WHERE queue = ?", (queue,))
        sql = f"SELECT {_HEADER_COLUMNS} FROM agentcall_runs{where} ORDER BY created DESC, run_id"
        return self.database.read(
            lambda transaction: [RunHeader(*row) for row in transaction.query(sql, *values)]
        )

    def has_open_runs(self, queue: str) -> bool:
        """Return whether a run of the queue has not ended."""
        sql = "SELECT 1 FROM agentcall_runs WHERE queue = ? AND state = 'open' LIMIT 1"
        return bool(self.database.read(lambda transaction: list(transaction.query(sql, queue))))

    def list_ended(self, queue: str, *states: RunStatus) -> list[str]:
        """Return the ids of the runs in these states; by default, in all states except "open"."""
        sql = "SELECT run_id, state FROM agentcall_runs WHERE queue = ? AND state <> 'open'"
        rows = self.database.read(lambda transaction: list(transaction.query(sql, queue)))
        return [str(row[0]) for row in rows if not states or row[1] in states]

    def read_records(self, run_id: str) -> list[JournalRecord]:
        """Return the records of a run; none if it does not exist. Raises JournalDamaged."""

        def work(transaction: JournalTransaction) -> list[JournalRecord]:
            header = _find_header(transaction, run_id)
            if header is None:
                return []
            rows = transaction.query(
                "SELECT run_id, place, kind, body, digest FROM agentcall_records"
                " WHERE run_id = ? ORDER BY place",
                run_id,
            )
            records = (JournalRecord(*row) for row in rows)
            return verify_records(run_id, records, header.records, header.digest)

        return self.database.read(work)

    def claim(self, run_id: str, lease_id: str) -> None:
        """Take the lease on a run. Raises UsageError, and RunBusy naming its holder."""

        def work(transaction: JournalTransaction) -> None:
            header = _find_header(transaction, run_id)
            if header is None:
                raise UsageError(f"there is no run {run_id} in {self.database.location}")
            if header.holder != lease_id and self.is_leased(header):
                owner = describe_owner(header.holder)
                raise RunBusy(f"the run {run_id} is being executed by {owner}")
            self._take_lease(transaction, run_id, lease_id, header.holder)

        self.database.transact(work)

    def claim_next(self, queue: str, lease_id: str) -> RunHeader | None:
        """Take the lease on the first free run of a queue; return None if there is none."""

        def work(transaction: JournalTransaction) -> RunHeader | None:
            now = self.database.now()
            rows = transaction.query(
                f"SELECT {_HEADER_COLUMNS} FROM agentcall_runs WHERE queue = ? AND state = 'open'"
                " AND until <= ? ORDER BY created, run_id LIMIT "
                f"1000{self.database.skip_locked_sql}",
                *(queue, now),
            )
            for header in (RunHeader(*row) for row in rows):
                if not self.is_leased(header, now):
                    self._take_lease(transaction, header.run_id, lease_id, header.holder)
                    return header
            return None

        return self.database.transact(work)

    def is_leased(self, header: RunHeader, now: float | None = None) -> bool:
        """Return whether a living process has the lease on the run."""
        if not header.holder:
            return False
        is_alive = self.database.lease_owner.is_lease_alive(header.holder)
        if not self.database.lease_seconds:  # all processes are on this machine
            return is_alive is True
        # a process that is dead here has lost its lease; for other machines the expiry decides
        is_expired = header.until <= (self.database.now() if now is None else now)
        return is_alive is not False and not is_expired

    def append(self, entries: Sequence[JournalEntry]) -> list[JournalError | None]:
        """Write records in one transaction; return the error of each that was refused.

        Raises JournalError if the transaction fails.
        """
        return self.database.transact(
            lambda transaction: [_append_entry(transaction, entry) for entry in entries]
        )

    def release(self, run_id: str, lease_id: str, *, delay: float = 0.0) -> None:
        """Release the lease; no worker claims the run for `delay` seconds."""
        self.database.lease_owner.drop_lease(lease_id)
        until = self.database.now() + delay if delay else 0.0
        self.database.transact(
            lambda transaction: transaction.execute(
                "UPDATE agentcall_runs SET holder = '', until = ? WHERE run_id = ? AND holder = ?",
                *(until, run_id, lease_id),
            )
        )

    def request_cancel(self, run_id: str) -> None:
        """Ask the process that executes a run to cancel it."""
        sql = "UPDATE agentcall_runs SET cancel = 1 WHERE run_id = ?"
        self.database.transact(lambda transaction: transaction.execute(sql, run_id))

    def renew_leases(self, lease_ids: Collection[str]) -> set[str]:
        """Renew leases; return those that are lost or whose run is to be cancelled."""

        def work(transaction: JournalTransaction) -> set[str]:
            marks = ", ".join("?" * len(lease_ids))
            if self.database.lease_seconds:
                transaction.execute(
                    f"UPDATE agentcall_runs SET until = ? WHERE holder IN ({marks})",
                    *(self.database.now() + self.database.lease_seconds, *lease_ids),
                )
            active = transaction.query(
                f"SELECT holder FROM agentcall_runs WHERE holder IN ({marks}) AND cancel = 0",
                *lease_ids,
            )
            return set(lease_ids) - {cast("str", row[0]) for row in active}

        return self.database.transact(work)

    def is_cancel_requested(self, run_id: str) -> bool:
        """Return whether the run is to be cancelled."""
        sql = "SELECT cancel FROM agentcall_runs WHERE run_id = ?"
        rows = self.database.read(lambda transaction: list(transaction.query(sql, run_id)))
        return bool(rows and rows[0][0])

    def _take_lease(
        self, transaction: JournalTransaction, run_id: str, lease_id: str, previous_holder: str
    ) -> None:
        until = self.database.now() + self.database.lease_seconds
        # our own id may be there already, as a transaction may be repeated (`transact`)
        is_claimed = transaction.execute(
            "UPDATE agentcall_runs SET holder = ?, until = ?, claims = claims + 1"
            " WHERE run_id = ? AND holder IN (?, ?)",
            *(lease_id, until, run_id, previous_holder, lease_id),
        )
        if not is_claimed:
            raise RunBusy(f"the run {run_id} has just been claimed by another process")


def _find_header(transaction: JournalTransaction, run_id: str) -> RunHeader | None:
    rows = transaction.query(
        f"SELECT {_HEADER_COLUMNS}, seal FROM agentcall_runs WHERE run_id = ?", run_id
    )
    for *fields, seal in rows:
        header = RunHeader(*fields)
        sealed = (header.run_id, header.state, header.outcome, header.records, header.digest)
        if seal != compute_digest(*sealed):
            raise JournalDamaged(f"the header of the run {run_id} is not what was written")
        return header
    return None


def check_headers(transaction: JournalTransaction) -> None:
    """Check the checksums of all headers. Raises JournalDamaged."""
    for row in transaction.query(f"SELECT {_SEALED_COLUMNS}, seal FROM agentcall_runs"):
        if row[-1] != compute_digest(*row[:-1]):
            raise JournalDamaged(f"the header of the run {row[0]!r} is not what was written")


def _insert_record(transaction: JournalTransaction, record: JournalRecord) -> None:
    transaction.execute(
        "INSERT INTO agentcall_records (run_id, place, kind, body, digest) VALUES (?, ?, ?, ?, ?)",
        *record,
    )


def _append_entry(transaction: JournalTransaction, entry: JournalEntry) -> JournalError | None:
    """Write a record and its header; return why it was refused."""
    record = entry.record
    is_step_done = record.kind in ("turn", "end")
    is_written = transaction.execute(
        "UPDATE agentcall_runs SET records = ?, digest = ?, state = ?, outcome = ?, seal = ?,"
        " claims = CASE WHEN ? = 1 THEN 0 ELSE claims END"
        " WHERE run_id = ? AND holder = ? AND records = ? AND digest = ?",
        *(record.sequence, record.digest, entry.state, entry.outcome),
        compute_digest(record.run_id, entry.state, entry.outcome, record.sequence, record.digest),
        int(is_step_done),
        *(record.run_id, entry.lease_id, record.sequence - 1, entry.previous_digest),
    )
    if is_written:
        _insert_record(transaction, record)
        return None
    stored = list(
        transaction.query(
            "SELECT digest FROM agentcall_records WHERE run_id = ? AND place = ?",
            *(record.run_id, record.sequence),
        )
    )
    if stored and stored[0][0] == record.digest:
        return None  # the transaction is repeated, and its first try had succeeded
    header = _find_header(transaction, record.run_id)
    if header is None:
        return JournalDamaged(f"the run {record.run_id} is no longer in the journal")
    owner = describe_owner(header.holder) if header.holder else "another process"
    return RunBusy(f"the run {record.run_id} was taken over by {owner}")
