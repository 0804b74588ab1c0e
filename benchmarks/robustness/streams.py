"""Streams of calls, split in the ways that servers were observed to split them.

Without a stream none of them has a fault. With a stream the same calls should run, each with its
own arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

from agentcall.testing import ScriptedCall, calls
from benchmarks.robustness.base import ADDED, RIGHT, RIGHT_JSON, make_adding_scenario
from benchmarks.robustness.chunks import ChunkedReply, Piece, make_piece, split_text
from benchmarks.robustness.scenario import Scenario, always, execution

_OTHER_JSON = '{"a": 58, "b": 4800}'
_THIRD_JSON = '{"a": 61, "b": 4900}'
_SUMS = (RIGHT_JSON, _OTHER_JSON, _THIRD_JSON)
_QUESTION = "What are 1907 plus 2840, 58 plus 4800, and 61 plus 4900?"
_EXECUTIONS = (ADDED, execution("add", a=58, b=4800), execution("add", a=61, b=4900))
_RESULTS = ("4747", "4858", "4961")


def _add_in_parallel(
    name: str,
    about: str,
    deltas: Sequence[Sequence[Piece]],
    *,
    number: int = 2,
    choice: object = 0,
) -> Scenario:
    """Return a scenario with `number` parallel calls of `add`."""
    plain = calls(*(ScriptedCall("add", text) for text in _SUMS[:number]))
    return Scenario(
        name,
        about,
        ("add",),
        _QUESTION,
        always(ChunkedReply(plain, deltas, choice)),
        f"{', '.join(_RESULTS[:number])}.",
        _EXECUTIONS[:number],
        _RESULTS[:number],
        2,
    )


def _whole_call(
    number: int,
    index: object = 0,
    id: str | None = None,  # noqa: A002
) -> Piece:
    return make_piece(index, id=id, name="add", arguments=_SUMS[number])


def _split_call(number: int, index: object = 0, *, marked: bool = False) -> list[Piece]:
    """A call in pieces: the name with its id, then the arguments, with the id if `marked`."""
    made = f"call_{number}"
    head = make_piece(index, id=made, name="add", arguments="")
    rest = (
        make_piece(index, id=made if marked else None, arguments=p)
        for p in split_text(_SUMS[number])
    )
    return [head, *rest]


def _one_a_delta(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Each piece in a delta of its own."""
    return [[each] for each in pieces]


def _interleave(*some: Sequence[Piece]) -> list[list[Piece]]:
    """The pieces of several calls, one of each in turns."""
    mixed = chain.from_iterable(zip_longest(*some))
    return [[each] for each in mixed if each is not None]


SHARED = (
    _add_in_parallel(
        "two whole calls that share index 0",
        "each has an id of its own",
        _one_a_delta([_whole_call(0, id="call_0"), _whole_call(1, id="call_1")]),
    ),
    _add_in_parallel(
        "both calls in one delta, index 0",
        "each has an id of its own",
        [[_whole_call(0, id="call_0"), _whole_call(1, id="call_1")]],
    ),
    _add_in_parallel(
        "two calls in pieces that share index 0",
        "a name with an id begins the next call",
        _one_a_delta([*_split_call(0), *_split_call(1)]),
    ),
    _add_in_parallel(
        "three calls at index 0, 0 and 1",
        "each has an id of its own",
        _one_a_delta([*_split_call(0), *_split_call(1), *_split_call(2, 1)]),
        number=3,
    ),
    _add_in_parallel(
        "pieces of two calls in turns, index 0, ids on each",
        "the id tells whose a piece is",
        _interleave(_split_call(0, marked=True), _split_call(1, marked=True)),
    ),
    _add_in_parallel(
        "two whole calls that share index 0, without ids",
        "a name begins the next call",
        _one_a_delta([_whole_call(0), _whole_call(1)]),
    ),
)


