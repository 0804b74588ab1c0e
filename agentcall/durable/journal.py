"""The journal: heads of runs and their records, in the tables of a database.

Rules:
1. Records are only ever added. A record and the head that counts it are written together.
2. Who runs a run has a hold on it, and every record is written under that hold: who lost it writes
   nothing more, so begins no tool.
3. A head is sealed, as the records are: what was not written by these rules is refused.

A run's records: what happened, in order, as JSON; each is sealed with all that came before it.

The kinds, and what their bodies hold:

    begin    the agent's name, the messages, the code it began with, how the command line made it
    resume   who goes on with it, the code by now, and what of it has changed
    turn     where the run stood when the model was asked, and its turn
    start    a tool call that is about to be carried out
    end      its result
    pause    the result of a run that waits for approval
    decide   what a person decided about the calls that waited
    finish   the result of the run
    fail     what broke the run for good
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import orjson

from agentcall.durable.database import JournalDatabase, JournalTransaction, SQLRow
from agentcall.errors import JournalDamaged, JournalError, RunBusy, UsageError
from agentcall.messages import JSON, encode_json
from agentcall.storage.locks import describe_owner

RecordKind: TypeAlias = Literal[
    "begin", "resume", "turn", "start", "end", "pause", "decide", "finish", "fail"
]
RecordBody: TypeAlias = Mapping[str, Any]  # Any: JSON, checked by what is made of it


class JournalRecord(NamedTuple):
    """One record; `place` counts from 1, `body` is JSON text."""

    run_id: str
    sequence: int
    kind: str
    body: str
    digest: str

    @property
    def fields(self) -> RecordBody:
        """The body, parsed."""
        return cast("RecordBody", orjson.loads(self.body))


def seal_record(
    run_id: str, sequence: int, kind: RecordKind, body: Mapping[str, JSON], previous_digest: str
) -> JournalRecord:
    """A record behind the one that has the digest `before`."""
    text = encode_json(body).decode()
    return JournalRecord(
        run_id, sequence, kind, text, compute_digest(previous_digest, run_id, sequence, kind, text)
    )


def compute_digest(*parts: str | int) -> str:
    """A checksum of the parts in their order: BLAKE2b, 16 bytes, as hexadecimal digits."""
    found = blake2b(digest_size=16)
    for part in parts:
        data = str(part).encode()
        found.update(b"%d:%b" % (len(data), data))
    return found.hexdigest()


def verify_records(
    run_id: str, records: Iterable[JournalRecord], count: int, digest: str
) -> list[JournalRecord]:
    """The records, if they are the whole chain. Raises JournalDamaged, naming the place."""
    found: list[JournalRecord] = []
    before = ""
    for place, record in enumerate(records, start=1):
        kept = compute_digest(before, run_id, place, record.kind, record.body)
        if record.run_id != run_id or record.sequence != place or record.digest != kept:
            raise _make_damaged_error(run_id, place)
        found.append(record)
        before = kept
    if len(found) != count or before != digest:
        raise _make_damaged_error(run_id, len(found) + 1)
    return found


def _make_damaged_error(run_id: str, sequence: int) -> JournalDamaged:
    return JournalDamaged(
        f"record {sequence} of the run {run_id} is not what was written; the run is not gone "
        "on with. "
        "Bring the journal back from a copy, or begin the run anew under another id."
    )


RunStatus: TypeAlias = Literal["open", "paused", "finished", "failed"]

_HEADER_COLUMNS = (
    "run_id, state, outcome, queue, title, records, digest, holder, until, claims, created"
)
_SEALED_COLUMNS = "run_id, state, outcome, records, digest"


class RunHeader(NamedTuple):
    """What is known of a run without reading its records.

    state: "open" is one that is running, waits for a worker or was cut off. outcome: the
    stop_reason of one that finished, or what failed. until: when the hold ends, or when a worker
    may take it. claims: how often it was taken since it last came on.
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
    """A record that is to be written under a hold, with what it makes of the run's head."""

    record: JournalRecord
    lease_id: str
    previous_digest: str
    state: RunStatus = "open"
    outcome: str = ""


