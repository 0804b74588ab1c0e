"""Puts the pieces of native tool calls together, however a server cut them.

OpenAI's protocol gives each call an `index` of its own, its id and name in its first piece, and its
arguments in pieces behind that. Servers were seen to leave out the index or the id, to give all
calls the same index, to send a new id with each piece or an id later, to repeat the name, to cut
it, to send all arguments so far with each piece, and to send the last piece twice.

Rules:
1. Pieces of one index are a lane. In a lane whose ids come back (a, b, a) each id is a call.
   Otherwise calls follow one another: a piece with a name begins a call if its id is new and what
   came before is empty or whole; without ids, if what came before is whole, or has another name.
2. A name in pieces is what its pieces make together, where a tool's name begins so.
3. Arguments are all their pieces. They are the last piece where each piece begins with the one
   before it, and only the last is JSON. A piece that comes once more behind whole JSON is dropped.
4. What cannot be assigned with certainty is Broken, and so is every call of that lane: no call may
   run with the arguments of another. A call that may be none, as without ids an empty one beside
   one of the same name, or the same call once more, is Broken alone.
5. The arguments of a lane's only call are given as they came; mending them is for a later stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

from agentcall.dialects.offers import Offers, Tools
from agentcall.dialects.parts import Broken, CallDelta, Called
from agentcall.jsontext import Balance

MIXED = "the server mixed the pieces of several calls up; make one call at a time"
NAMELESS = "the server sent arguments without the name of a tool; make one call at a time"

_State: TypeAlias = Literal["empty", "open", "whole", "over"]
"""How far arguments have come; "over" is more than one value."""
_Slot: TypeAlias = "int | None"
_Placed: TypeAlias = "tuple[int, CallDelta]"


class _Mixed(Exception):
    """The pieces of a lane cannot be assigned with certainty."""


class _Renewed(Exception):
    """The ids of a lane differ from piece to piece: they say nothing."""


def assembled(pieces: Sequence[CallDelta], offers: Offers) -> list[Called | Broken]:
    """The calls that the pieces of an answer make, in the order in which they began."""
    return _proper(pieces) or _sorted_out(pieces, Tools(offers))


def _proper(pieces: Sequence[CallDelta]) -> list[Called | Broken]:
    """The calls of a server that keeps to the protocol; none where anything is odd."""
    calls: dict[_Slot, tuple[str, str, list[str]]] = {}
    for slot, identity, name, arguments in pieces:
        call = calls.get(slot)
        if call is None:
            if not name or slot is None:
                return []
            calls[slot] = (name, identity, [arguments] if arguments else [])
            continue
        parts = call[2]
        if name or (identity and identity != call[1]):
            return []
        if parts and (arguments[:1] in ("{", "[") or arguments == parts[-1]):
            return []  # all so far, or once more
        parts.append(arguments)
    return [Called(name, "".join(parts), identity) for name, identity, parts in calls.values()]


def _sorted_out(pieces: Sequence[CallDelta], tools: Tools) -> list[Called | Broken]:
    """The calls of any server."""
    found: list[tuple[int, Called | Broken]] = []
    calls: list[_Call] = []
    for lane in _lanes(pieces):
        try:
            calls += _calls(lane, tools)
        except _Mixed:
            found.append((lane[0][0], Broken(_shown(lane), MIXED)))
    lost = any(not call.name and call.parts for call in calls)
    found += [(call.place, _part(call, tools, lost)) for call in calls if call.name or call.parts]
    return [part for _, part in sorted(found, key=lambda each: each[0])]


def _part(call: _Call, tools: Tools, lost: bool) -> Called | Broken:
    """What a call gives; where the arguments of a nameless one are `lost`, they may be its own."""
    if not call.name:
        return Broken(call.text, NAMELESS)
    if call.in_pieces and call.name not in tools:
        return Broken(call.text, f"the pieces of its name make {call.name!r}, which is not a tool")
    if call.uncertain or (lost and not _is_json(call.text)):
        return Broken(f"{call.name} {call.text}".strip(), MIXED)
    return Called(call.name, call.text, call.id)


def _shown(lane: Sequence[_Placed]) -> str:
    """The pieces of a lane as they came."""
    shown = ((f"{piece.name} " if piece.name else "") + piece.arguments for _, piece in lane)
    return "".join(shown).strip()


def _lanes(pieces: Sequence[CallDelta]) -> list[list[_Placed]]:
    """The pieces by index; those without one follow their id, or the piece before them."""
    lanes: dict[_Slot, list[_Placed]] = {}
    homes: dict[str, _Slot] = {}
    last: _Slot = None
    for place, piece in enumerate(pieces):
        slot = piece.slot
        if piece.id in homes and (slot is None or (slot not in lanes and not piece.name)):
            slot = homes[piece.id]
        elif slot is None:
            slot = last
        if piece.id or piece.name or piece.arguments:
            lanes.setdefault(slot, []).append((place, piece))
            last = slot
        if piece.id:
            homes.setdefault(piece.id, slot)
    return list(lanes.values())


def _calls(lane: list[_Placed], tools: Tools) -> list[_Call]:
    """The calls of a lane. Raises _Mixed."""
    if not _interleaved(lane):
        return _in_turn(lane, tools)
    threads: dict[str, list[_Placed]] = {}
    for place, piece in lane:
        if not piece.id:
            raise _Mixed
        threads.setdefault(piece.id, []).append((place, piece))
    return [call for thread in threads.values() for call in _in_turn(thread, tools)]


def _interleaved(lane: list[_Placed]) -> bool:
    """Whether an id comes back behind another one."""
    seen: set[str] = set()
    last = ""
    for _, piece in lane:
        if not piece.id or piece.id == last:
            continue
        if piece.id in seen:
            return True
        seen.add(piece.id)
        last = piece.id
    return False


def _in_turn(lane: list[_Placed], tools: Tools) -> list[_Call]:
    """Calls that follow one another. Raises _Mixed."""
    try:
        calls = _Row(tools, ids=True).read(lane)
    except _Renewed:
        calls = _Row(tools, ids=False).read(lane)
    if len(calls) > 1 and not all(call.state == "empty" or call.is_sound for call in calls):
        raise _Mixed
    for run in _runs(calls):
        _doubt(run)
    return calls


def _runs(calls: list[_Call]) -> Iterator[list[_Call]]:
    """Neighbours that nothing but a repeated name tells apart."""
    run: list[_Call] = []
    for call in calls:
        if run and (call.apart or not call.name.startswith(run[-1].name)):
            yield run
            run = []
        run.append(call)
    yield run


def _doubt(run: list[_Call]) -> None:
    """Marks the calls of a run that may be none: empty ones, and one that came once more."""
    if len(run) < 2:
        return
    empty = [call for call in run if call.state == "empty"]
    for call in empty if len(empty) < len(run) else empty[:-1]:
        call.uncertain = True
    for before, call in pairwise(run):
        call.uncertain = call.uncertain or call.text == before.text != ""


class _Row:
    """Reads a lane in which calls follow one another; `ids` is whether ids tell calls apart."""

    def __init__(self, tools: Tools, *, ids: bool) -> None:
        self._tools = tools
        self._ids = ids
        self._calls: list[_Call] = []

    def read(self, lane: list[_Placed]) -> list[_Call]:
        """The calls. Raises _Mixed or _Renewed."""
        for place, piece in lane:
            current = self._calls[-1] if self._calls else None
            if current is None or self._begins(current, piece):
                apart = current is None or (self._ids and _differ(current, piece))
                current = _Call(place, apart=apart)
                self._calls.append(current)
                current.name = piece.name
            current.take(piece)
        return self._calls

    def _begins(self, current: _Call, piece: CallDelta) -> bool:
        """Whether the piece begins a call; its name is added to that of a call that goes on."""
        if not piece.name:
            self._check_nameless(current, piece)
            return False
        if not current.name:
            if current.parts and not (piece.id and piece.id == current.id):
                raise _Mixed
            current.name = piece.name
            return False
        if self._ids and _differ(current, piece):
            self._check_next(current, piece)
            return True
        if piece.id and piece.id == current.id:
            return self._begins_under_one_id(current, piece.name)
        return self._begins_without_id(current, piece.name)

    def _check_nameless(self, current: _Call, piece: CallDelta) -> None:
        if not (piece.arguments and _differ(current, piece)):
            return
        if current.state == "whole" and not current.has(piece.arguments):
            raise _Mixed
        if self._ids:
            raise _Renewed

    def _check_next(self, current: _Call, piece: CallDelta) -> None:
        """Raises where a piece with another id begins no call."""
        if current.state in ("open", "over"):
            is_repeated = piece.name == current.name and current.state == "open"
            raise _Renewed if is_repeated else _Mixed
        if current.state == "whole" or piece.name in self._tools:
            return
        if current.in_pieces or self._grown(current.name, piece.name):
            raise _Mixed

    def _begins_under_one_id(self, current: _Call, name: str) -> bool:
        grown = self._grown(current.name, name) if current.state == "empty" else ""
        if name == current.name and (name in self._tools or not grown):
            return False
        both = name in self._tools and current.name in self._tools
        if both and not grown and current.state in ("empty", "whole"):
            return True
        current.grow(grown or current.name + name)
        return False

    def _begins_without_id(self, current: _Call, name: str) -> bool:
        grown = self._grown(current.name, name) if current.state == "empty" else ""
        is_tool = name in self._tools
        if name == current.name and not grown and current.state != "over":
            return current.state != "open"
        if current.state == "whole" or (current.state == "empty" and is_tool and not grown):
            return True
        if is_tool and grown != name:
            raise _Mixed
        current.grow(grown or current.name + name)
        return False

    def _grown(self, name: str, more: str) -> str:
        """The name that two pieces of one make, or that came once more and longer; else empty."""
        joined = name + more
        if any(tool.startswith(joined) for tool in self._tools):
            return joined
        is_longer = len(more) > len(name) and more.startswith(name) and name not in self._tools
        return more if is_longer and more in self._tools else ""


def _differ(call: _Call, piece: CallDelta) -> bool:
    return bool(piece.id and call.id and piece.id != call.id)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass(slots=True, eq=False)
class _Call:
    """A call whose pieces are put together; `place` is that of its first piece.

    apart: an id of its own tells it from the call before. uncertain: it may be none. in_pieces:
    its name came so.
    """

    place: int
    apart: bool = True
    uncertain: bool = False
    in_pieces: bool = False
    id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list[str])
    _balance: Balance = field(default_factory=Balance)
    _balanced: int = 0
    _over: bool = False
    _ended: bool = False
    _repeats: bool = True

    def grow(self, name: str) -> None:
        """Takes another piece of the name in. Raises _Mixed where the arguments have begun."""
        if self.state != "empty":
            raise _Mixed
        self.name = name
        self.in_pieces = True

    def take(self, piece: CallDelta) -> None:
        """Takes a piece in; its name is known already."""
        self.id = self.id or piece.id
        more = piece.arguments
        if not more or self.has(more):
            return
        self._repeats = self._repeats and (not self.parts or more.startswith(self.parts[-1]))
        self.parts.append(more)

    def has(self, more: str) -> bool:
        """Whether this came already: whole JSON, or its last piece, once more."""
        if not self.parts or not (more == self.parts[-1] or more[:1] in ("{", "[")):
            return False
        return self.state == "whole" and more.strip() in (self.parts[-1].strip(), self.text.strip())

    @property
    def state(self) -> _State:
        """How far the arguments have come."""
        self._run()
        if not any(part.strip() for part in self.parts):
            return "empty"
        if (self._ended and not self._over) or self._total or self._is_plain:
            return "whole"
        return "over" if self._over else "open"

    def _run(self) -> None:
        for part in self.parts[self._balanced :]:
            end = 0
            if not self._ended and not self._balance.stopped:
                end = self._balance.run(part, 0)
                self._ended = end >= 0 and not self._balance.stopped
            self._over = self._over or (self._ended and part[end:].strip() != "")
        self._balanced = len(self.parts)

    @property
    def _is_plain(self) -> bool:
        """Whether the arguments are whole JSON that is no list or object."""
        return self.parts[-1].rstrip().endswith(('"', "null")) and _is_json("".join(self.parts))

    @property
    def _total(self) -> str:
        """The last piece, where it has all that came before it and is JSON; else empty."""
        if not self._repeats or len(self.parts) < 2:
            return ""
        return self.parts[-1] if _is_json(self.parts[-1]) else ""

    @property
    def text(self) -> str:
        """The arguments."""
        joined = "".join(self.parts)
        return joined if not self._total or _is_json(joined) else self._total

    @property
    def is_sound(self) -> bool:
        """Whether the arguments are surely those of one call."""
        return _is_json(self.text) or (len(self.parts) == 1 and self.state == "whole")