def _delete_then_read(name: str, arguments: str) -> Scenario:
    """A call without arguments, and behind it, at the same index, one with arguments."""
    keys = '{"path": "keys.txt"}'
    plain = calls(ScriptedCall("delete_file", arguments), ScriptedCall("read_file", keys))
    first = make_piece(0, id="call_0", name="delete_file", arguments=arguments)
    second = make_piece(0, id="call_1", name="read_file", arguments="")
    rest = [make_piece(0, arguments=part) for part in split_text(keys)]
    return Scenario(
        name,
        "each call has its own arguments; delete_file deletes the scratch file by default",
        ("delete_file", "read_file"),
        "Delete the scratch file and read keys.txt.",
        always(ChunkedReply(plain, _one_a_delta([first, second, *rest]))),
        "The scratch file is gone; the key is 4848.",
        (execution("delete_file", path="scratch.txt"), execution("read_file", path="keys.txt")),
        ("4747", "4848"),
        2,
    )


EMPTY = (
    _delete_then_read('arguments "", then another call at index 0', ""),
    _delete_then_read("arguments {}, then another call at index 0", "{}"),
)

INDEXES = (
    _add_in_parallel(
        "pieces of two calls in turns, index 0 and 1",
        "the index tells whose a piece is",
        _interleave(_split_call(0, 0), _split_call(1, 1)),
    ),
    _add_in_parallel(
        'pieces of two calls in turns, index "0" and "1"',
        "a number as text",
        _interleave(_split_call(0, "0"), _split_call(1, "1")),
    ),
    _add_in_parallel(
        "pieces of two calls in turns, index 0.0 and 1.0",
        "a number with a point",
        _interleave(_split_call(0, 0.0), _split_call(1, 1.0)),
    ),
    _add_in_parallel(
        "two calls in pieces without index or ids",
        "a name begins the next call",
        _one_a_delta(
            [
                make_piece(name="add", arguments=""),
                *(make_piece(arguments=part) for part in split_text(_SUMS[0])),
                make_piece(name="add", arguments=""),
                *(make_piece(arguments=part) for part in split_text(_SUMS[1])),
            ]
        ),
    ),
    _add_in_parallel(
        "ids in the last piece of each call",
        "index 0 and 1",
        _one_a_delta(
            [
                make_piece(0, name="add", arguments=_SUMS[0][:9]),
                make_piece(0, id="call_0", arguments=_SUMS[0][9:]),
                make_piece(1, name="add", arguments=_SUMS[1][:9]),
                make_piece(1, id="call_1", arguments=_SUMS[1][9:]),
            ]
        ),
    ),
    _add_in_parallel(
        "the index of the only choice is 1",
        "it is the only one",
        _one_a_delta([*_split_call(0, 0), *_split_call(1, 1)]),
        choice=1,
    ),
    _add_in_parallel(
        'the index of the only choice is "0"',
        "a number as text",
        _one_a_delta([*_split_call(0, 0), *_split_call(1, 1)]),
        choice="0",
    ),
)


def _split_name(name: str, about: str, *names: str) -> Scenario:
    """A name in pieces, of which the first is the name of another tool."""
    arguments = '{"name": "Ada"}'
    whole = "".join(names)
    first, *others = names
    deltas = [
        make_piece(0, id="call_0", name=first, arguments=""),
        *(make_piece(0, name=part, arguments="") for part in others),
        *(make_piece(0, arguments=part) for part in split_text(arguments)),
    ]
    return Scenario(
        name,
        about,
        ("find_user", "find_users"),
        "Which users begin with Ada?",
        always(ChunkedReply(calls(ScriptedCall(whole, arguments)), _one_a_delta(deltas))),
        "4747 and 4748.",
        (execution(whole, name="Ada"),),
        ("4747",),
        2,
    )


PIECES = (
    _split_name("a name in two pieces", "the first is no tool's name", "find_", "users"),
    _split_name(
        "a name in two pieces, the first another tool's",
        "find_user and find_users are offered",
        "find_user",
        "s",
    ),
    make_adding_scenario(
        "arguments that hold all so far",
        "each piece begins with the one before it: the last one counts",
        ChunkedReply(
            RIGHT,
            _one_a_delta(
                [
                    make_piece(0, id="call_0", name="add", arguments=""),
                    *(
                        make_piece(0, arguments=RIGHT_JSON[:end])
                        for end in (5, 12, len(RIGHT_JSON))
                    ),
                ]
            ),
        ),
    ),
)

STREAMS = (*SHARED, *EMPTY, *INDEXES, *PIECES)
