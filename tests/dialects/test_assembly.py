"""Native calls in a stream are assembled to those of the plain answer, or refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from rows import each_row

from agentcall.dialects.answer_parts import MalformedCallPart, ToolCallDelta, ToolCallPart
from agentcall.dialects.assembly import MIXED_CALLS, NAMELESS_CALL, assemble_calls
from agentcall.dialects.native import NativeReader
from agentcall.models.response_reader import ResponseReader
from agentcall.testing import MISSING, Completion, RecordedRequest, ScriptedCall

TOOLS = ("delete_file", "read_file", "add", "refresh", "search", "search_all", "edit_existing_file")

Pieces = Sequence[tuple[int | None, str, str, str]]


def calls_of(*pieces: tuple[int | None, str, str, str]) -> list[tuple[str, str]]:
    """Return the calls as (name, arguments); a malformed one has the name "broken"."""
    found = assemble_calls([ToolCallDelta(*piece) for piece in pieces], TOOLS)
    return [
        (part.name, part.arguments) if isinstance(part, ToolCallPart) else ("broken", "")
        for part in found
    ]


PATH = '{"path": "keys.txt"}'
ONE, TWO, THREE = '{"a": 1}', '{"a": 2}', '{"a": 3}'
BROKEN = ("broken", "")


@each_row(
    ("pieces", "wanted"),
    [
        # calls that share an index
        ([(0, "a", "add", ONE), (0, "b", "add", TWO)], [("add", ONE), ("add", TWO)]),
        (
            [(0, "a", "add", ONE), (0, "b", "add", TWO), (0, "c", "add", THREE)],
            [("add", ONE), ("add", TWO), ("add", THREE)],
        ),
        (
            [(0, "a", "add", ""), (0, "", "", ONE[:4]), (0, "", "", ONE[4:]), (0, "b", "add", ""),
             (0, "", "", TWO)],
            [("add", ONE), ("add", TWO)],
        ),
        (
            [(0, "a", "add", ONE), (0, "b", "add", TWO), (1, "c", "add", THREE)],
            [("add", ONE), ("add", TWO), ("add", THREE)],
        ),
        (
            [(0, "a", "delete_file", ""), (0, "b", "read_file", PATH)],
            [("delete_file", ""), ("read_file", PATH)],
        ),
        (
            [(0, "a", "delete_file", ""), (0, "b", "read_file", ""), (0, "", "", PATH)],
            [("delete_file", ""), ("read_file", PATH)],
        ),
        (
            [(0, "a", "delete_file", "{}"), (0, "b", "read_file", ""), (0, "", "", PATH)],
            [("delete_file", "{}"), ("read_file", PATH)],
        ),
        # in turns, an id on each
        (
            [(0, "a", "add", '{"a":'), (0, "b", "read_file", PATH[:8]), (0, "a", "", " 1}"),
             (0, "b", "", PATH[8:])],
            [("add", ONE), ("read_file", PATH)],
        ),
        (
            [(0, "a", "delete_file", ""), (0, "b", "read_file", ""), (0, "a", "", ""),
             (0, "b", "", PATH)],
            [("delete_file", ""), ("read_file", PATH)],
        ),
        # without ids
        ([(0, "", "add", ONE), (0, "", "add", TWO)], [("add", ONE), ("add", TWO)]),
        ([(None, "", "add", ONE), (None, "", "add", TWO)], [("add", ONE), ("add", TWO)]),
        (
            [(0, "", "delete_file", ""), (0, "", "read_file", ""), (0, "", "", PATH)],
            [("delete_file", ""), ("read_file", PATH)],
        ),
        (
            [(0, "", "add", ""), (0, "", "", ONE), (0, "", "add", ""), (0, "", "", TWO)],
            [("add", ONE), ("add", TWO)],
        ),
        # one id for all
        (
            [(0, "x", "delete_file", ""), (0, "x", "read_file", PATH)],
            [("delete_file", ""), ("read_file", PATH)],
        ),
        ([(0, "x", "add", ONE), (1, "x", "add", TWO)], [("add", ONE), ("add", TWO)]),
        # ids that come late, or with each piece anew
        (
            [(0, "", "add", ""), (0, "a", "", ONE), (0, "", "read_file", ""), (0, "b", "", PATH)],
            [("add", ONE), ("read_file", PATH)],
        ),
        (
            [(0, "1", "add", ""), (0, "2", "", '{"a":'), (0, "3", "", " 1}"),
             (0, "4", "read_file", ""), (0, "5", "", PATH)],
            [("add", ONE), ("read_file", PATH)],
        ),
        # names in pieces, and repeated
        (
            [(0, "a", "edit_ex", ""), (0, "", "isting_file", ""), (0, "", "", ONE)],
            [("edit_existing_file", ONE)],
        ),
        (
            [(0, "a", "edit_ex", ""), (0, "a", "isting_file", ""), (0, "a", "", ONE)],
            [("edit_existing_file", ONE)],
        ),
        ([(0, "a", "sea", ""), (0, "", "rch", ""), (0, "", "", ONE)], [("search", ONE)]),
        ([(0, "a", "search", ""), (0, "", "_all", ""), (0, "", "", ONE)], [("search_all", ONE)]),
        ([(0, "a", "edit_ex", ""), (0, "a", "edit_existing_file", ONE)],
         [("edit_existing_file", ONE)]),
        (
            [(0, "a", "add", '{"a":'), (0, "a", "add", " 1}"), (0, "a", "add", "")],
            [("add", ONE)],
        ),
        ([(0, "", "add", '{"a":'), (0, "", "add", " 1}")], [("add", ONE)]),
        # all arguments so far
        ([(0, "a", "add", ""), (0, "", "", '{"a"'), (0, "", "", ONE)], [("add", ONE)]),
        (
            [(0, "", "add", '{"a"'), (0, "", "add", ONE), (0, "", "add", '{"a'),
             (0, "", "add", TWO)],
            [("add", ONE), ("add", TWO)],
        ),
        ([(0, "a", "add", '{"a": 11'), (0, "", "", "1}")], [("add", '{"a": 111}')]),
        (
            [(0, "a", "add", '{"a": "'), (0, "", "", 'aa"'), (0, "", "", "}")],
            [("add", '{"a": "aa"}')],
        ),
        # the last piece once more
        ([(0, "a", "add", '{"a": 1'), (0, "", "", "}"), (0, "", "", "}")], [("add", ONE)]),
        ([(0, "a", "add", ONE), (0, "a", "add", ONE)], [("add", ONE)]),
        ([(0, "a", "add", ""), (0, "", "", ONE), (0, "", "", ONE)], [("add", ONE)]),
        # one id for all calls
        (
            [(0, "a", "add", ONE), (0, "a", "add", TWO), (0, "a", "read_file", PATH)],
            [("add", ONE), ("add", TWO), ("read_file", PATH)],
        ),
        # the index is missing behind the first piece
        ([(0, "a", "add", ""), (None, "", "", ONE)], [("add", ONE)]),
        (
            [(0, "a", "add", ""), (1, "b", "read_file", ""), (None, "a", "", ONE),
             (None, "b", "", PATH)],
            [("add", ONE), ("read_file", PATH)],
        ),
        # one call as it came: mending it is for a later stage
        ([(0, "a", "add", "{'a': 1"), (0, "", "", ",}")], [("add", "{'a': 1,}")]),
        ([(0, "a", "add", '{"a": 1')], [("add", '{"a": 1')]),
    ],
)  # fmt: skip
def test_pieces_make_the_calls_that_were_meant(
    pieces: Pieces, wanted: list[tuple[str, str]]
) -> None:
    assert calls_of(*pieces) == wanted


@each_row(
    ("pieces", "wanted"),
    [
        # in turns, without an id on each
        (
            [(0, "a", "delete_file", ""), (0, "b", "read_file", ""), (0, "", "", '{"x": 1}'),
             (0, "", "", PATH)],
            [BROKEN],
        ),
        (
            [(0, "", "add", '{"a":'), (0, "", "read_file", '{"path":'), (0, "", "", " 1}"),
             (0, "", "", ' "x"}')],
            [BROKEN],
        ),
        (
            [(0, "a", "add", '{"x":'), (0, "b", "delete_file", ""), (0, "", "", '{"z": 1}}')],
            [BROKEN],
        ),
        # a call whose name was lost
        ([(0, "a", "delete_file", ""), (1, "b", "", PATH)], [BROKEN, BROKEN]),
        ([(0, "a", "add", ONE), (1, "b", "", PATH)], [("add", ONE), BROKEN]),
        ([(0, "a", "delete_file", "{}"), (0, "b", "", PATH)], [BROKEN]),
        ([(0, "", "", PATH), (0, "", "delete_file", "")], [BROKEN]),
        # a name that is no tool's may be the rest of the name before it
        ([(0, "a", "delete_file", ""), (0, "", "_safely", PATH)], [BROKEN]),
        ([(0, "a", "search", ""), (0, "b", "_all", ONE)], [BROKEN]),
        # an empty call that may be the repeated name of its neighbour
        ([(0, "", "add", ""), (0, "", "add", ONE)], [BROKEN, ("add", ONE)]),
        ([(0, "", "search", ""), (0, "", "search_all", ONE)], [BROKEN, ("search_all", ONE)]),
        ([(0, "", "refresh", ""), (0, "", "refresh", "")], [BROKEN, ("refresh", "")]),
        ([(0, "", "add", ONE), (0, "", "add", ONE)], [("add", ONE), BROKEN]),
        # two values under one id
        ([(0, "a", "add", ONE), (0, "a", "add", TWO), (0, "b", "add", THREE)], [BROKEN]),
    ],
)  # fmt: skip
def test_pieces_that_may_be_anothers_are_refused(
    pieces: Pieces, wanted: list[tuple[str, str]]
) -> None:
    assert calls_of(*pieces) == wanted


def test_the_model_is_shown_what_could_not_be_put_together() -> None:
    pieces = [ToolCallDelta(0, "", "add", '{"a":'), ToolCallDelta(0, "", "read_file", PATH)]
    assert assemble_calls(pieces, TOOLS) == [
        MalformedCallPart('add {"a":read_file ' + PATH, MIXED_CALLS)
    ]
    assert assemble_calls([ToolCallDelta(1, "", "", ONE)], TOOLS) == [
        MalformedCallPart(ONE, NAMELESS_CALL)
    ]


# --------------------------------------------------------------------------- the property

TEXTS = st.text(max_size=6) | st.sampled_from(["a", "aa", '{"', '"}', "}}", "{}", "东京 🌸", "\\"])
VALUES = st.recursive(
    st.integers(-1000, 1000) | st.booleans() | st.none() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.just("") | st.dictionaries(TEXTS, VALUES, max_size=3)
CALLS = st.lists(st.tuples(st.sampled_from(TOOLS), ARGUMENTS), min_size=1, max_size=4)
INDEXES: list[tuple[Any, ...]] = [
    (), ("no_index",), ("index_shared",), ("index_text",), ("index_float",),
]  # fmt: skip
IDS = ["opening", "ids_repeated", "ids_late", "ids_renewed", "missing", "empty", "null"]
NAMES: list[tuple[Any, ...]] = [(), ("names_repeated",), ("names_cut",)]
PARTS: list[tuple[Any, ...]] = [(), ("cumulative",), ("whole_calls",)]
ENDS: list[tuple[Any, ...]] = [(), ("last_doubled",), ("one_chunk",), ("message_last",)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Completion, Completion]:
    """Return an answer of several calls, plain, and as servers have been observed to cut it."""
    ids, index = draw(st.sampled_from(IDS)), draw(st.sampled_from(INDEXES))
    given_id: dict[str, Any] = {"missing": MISSING, "empty": "", "null": None}
    made = [
        ScriptedCall(name, arguments, id=given_id.get(ids, f"id_{place}"))
        for place, (name, arguments) in enumerate(draw(CALLS))
    ]
    quirks = [*index, *draw(st.sampled_from(NAMES)), *draw(st.sampled_from(PARTS))]
    quirks += draw(st.sampled_from(ENDS))
    if ids.startswith("ids_"):
        quirks.append(ids)
    # pieces in turns were seen only where an index or an id on each tells them apart
    if index not in (("no_index",), ("index_shared",)) or ids == "ids_repeated":
        quirks += draw(st.sampled_from([(), ("interleaved",)]))
    for quirk in (*index, ids, *quirks):
        event(quirk)
    plain = Completion(calls=tuple(made))
    return plain, plain.replace(quirks=tuple(quirks), size=draw(st.integers(1, 9)))


def parts_of(reply: Completion, *, stream: bool) -> tuple[Counter[str], list[object]]:
    """Return the calls of an answer as a client reads it, and those that were refused."""
    request = RecordedRequest("POST", "/v1/chat/completions", {}, b"", {"stream": stream}, 1)
    data = b"".join(reply.answer(request).pieces)
    hearing = ResponseReader(NativeReader(TOOLS), 0)
    parts = [*hearing.feed(data), *hearing.close()]
    calls = [part for part in parts if isinstance(part, ToolCallPart) and part.name in TOOLS]
    signs = [f"{call.name} {json.loads(call.arguments or '{}')}" for call in calls]
    return Counter(signs), [part for part in parts[:-1] if part not in calls]


def check_streams(answer: tuple[Completion, Completion]) -> None:
    """Check that a stream runs the calls of the plain answer, or reports what it left out."""
    plain, streamed = answer
    meant, no_broken = parts_of(plain, stream=False)
    ran, broken = parts_of(streamed, stream=True)
    event("refused" if broken else "as the plain answer")
    assert not no_broken
    assert not ran - meant
    assert ran == meant or broken


@given(streams())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_stream_runs_what_the_plain_answer_runs_or_is_refused(
    answer: tuple[Completion, Completion],
) -> None:
    check_streams(answer)


@pytest.mark.processes
@given(streams())
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_2000_streams_run_what_the_plain_answers_run_or_are_refused(
    answer: tuple[Completion, Completion],
) -> None:
    check_streams(answer)


@each_row(
    ("pieces", "wanted"),
    [
        # An empty object stands before the arguments.
        ([(0, "1", "read_file", "{}"), (0, "", "", PATH[:9]), (0, "", "", PATH[9:])], PATH),
        ([(0, "1", "read_file", "{}"), (0, "1", "", PATH)], PATH),
        # Each piece is the whole object so far, which a parser of incomplete JSON has closed.
        (
            [(0, "1", "add", part) for part in ("{}", '{"a": null}', ONE, '{"a": 1, "b": 2}')],
            '{"a": 1, "b": 2}',
        ),
        ([(0, "1", "search", '{"q": ""}'), (0, "", "", '{"q": "ab"}')], '{"q": "ab"}'),
        ([(0, "1", "search", '{"q": ["a"]}'), (0, "", "", '{"q": ["a", 2]}')], '{"q": ["a", 2]}'),
    ],
)
def test_arguments_that_are_sent_as_they_grow_are_the_last(pieces: Pieces, wanted: str) -> None:
    assert calls_of(*pieces) == [(pieces[0][2], wanted)]


@pytest.mark.parametrize("first", ['{"a": 2}', '{"a": 12}', '{"b": 1}', '{"a": true}'])
def test_an_object_that_another_one_contradicts_is_not_dropped(first: str) -> None:
    ((_, arguments),) = calls_of((0, "1", "add", first), (0, "", "", ONE))
    assert arguments == first + ONE


def test_a_piece_goes_to_the_call_of_its_id_whatever_its_index() -> None:
    path = '{"path": "b.txt"}'
    pieces = [(0, "1", "read_file", ""), (1, "2", "delete_file", "")]
    pieces += [(0, "1", "", PATH), (0, "2", "", path)]
    assert calls_of(*pieces) == [("read_file", PATH), ("delete_file", path)]


def test_an_id_that_several_indexes_share_does_not_move_pieces() -> None:
    pieces = [(0, "x", "read_file", ""), (1, "x", "add", "")]
    pieces += [(0, "x", "", PATH[:5]), (1, "x", "", ONE[:4])]
    pieces += [(0, "x", "", PATH[5:]), (1, "x", "", ONE[4:])]
    assert calls_of(*pieces) == [("read_file", PATH), ("add", ONE)]