class Journal:
    """Reads and writes the runs of a database; for one thread."""

    def __init__(self, database: JournalDatabase) -> None:
        self.database = database

    def create_run(
        self, first: JournalRecord, lease_id: str, *, queue: str = "", title: str = ""
    ) -> bool:
        """Begins a run with its first record; says whether it was not there yet.

        hold: who runs it at once, or "" to leave it to a worker of the queue.
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
            return bool(added)

        return self.database.transact(work)

    def find_run(self, run_id: str) -> RunHeader | None:
        """The head of a run. Raises JournalDamaged if it is not what was written."""
        return self.database.read(lambda session: _find_header(session, run_id))

    def list_runs(self, queue: str | None = None) -> list[RunHeader]:
        """The heads of all runs, or of those of a queue, the youngest first."""
        return self.database.read(
            lambda session: [
                RunHeader(*row)
                for row in session.query(
                    f"SELECT {_HEADER_COLUMNS} FROM agentcall_runs"
                    f"{'' if queue is None else ' WHERE queue = ?'}"
                    " ORDER BY created DESC, run_id",
                    *(() if queue is None else (queue,)),
                )
            ]
        )

    def has_open_runs(self, queue: str) -> bool:
        """Whether a run of the queue is still to be brought to its end."""
        sql = "SELECT 1 FROM agentcall_runs WHERE queue = ? AND state = 'open' LIMIT 1"
        return bool(self.database.read(lambda session: list(session.query(sql, queue))))

    def list_ended(self, queue: str, *states: RunStatus) -> list[str]:
        """The ids of the runs that have ended or wait for a person; of those in the states."""
        sql = "SELECT run_id, state FROM agentcall_runs WHERE queue = ? AND state <> 'open'"
        rows = self.database.read(lambda session: list(session.query(sql, queue)))
        return [str(row[0]) for row in rows if not states or row[1] in states]

    def read_records(self, run_id: str) -> list[JournalRecord]:
        """The records of a run; none if there is no such run. Raises JournalDamaged."""

        def work(transaction: JournalTransaction) -> list[JournalRecord]:
            head = _find_header(transaction, run_id)
            if head is None:
                return []
            rows = transaction.query(
                "SELECT run_id, place, kind, body, digest FROM agentcall_records"
                " WHERE run_id = ? ORDER BY place",
                run_id,
            )
            return verify_records(
                run_id, (JournalRecord(*row) for row in rows), head.records, head.digest
            )

        return self.database.read(work)

    def claim(self, run_id: str, lease_id: str) -> None:
        """Takes the hold on a run. Raises RunBusy, naming who has it."""

        def work(transaction: JournalTransaction) -> None:
            head = _find_header(transaction, run_id)
            if head is None:
                raise UsageError(f"there is no run {run_id} in {self.database.location}")
            if head.holder != lease_id and self.is_leased(head):
                raise RunBusy(f"the run {run_id} is being run by {describe_owner(head.holder)}")
            self._take_lease(transaction, run_id, lease_id, head.holder)

        self.database.transact(work)

    def claim_next(self, queue: str, lease_id: str) -> RunHeader | None:
        """Takes the hold on the first run of a queue that nobody runs, if there is one."""

        def work(transaction: JournalTransaction) -> RunHeader | None:
            now = self.database.now()
            rows = transaction.query(
                f"SELECT {_HEADER_COLUMNS} FROM agentcall_runs WHERE queue = ? AND state = 'open'"
                " AND until <= ? ORDER BY created, run_id LIMIT "
                f"1000{self.database.skip_locked_sql}",
                queue,
                now,
            )
            for head in (RunHeader(*row) for row in rows):
                if not self.is_leased(head, now):
                    self._take_lease(transaction, head.run_id, lease_id, head.holder)
                    return head
            return None

        return self.database.transact(work)

    def is_leased(self, head: RunHeader, now: float | None = None) -> bool:
        """Whether a process has its hold on the run."""
        if not head.holder:
            return False
        lives = self.database.is_lease_alive(head.holder)
        if lives is not None:
            return lives
        return head.until > (self.database.now() if now is None else now)

    def append(self, entries: Sequence[JournalEntry]) -> list[JournalError | None]:
        """Writes records, all at once; gives for each what stood against it.

        Raises JournalError if none could be written.
        """
        return self.database.transact(
            lambda session: [_append_entry(session, entry) for entry in entries]
        )

    def release(self, run_id: str, lease_id: str, *, delay: float = 0.0) -> None:
        """Gives the hold up; for so many seconds no worker takes the run."""
        self.database.drop_lease(lease_id)
        until = self.database.now() + delay if delay else 0.0
        self.database.transact(
            lambda session: session.execute(
                "UPDATE agentcall_runs SET holder = '', until = ? WHERE run_id = ? AND holder = ?",
                *(until, run_id, lease_id),
            )
        )

    def request_cancel(self, run_id: str) -> None:
        """Asks the process that runs it to cancel a run."""
        self.database.transact(
            lambda session: session.execute(
                "UPDATE agentcall_runs SET cancel = 1 WHERE run_id = ?", run_id
            )
        )

    def renew_leases(self, lease_ids: Collection[str]) -> set[str]:
        """Renews holds of this process; gives those that are lost or whose run is to stop."""

        def work(transaction: JournalTransaction) -> set[str]:
            marks = ", ".join("?" * len(lease_ids))
            if self.database.lease_seconds:
                transaction.execute(
                    f"UPDATE agentcall_runs SET until = ? WHERE holder IN ({marks})",
                    *(self.database.now() + self.database.lease_seconds, *lease_ids),
                )
            active_rows = transaction.query(
                f"SELECT holder FROM agentcall_runs WHERE holder IN ({marks}) AND cancel = 0",
                *lease_ids,
            )
            return set(lease_ids) - {cast("str", row[0]) for row in active_rows}

        return self.database.transact(work)

    def is_cancel_requested(self, run_id: str) -> bool:
        """Whether somebody wants the run cancelled."""
        rows = self.database.read(
            lambda session: list(
                session.query("SELECT cancel FROM agentcall_runs WHERE run_id = ?", run_id)
            )
        )
        return bool(rows and rows[0][0])

    def _take_lease(
        self, transaction: JournalTransaction, run_id: str, lease_id: str, before: str
    ) -> None:
        is_claimed = transaction.execute(
            "UPDATE agentcall_runs SET holder = ?, until = ?, claims = claims + 1"
            " WHERE run_id = ? AND holder IN (?, ?)",
            *(
                lease_id,
                self.database.now() + self.database.lease_seconds,
                run_id,
                before,
                lease_id,
            ),
        )
        if not is_claimed:
            raise RunBusy(f"the run {run_id} has just been taken by another process")


def _find_header(transaction: JournalTransaction, run_id: str) -> RunHeader | None:
    rows = transaction.query(
        f"SELECT {_HEADER_COLUMNS}, seal FROM agentcall_runs WHERE run_id = ?", run_id
    )
    for *fields, seal in rows:
        head = RunHeader(*fields)
        if seal != compute_digest(head.run_id, head.state, head.outcome, head.records, head.digest):
            raise JournalDamaged(f"the head of the run {run_id} is not what was written")
        return head
    return None


def check_seals(transaction: JournalTransaction) -> None:
    """Raises JournalDamaged if a head is not what was written."""
    for row in transaction.query(f"SELECT {_SEALED_COLUMNS}, seal FROM agentcall_runs"):
        if row[-1] != compute_digest(*row[:-1]):
            raise JournalDamaged(f"the head of the run {row[0]!r} is not what was written")


def _insert_record(transaction: JournalTransaction, record: JournalRecord) -> None:
    transaction.execute(
        "INSERT INTO agentcall_records (run_id, place, kind, body, digest) VALUES (?, ?, ?, ?, ?)",
        *record,
    )


def _append_entry(transaction: JournalTransaction, entry: JournalEntry) -> JournalError | None:
    record = entry.record
    is_step_done = record.kind in ("turn", "end")
    written = transaction.execute(
        "UPDATE agentcall_runs SET records = ?, digest = ?, state = ?, outcome = ?, seal = ?,"
        " claims = CASE WHEN ? = 1 THEN 0 ELSE claims END"
        " WHERE run_id = ? AND holder = ? AND records = ? AND digest = ?",
        *(record.sequence, record.digest, entry.state, entry.outcome),
        compute_digest(record.run_id, entry.state, entry.outcome, record.sequence, record.digest),
        int(is_step_done),
        *(record.run_id, entry.lease_id, record.sequence - 1, entry.previous_digest),
    )
    if written:
        _insert_record(transaction, record)
        return None
    return _explain_refusal(transaction, entry)


def _explain_refusal(transaction: JournalTransaction, entry: JournalEntry) -> JournalError | None:
    """Why a record could not be written; None if it stands there already."""
    record = entry.record
    found: list[SQLRow] = list(
        transaction.query(
            "SELECT digest FROM agentcall_records WHERE run_id = ? AND place = ?",
            *(record.run_id, record.sequence),
        )
    )
    if found and found[0][0] == record.digest:
        return None
    head = _find_header(transaction, record.run_id)
    if head is None:
        return JournalDamaged(f"the run {record.run_id} is no longer in the journal")
    by = describe_owner(head.holder) if head.holder else "another process"
    return RunBusy(f"the run {record.run_id} was taken over by {by}")
