"""Assembles native tool calls from the pieces of a stream, however the server cut them.

In OpenAI's protocol each call has its own `index`, its id and name in its first piece, and its
arguments in the pieces after it. Some servers omit the index or the id, give all calls the same
index, send a new id with each piece or an id later, repeat the name, cut it, send all arguments so
far with each piece, or send the last piece twice.

Rules:
1. Pieces of one index are a lane. In a lane whose ids alternate (a, b, a) each id is a call.
   Otherwise calls follow one another. With ids, a piece with a name begins a call if its id is new
   and the call before it is empty or whole. If all ids are the same, it does with
   another whole object. Without ids, it does if the call before it is whole or has another name.
2. A name in pieces is their concatenation, if the name of a tool begins so.
3. Arguments are the concatenation of all pieces. They are the last piece alone if each piece begins
   with the one before it and only the last is JSON, or if each is an object that contains the one
   before it. `{}` before a whole object is a placeholder. A piece repeated after whole JSON is
   dropped.
4. Pieces that cannot be assigned with certainty are malformed, and so is every call of that lane:
   no call may run with the arguments of another. If only one call is doubtful, such as, without
   ids, an empty one beside one of the same name, or a repeated one, it alone is malformed.
5. The arguments of a lane's only call are returned as written; repair is a later stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

from agentcall.dialects.answer_parts import CallPart, MalformedCallPart, ToolCallDelta, ToolCallPart
from agentcall.dialects.dialect import ToolSet, ToolSpecs
from agentcall.lenient_json import BracketMatcher
from agentcall.messages import JSON

MIXED_CALLS = "the server mixed the pieces of several calls up; make one call at a time"
NAMELESS_CALL = "the server sent arguments without the name of a tool; make one call at a time"

_ArgumentsState: TypeAlias = Literal["empty", "open", "whole", "over"]
"""How complete the arguments are; "over" means more than one value."""
_Slot: TypeAlias = "int | None"
_PositionedDelta: TypeAlias = "tuple[int, ToolCallDelta]"


class _AmbiguousPieces(Exception):
    """The pieces of a lane cannot be assigned with certainty."""


class _UnreliableIds(Exception):
    """The ids of a lane change from piece to piece and do not identify calls."""


def assemble_calls(pieces: Sequence[ToolCallDelta], tools: ToolSpecs) -> list[CallPart]:
    """Return the calls that the pieces of an answer form, in the order in which they began."""
    return _assemble_standard(pieces) or _assemble_any(pieces, ToolSet(tools))


def _assemble_standard(pieces: Sequence[ToolCallDelta]) -> list[CallPart]:
    """Return the calls of a server that follows the protocol; none if anything is unusual."""
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
            return []  # cumulative or repeated: not the protocol
        parts.append(arguments)
    return [
        ToolCallPart(name, "".join(parts), identity) for name, identity, parts in calls.values()
    ]


def _assemble_any(pieces: Sequence[ToolCallDelta], tools: ToolSet) -> list[CallPart]:
    """Return the calls of any server."""
    parts: list[tuple[int, CallPart]] = []
    calls: list[_CallAssembly] = []
    for lane in _split_lanes(pieces):
        try:
            calls += _read_lane(lane, tools)
        except _AmbiguousPieces:
            parts.append((lane[0][0], MalformedCallPart(_format_lane(lane), MIXED_CALLS)))
    has_lost_arguments = any(not call.name and call.parts for call in calls)
    parts += [
        (call.position, _to_part(call, tools, has_lost_arguments))
        for call in calls
        if call.name or call.parts
    ]
    return [part for _, part in sorted(parts, key=lambda pair: pair[0])]


def _to_part(call: _CallAssembly, tools: ToolSet, has_lost_arguments: bool) -> CallPart:
    """Convert a call; `has_lost_arguments`: the arguments of a nameless call may be its own."""
    if not call.name:
        return MalformedCallPart(call.text, NAMELESS_CALL)
    if call.has_split_name and call.name not in tools:
        return MalformedCallPart(
            call.text, f"the pieces of its name make {call.name!r}, which is not a tool"
        )
    if call.is_uncertain or (has_lost_arguments and not _is_json(call.text)):
        return MalformedCallPart(f"{call.name} {call.text}".strip(), MIXED_CALLS)
    return ToolCallPart(call.name, call.text, call.id)


def _format_lane(lane: Sequence[_PositionedDelta]) -> str:
    """Return the pieces of a lane as they arrived."""
    formatted = ((f"{piece.name} " if piece.name else "") + piece.arguments for _, piece in lane)
    return "".join(formatted).strip()


def _split_lanes(pieces: Sequence[ToolCallDelta]) -> list[list[_PositionedDelta]]:
    """Group pieces by index; one without an index joins the lane of its id, or the last lane."""
    lanes: dict[_Slot, list[_PositionedDelta]] = {}
    slots_by_id: dict[str, _Slot] = {}
    ids_by_slot: dict[_Slot, set[str]] = {}
    last: _Slot = None
    for position, piece in enumerate(pieces):
        slot = piece.slot
        if piece.id in slots_by_id and (
            slot is None or (not piece.name and piece.id not in ids_by_slot.get(slot, ()))
        ):
            slot = slots_by_id[piece.id]
        elif slot is None:
            slot = last
        if piece.id or piece.name or piece.arguments:
            lanes.setdefault(slot, []).append((position, piece))
            last = slot
        if piece.id:
            slots_by_id.setdefault(piece.id, slot)
            ids_by_slot.setdefault(slot, set()).add(piece.id)
    return list(lanes.values())


def _read_lane(lane: list[_PositionedDelta], tools: ToolSet) -> list[_CallAssembly]:
    """Return the calls of a lane. Raises _AmbiguousPieces."""
    if not _has_interleaved_ids(lane):
        return _read_sequence(lane, tools)
    threads: dict[str, list[_PositionedDelta]] = {}
    for position, piece in lane:
        if not piece.id:
            raise _AmbiguousPieces
        threads.setdefault(piece.id, []).append((position, piece))
    return [call for thread in threads.values() for call in _read_sequence(thread, tools)]


def _has_interleaved_ids(lane: list[_PositionedDelta]) -> bool:
    """Whether an id occurs again after another one."""
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


def _read_sequence(lane: list[_PositionedDelta], tools: ToolSet) -> list[_CallAssembly]:
    """Return calls that follow one another. Raises _AmbiguousPieces."""
    try:
        calls = _LaneReader(tools, ids=True).read(lane)
    except _UnreliableIds:
        calls = _LaneReader(tools, ids=False).read(lane)
    if len(calls) > 1 and not all(call.state == "empty" or call.is_sound for call in calls):
        raise _AmbiguousPieces
    for run in _group_runs(calls):
        _mark_uncertain(run)
    for before, call in pairwise(calls):
        if before.name == call.name and before.state == "empty" != call.state:
            before.is_uncertain = True  # its arguments may have come under the next id
    return calls


def _group_runs(calls: list[_CallAssembly]) -> Iterator[list[_CallAssembly]]:
    """Group neighbours that only a repeated name separates."""
    run: list[_CallAssembly] = []
    for call in calls:
        if run and (call.has_own_id or not call.name.startswith(run[-1].name)):
            yield run
            run = []
        run.append(call)
    yield run


def _mark_uncertain(run: list[_CallAssembly]) -> None:
    """Mark the doubtful calls of a run: empty ones, and one that is repeated."""
    if len(run) < 2:
        return
    empty = [call for call in run if call.state == "empty"]
    for call in empty if len(empty) < len(run) else empty[:-1]:
        call.is_uncertain = True
    for before, call in pairwise(run):
        call.is_uncertain = call.is_uncertain or call.text == before.text != ""


class _LaneReader:
    """Reads a lane in which calls follow one another; `ids` is whether ids separate calls."""

    def __init__(self, tools: ToolSet, *, ids: bool) -> None:
        self._tools = tools
        self._ids = ids
        self._has_one_id = False
        self._calls: list[_CallAssembly] = []

    def read(self, lane: list[_PositionedDelta]) -> list[_CallAssembly]:
        """Return the calls. Raises _AmbiguousPieces or _UnreliableIds."""
        self._has_one_id = len({piece.id for _, piece in lane if piece.id}) == 1
        for position, piece in lane:
            current = self._calls[-1] if self._calls else None
            if current is None or self._begins_call(current, piece):
                has_own_id = current is None or (self._ids and _has_other_id(current, piece))
                current = _CallAssembly(position, has_own_id=has_own_id)
                self._calls.append(current)
                current.name = piece.name
            current.add_piece(piece)
        return self._calls

    def _begins_call(self, current: _CallAssembly, piece: ToolCallDelta) -> bool:
        """Whether the piece begins a call; if not, its name is added to the current call."""
        if not piece.name:
            self._check_nameless(current, piece)
            return False
        if not current.name:
            if current.parts and not (piece.id and piece.id == current.id):
                raise _AmbiguousPieces
            current.name = piece.name
            return False
        if self._ids and _has_other_id(current, piece):
            self._check_next(current, piece)
            return True
        # The same id again: a name in pieces or repeated, or a server with one id for all calls.
        if piece.id and piece.id == current.id:
            return self._begins_call_under_same_id(current, piece)
        return self._begins_call_without_id(current, piece.name)

    def _check_nameless(self, current: _CallAssembly, piece: ToolCallDelta) -> None:
        if not (piece.arguments and _has_other_id(current, piece)):
            return
        if current.state == "whole" and not current.has_seen(piece.arguments):
            raise _AmbiguousPieces
        if self._ids:
            raise _UnreliableIds

    def _check_next(self, current: _CallAssembly, piece: ToolCallDelta) -> None:
        """Raise if a piece with another id does not begin a call."""
        if current.state in ("open", "over"):
            is_repeated = piece.name == current.name and current.state == "open"
            raise _UnreliableIds if is_repeated else _AmbiguousPieces
        if current.state == "whole" or piece.name in self._tools:
            return
        if current.has_split_name or self._join_names(current.name, piece.name):
            raise _AmbiguousPieces

    def _begins_call_under_same_id(self, current: _CallAssembly, piece: ToolCallDelta) -> bool:
        name = piece.name
        joined = self._join_names(current.name, name) if current.state == "empty" else ""
        if name == current.name and (name in self._tools or not joined):
            current.is_uncertain = current.is_uncertain or joined in self._tools
            is_next = self._has_one_id and current.state == "whole"
            return is_next and _are_different(current.text, piece.arguments)
        both = name in self._tools and current.name in self._tools
        if both and not joined and current.state in ("empty", "whole"):
            return True
        current.extend_name(joined or current.name + name)
        return False

    def _begins_call_without_id(self, current: _CallAssembly, name: str) -> bool:
        joined = self._join_names(current.name, name) if current.state == "empty" else ""
        is_tool = name in self._tools
        if name == current.name and not joined and current.state != "over":
            return current.state != "open"
        if current.state == "whole" or (current.state == "empty" and is_tool and not joined):
            return True
        if is_tool and joined != name:
            raise _AmbiguousPieces
        current.extend_name(joined or current.name + name)
        return False

    def _join_names(self, name: str, addition: str) -> str:
        """Return the name that two pieces form, or that was sent again in full, else empty."""
        joined = name + addition
        if any(tool.startswith(joined) for tool in self._tools):
            return joined
        is_longer = len(addition) > len(name) and addition.startswith(name)
        is_whole = is_longer and addition in self._tools and name not in self._tools
        return addition if is_whole else ""


def _has_other_id(call: _CallAssembly, piece: ToolCallDelta) -> bool:
    return bool(piece.id and call.id and piece.id != call.id)


def _are_snapshots(parts: Sequence[str]) -> bool:
    """Whether each piece is a JSON object that contains the object before it."""
    try:
        values: list[JSON] = [json.loads(part) for part in parts]
    except (ValueError, RecursionError):
        return False
    return all(isinstance(value, Mapping) for value in values) and all(
        _contains(later, earlier) for earlier, later in pairwise(values)
    )


def _are_different(first: str, second: str) -> bool:
    """Whether both are JSON objects, and the second is not the first that has grown."""
    try:
        values: list[JSON] = [json.loads(first), json.loads(second)]
    except (ValueError, RecursionError):
        return False
    before, after = values
    return (
        isinstance(before, Mapping)
        and isinstance(after, Mapping)
        and before != {}
        and not (_contains(after, before))
    )


def _contains(later: JSON, earlier: JSON) -> bool:
    """Whether a value is another one that has grown."""
    if isinstance(earlier, str) and isinstance(later, str):
        return later.startswith(earlier)
    if isinstance(earlier, Mapping) and isinstance(later, Mapping):
        return all(key in later and _contains(later[key], earlier[key]) for key in earlier)
    if isinstance(earlier, list) and isinstance(later, list):
        return len(earlier) <= len(later) and all(map(_contains, later, earlier))
    return earlier is None or (type(earlier) is type(later) and earlier == later)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass(slots=True, eq=False)
class _CallAssembly:
    """A call that is being assembled; `position` is that of its first piece.

    has_own_id: its id separates it from the call before. is_uncertain: it may not be a call.
    has_split_name: its name arrived in pieces.
    """

    position: int
    has_own_id: bool = True
    is_uncertain: bool = False
    has_split_name: bool = False
    id: str = ""
    name: str = ""
    parts: list[str] = field(default_factory=list[str])
    _balance: BracketMatcher = field(default_factory=BracketMatcher)
    _scanned_parts: int = 0
    _has_excess: bool = False
    _is_closed: bool = False
    _is_cumulative: bool = True

    def extend_name(self, name: str) -> None:
        """Extend the name by another piece. Raises _AmbiguousPieces if the arguments have begun."""
        if self.state != "empty":
            raise _AmbiguousPieces
        self.name = name
        self.has_split_name = True

    def add_piece(self, piece: ToolCallDelta) -> None:
        """Add the arguments and the id of a piece."""
        self.id = self.id or piece.id
        arguments = piece.arguments
        if not arguments or self.has_seen(arguments):
            return
        self._is_cumulative = self._is_cumulative and (
            not self.parts or arguments.startswith(self.parts[-1])
        )
        self.parts.append(arguments)

    def has_seen(self, arguments: str) -> bool:
        """Whether the piece repeats whole JSON, or its last piece."""
        if not self.parts or not (arguments == self.parts[-1] or arguments[:1] in ("{", "[")):
            return False
        return self.state == "whole" and arguments.strip() in (
            self.parts[-1].strip(),
            self.text.strip(),
        )

    @property
    def state(self) -> _ArgumentsState:
        """How complete the arguments are."""
        self._scan_new_parts()
        if not any(part.strip() for part in self.parts):
            return "empty"
        if (self._is_closed and not self._has_excess) or self._cumulative_text or self._is_plain:
            return "whole"
        return "over" if self._has_excess else "open"

    def _scan_new_parts(self) -> None:
        for part in self.parts[self._scanned_parts :]:
            end = 0
            if not self._is_closed and not self._balance.has_stopped:
                end = self._balance.scan(part, 0)
                self._is_closed = end >= 0 and not self._balance.has_stopped
            self._has_excess = self._has_excess or (self._is_closed and part[end:].strip() != "")
        self._scanned_parts = len(self.parts)

    @property
    def _is_plain(self) -> bool:
        """Whether the arguments are whole JSON but not a list or object."""
        return self.parts[-1].rstrip().endswith(('"', "null")) and _is_json("".join(self.parts))

    @property
    def _cumulative_text(self) -> str:
        """The arguments, if a piece contains all pieces before it and is JSON, else empty."""
        if len(self.parts) < 2:
            return ""
        last = self.parts[-1]
        if self._is_cumulative:
            return last if _is_json(last) else ""
        if not self.parts[0].rstrip().endswith("}"):
            return ""
        if self.parts[0].strip() == "{}":  # a placeholder before the arguments
            rest = "".join(self.parts[1:])
            if _is_json(rest):
                return rest
        return last if _are_snapshots(self.parts) else ""

    @property
    def text(self) -> str:
        """The arguments."""
        joined = "".join(self.parts)
        return joined if not self._cumulative_text or _is_json(joined) else self._cumulative_text

    @property
    def is_sound(self) -> bool:
        """Whether the arguments certainly belong to one call."""
        return _is_json(self.text) or (len(self.parts) == 1 and self.state == "whole")
