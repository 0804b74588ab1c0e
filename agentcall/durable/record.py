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
from agentcall.messages import JSON, encoded

Kind: TypeAlias = Literal[
    "begin", "resume", "turn", "start", "end", "pause", "decide", "finish", "fail"
]
Body: TypeAlias = Mapping[str, Any]  # Any: JSON, checked by what is made of it


class Record(NamedTuple):
    """One record; `place` counts from 1, `body` is JSON text."""

    run_id: str
    place: int
    kind: str
    body: str
    digest: str

    @property
    def fields(self) -> Body:
        """The body, parsed."""
        return cast("Body", orjson.loads(self.body))


def sealed(run_id: str, place: int, kind: Kind, body: Mapping[str, JSON], before: str) -> Record:
    """A record behind the one that has the digest `before`."""
    text = encoded(body).decode()
    return Record(run_id, place, kind, text, digest_of(before, run_id, place, kind, text))


def digest_of(*parts: str | int) -> str:
    """A checksum of the parts in their order: BLAKE2b, 16 bytes, as hexadecimal digits."""
    found = blake2b(digest_size=16)
    for part in parts:
        data = str(part).encode()
        found.update(b"%d:%b" % (len(data), data))
    return found.hexdigest()


def checked(run_id: str, records: Iterable[Record], count: int, digest: str) -> list[Record]:
    """The records, if they are the whole chain. Raises JournalDamaged, naming the place."""
    found: list[Record] = []
    before = ""
    for place, record in enumerate(records, start=1):
        kept = digest_of(before, run_id, place, record.kind, record.body)
        if record.run_id != run_id or record.place != place or record.digest != kept:
            raise _damaged(run_id, place)
        found.append(record)
        before = kept
    if len(found) != count or before != digest:
        raise _damaged(run_id, len(found) + 1)
    return found


def _damaged(run_id: str, place: int) -> JournalDamaged:
    return JournalDamaged(
        f"record {place} of the run {run_id} is not what was written; the run is not gone on with. "
        "Bring the journal back from a copy, or begin the run anew under another id."
    )
