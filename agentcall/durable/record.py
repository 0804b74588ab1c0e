"""A run's records: what happened, in order, as JSON; each is sealed with all that came before it.

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

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import orjson

from agentcall.errors import JournalDamaged
from agentcall.messages import JSON, encode_json

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
        f"record {sequence} of the run {run_id} is not what was written; the run is not gone on with. "
        "Bring the journal back from a copy, or begin the run anew under another id."
    )
