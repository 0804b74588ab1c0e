"""The journal: heads of runs and their records, in the tables of a database.

Rules:
1. Records are only ever added. A record and the head that counts it are written together.
2. Who runs a run has a hold on it, and every record is written under that hold: who lost it writes
   nothing more, so begins no tool.
3. A head is sealed, as the records are: what was not written by these rules is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, TypeAlias, cast

from agentcall.durable.database import Database, Row, Session
from agentcall.durable.holder import who
from agentcall.durable.record import Record, checked, digest_of
from agentcall.errors import JournalDamaged, JournalError, RunBusy, UsageError

State: TypeAlias = Literal["open", "paused", "finished", "failed"]

_HEAD = "run_id, state, outcome, queue, title, records, digest, holder, until, claims, created"
_SEALED = "run_id, state, outcome, records, digest"


class Head(NamedTuple):
    """What is known of a run without reading its records.

    state: "open" is one that is running, waits for a worker or was cut off. outcome: the
    stop_reason of one that finished, or what failed. until: when the hold ends, or when a worker
    may take it. claims: how often it was taken since it last came on.
    """

    run_id: str
    state: State
    outcome: str
    queue: str
    title: str
    records: int
    digest: str
    holder: str
    until: float
    claims: int
    created: float


class Entry(NamedTuple):
    """A record that is to be written under a hold, with what it makes of the run's head."""

    record: Record
    hold: str
    before: str
    state: State = "open"
    outcome: str = ""


