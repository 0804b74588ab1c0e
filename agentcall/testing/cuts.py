"""How servers cut native tool calls into the deltas of a stream: calls in, `tool_calls` out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate, zip_longest
from typing import Literal

from agentcall.testing.wire import Fields

Quirk = Literal[
    "whole_calls",
    "names_repeated",
    "names_cut",
    "ids_renewed",
    "ids_repeated",
    "ids_late",
    "no_index",
    "index_shared",
    "index_text",
    "index_float",
    "cumulative",
    "last_doubled",
    "interleaved",
    "one_chunk",
    "roles_repeated",
    "finish_merged",
    "message_last",
    "choice_text",
    "choice_one",
]

_INDEX: dict[str, Callable[[int], object]] = {
    "index_shared": lambda place: 0,
    "index_text": str,
    "index_float": float,
}


def call_deltas(
    calls: Sequence[Fields], quirks: Collection[Quirk], size: int
) -> Iterator[list[Fields]]:
    """The `tool_calls` of each delta."""
    cut = [_entries(call, place, quirks, size) for place, call in enumerate(calls)]
    if "interleaved" in quirks:
        entries = [entry for row in zip_longest(*cut) for entry in row if entry is not None]
    else:
        entries = [entry for some in cut for entry in some]
    if "one_chunk" in quirks:
        yield entries
    else:
        yield from ([entry] for entry in entries)


def cut_text(text: str, size: int) -> list[str]:
    """The text in pieces of so many characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def choice_index(place: int, quirks: Collection[Quirk]) -> object:
    """The index of a choice."""
    if "choice_one" in quirks:
        return place + 1
    return str(place) if "choice_text" in quirks else place


def _entries(call: Fields, place: int, quirks: Collection[Quirk], size: int) -> list[Fields]:
    """The pieces of one call."""
    if "no_index" not in quirks:
        index = next((make(place) for name, make in _INDEX.items() if name in quirks), place)
        call = {"index": index, **call}
    arguments = call["function"].get("arguments")
    if "whole_calls" in quirks or not isinstance(arguments, str):
        entries = [call]
    else:
        pieces = cut_text(arguments, size)
        if "cumulative" in quirks:
            pieces = list(accumulate(pieces))
        rest = [_fragment(call, piece, n, quirks) for n, piece in enumerate(pieces)]
        entries = [*_opening(call, quirks, size), *rest]
    if "ids_late" in quirks:
        entries = [_without_id(entry) for entry in entries[:-1]] + [_with_id(entries[-1], call)]
    return [*entries, *(entries[-1:] if "last_doubled" in quirks else ())]


def _opening(call: Fields, quirks: Collection[Quirk], size: int) -> Iterator[Fields]:
    """The pieces with the name; the first has the id as well."""
    name = call["function"].get("name")
    cut = cut_text(name, size) if "names_cut" in quirks and isinstance(name, str) else [name]
    for number, piece in enumerate(cut):
        function = {**call["function"], "arguments": ""}
        if "name" in function:
            function["name"] = piece
        entry = {**call, "function": function}
        yield entry if number == 0 or "ids_repeated" in quirks else _without_id(entry)


def _fragment(call: Fields, piece: str, number: int, quirks: Collection[Quirk]) -> Fields:
    if "names_repeated" in quirks:
        return {**call, "function": {**call["function"], "arguments": piece}}
    kept = {key: value for key, value in call.items() if key == "index"}
    if "ids_renewed" in quirks:
        kept["id"] = f"{call.get('id')}_{number}"
    elif "ids_repeated" in quirks:
        kept = _with_id(kept, call)
    return {**kept, "function": {"arguments": piece}}


def _without_id(entry: Fields) -> Fields:
    return {key: value for key, value in entry.items() if key != "id"}


def _with_id(entry: Fields, call: Fields) -> Fields:
    return {**entry, "id": call["id"]} if "id" in call else entry