class Journal:
    """Reads and writes the runs of a database; for one thread."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, first: Record, hold: str, *, queue: str = "", title: str = "") -> bool:
        """Begins a run with its first record; says whether it was not there yet.

        hold: who runs it at once, or "" to leave it to a worker of the queue.
        """
        run_id, now = first.run_id, self.database.now()
        until = now + self.database.lease if hold else 0.0
        state: State = "open"
        seal = digest_of(run_id, state, "", 1, first.digest)

        def work(session: Session) -> bool:
            added = session.change(
                "INSERT INTO agentcall_runs (run_id, state, outcome, queue, title, records, digest,"
                " seal, holder, until, claims, cancel, created)"
                " VALUES (?, ?, '', ?, ?, 1, ?, ?, ?, ?, 0, 0, ?) ON CONFLICT DO NOTHING",
                *(run_id, state, queue, title, first.digest, seal, hold, until, now),
            )
            if added:
                _insert(session, first)
            return bool(added)

        return self.database.transact(work)

    def head(self, run_id: str) -> Head | None:
        """The head of a run. Raises JournalDamaged if it is not what was written."""
        return self.database.look(lambda session: _head(session, run_id))

    def heads(self, queue: str | None = None) -> list[Head]:
        """The heads of all runs, or of those of a queue, the youngest first."""
        return self.database.look(
            lambda session: [
                Head(*row)
                for row in session.rows(
                    f"SELECT {_HEAD} FROM agentcall_runs"
                    f"{'' if queue is None else ' WHERE queue = ?'}"
                    " ORDER BY created DESC, run_id",
                    *(() if queue is None else (queue,)),
                )
            ]
        )

    def has_open(self, queue: str) -> bool:
        """Whether a run of the queue is still to be brought to its end."""
        sql = "SELECT 1 FROM agentcall_runs WHERE queue = ? AND state = 'open' LIMIT 1"
        return bool(self.database.look(lambda session: list(session.rows(sql, queue))))

    def ended(self, queue: str, *states: State) -> list[str]:
        """The ids of the runs that have ended or wait for a person; of those in the states."""
        sql = "SELECT run_id, state FROM agentcall_runs WHERE queue = ? AND state <> 'open'"
        rows = self.database.look(lambda session: list(session.rows(sql, queue)))
        return [str(row[0]) for row in rows if not states or row[1] in states]

    def records(self, run_id: str) -> list[Record]:
        """The records of a run; none if there is no such run. Raises JournalDamaged."""

        def work(session: Session) -> list[Record]:
            head = _head(session, run_id)
            if head is None:
                return []
            rows = session.rows(
                "SELECT run_id, place, kind, body, digest FROM agentcall_records"
                " WHERE run_id = ? ORDER BY place",
                run_id,
            )
            return checked(run_id, (Record(*row) for row in rows), head.records, head.digest)

        return self.database.look(work)

    def claim(self, run_id: str, hold: str) -> None:
        """Takes the hold on a run. Raises RunBusy, naming who has it."""

        def work(session: Session) -> None:
            head = _head(session, run_id)
            if head is None:
                raise UsageError(f"there is no run {run_id} in {self.database.place}")
            if head.holder != hold and self.is_held(head):
                raise RunBusy(f"the run {run_id} is being run by {who(head.holder)}")
            self._take(session, run_id, hold, head.holder)

        self.database.transact(work)

    def take(self, queue: str, hold: str) -> Head | None:
        """Takes the hold on the first run of a queue that nobody runs, if there is one."""

        def work(session: Session) -> Head | None:
            now = self.database.now()
            rows = session.rows(
                f"SELECT {_HEAD} FROM agentcall_runs WHERE queue = ? AND state = 'open'"
                f" AND until <= ? ORDER BY created, run_id LIMIT 1000{self.database.skip}",
                queue,
                now,
            )
            for head in (Head(*row) for row in rows):
                if not self.is_held(head, now):
                    self._take(session, head.run_id, hold, head.holder)
                    return head
            return None

        return self.database.transact(work)

    def is_held(self, head: Head, now: float | None = None) -> bool:
        """Whether a process has its hold on the run."""
        if not head.holder:
            return False
        lives = self.database.lives(head.holder)
        if lives is not None:
            return lives
        return head.until > (self.database.now() if now is None else now)

    def write(self, entries: Sequence[Entry]) -> list[JournalError | None]:
        """Writes records, all at once; gives for each what stood against it.

        Raises JournalError if none could be written.
        """
        return self.database.transact(lambda session: [_write(session, entry) for entry in entries])

    def release(self, run_id: str, hold: str, *, pause: float = 0.0) -> None:
        """Gives the hold up; for so many seconds no worker takes the run."""
        self.database.drop(hold)
        until = self.database.now() + pause if pause else 0.0
        self.database.transact(
            lambda session: session.change(
                "UPDATE agentcall_runs SET holder = '', until = ? WHERE run_id = ? AND holder = ?",
                *(until, run_id, hold),
            )
        )

    def ask_to_stop(self, run_id: str) -> None:
        """Asks the process that runs it to cancel a run."""
        self.database.transact(
            lambda session: session.change(
                "UPDATE agentcall_runs SET cancel = 1 WHERE run_id = ?", run_id
            )
        )

    def renew(self, holds: Collection[str]) -> set[str]:
        """Renews holds of this process; gives those that are lost or whose run is to stop."""

        def work(session: Session) -> set[str]:
            marks = ", ".join("?" * len(holds))
            if self.database.lease:
                session.change(
                    f"UPDATE agentcall_runs SET until = ? WHERE holder IN ({marks})",
                    *(self.database.now() + self.database.lease, *holds),
                )
            kept = session.rows(
                f"SELECT holder FROM agentcall_runs WHERE holder IN ({marks}) AND cancel = 0",
                *holds,
            )
            return set(holds) - {cast("str", row[0]) for row in kept}

        return self.database.transact(work)

    def is_asked_to_stop(self, run_id: str) -> bool:
        """Whether somebody wants the run cancelled."""
        rows = self.database.look(
            lambda session: list(
                session.rows("SELECT cancel FROM agentcall_runs WHERE run_id = ?", run_id)
            )
        )
        return bool(rows and rows[0][0])

    def _take(self, session: Session, run_id: str, hold: str, before: str) -> None:
        taken = session.change(
            "UPDATE agentcall_runs SET holder = ?, until = ?, claims = claims + 1"
            " WHERE run_id = ? AND holder IN (?, ?)",
            *(hold, self.database.now() + self.database.lease, run_id, before, hold),
        )
        if not taken:
            raise RunBusy(f"the run {run_id} has just been taken by another process")


def _head(session: Session, run_id: str) -> Head | None:
    rows = session.rows(f"SELECT {_HEAD}, seal FROM agentcall_runs WHERE run_id = ?", run_id)
    for *fields, seal in rows:
        head = Head(*fields)
        if seal != digest_of(head.run_id, head.state, head.outcome, head.records, head.digest):
            raise JournalDamaged(f"the head of the run {run_id} is not what was written")
        return head
    return None


def check_seals(session: Session) -> None:
    """Raises JournalDamaged if a head is not what was written."""
    for row in session.rows(f"SELECT {_SEALED}, seal FROM agentcall_runs"):
        if row[-1] != digest_of(*row[:-1]):
            raise JournalDamaged(f"the head of the run {row[0]!r} is not what was written")


def _insert(session: Session, record: Record) -> None:
    session.change(
        "INSERT INTO agentcall_records (run_id, place, kind, body, digest) VALUES (?, ?, ?, ?, ?)",
        *record,
    )


def _write(session: Session, entry: Entry) -> JournalError | None:
    record = entry.record
    is_step_done = record.kind in ("turn", "end")
    written = session.change(
        "UPDATE agentcall_runs SET records = ?, digest = ?, state = ?, outcome = ?, seal = ?,"
        " claims = CASE WHEN ? = 1 THEN 0 ELSE claims END"
        " WHERE run_id = ? AND holder = ? AND records = ? AND digest = ?",
        *(record.place, record.digest, entry.state, entry.outcome),
        digest_of(record.run_id, entry.state, entry.outcome, record.place, record.digest),
        int(is_step_done),
        *(record.run_id, entry.hold, record.place - 1, entry.before),
    )
    if written:
        _insert(session, record)
        return None
    return _refusal(session, entry)


def _refusal(session: Session, entry: Entry) -> JournalError | None:
    """Why a record could not be written; None if it stands there already."""
    record = entry.record
    found: list[Row] = list(
        session.rows(
            "SELECT digest FROM agentcall_records WHERE run_id = ? AND place = ?",
            *(record.run_id, record.place),
        )
    )
    if found and found[0][0] == record.digest:
        return None
    head = _head(session, record.run_id)
    if head is None:
        return JournalDamaged(f"the run {record.run_id} is no longer in the journal")
    by = who(head.holder) if head.holder else "another process"
    return RunBusy(f"the run {record.run_id} was taken over by {by}")
