"""Split native tool calls into the deltas of a stream, with the quirks of real servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate, zip_longest
from typing import Literal

from agentcall.testing.raw_http import JSONFields

StreamQuirk = Literal[
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

_INDEX_FORMATS: dict[str, Callable[[int], object]] = {
    "index_shared": lambda _: 0,
    "index_text": str,
    "index_float": float,
}


def split_calls(
    calls: Sequence[JSONFields], quirks: Collection[StreamQuirk], size: int
) -> Iterator[list[JSONFields]]:
    """Yield the `tool_calls` of each delta."""
    pieces = [_split_call(call, index, quirks, size) for index, call in enumerate(calls)]
    if "interleaved" in quirks:
        entries = [entry for row in zip_longest(*pieces) for entry in row if entry is not None]
    else:
        entries = [entry for call_pieces in pieces for entry in call_pieces]
    if "one_chunk" in quirks:
        yield entries
    else:
        yield from ([entry] for entry in entries)


def split_text(text: str, size: int) -> list[str]:
    """Split a text into pieces of `size` characters."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def make_choice_index(index: int, quirks: Collection[StreamQuirk]) -> object:
    """Return the index of a choice as the quirks write it."""
    if "choice_one" in quirks:
        return index + 1
    return str(index) if "choice_text" in quirks else index


def _split_call(
    call: JSONFields, index: int, quirks: Collection[StreamQuirk], size: int
) -> list[JSONFields]:
    if "no_index" not in quirks:
        formats = (convert for quirk, convert in _INDEX_FORMATS.items() if quirk in quirks)
        convert = next(formats, None)
        call = {"index": index if convert is None else convert(index), **call}
    arguments = call["function"].get("arguments")
    if "whole_calls" in quirks or not isinstance(arguments, str):
        entries = [call]
    else:
        pieces = split_text(arguments, size)
        if "cumulative" in quirks:
            pieces = list(accumulate(pieces))
        fragments = [_make_fragment(call, piece, n, quirks) for n, piece in enumerate(pieces)]
        entries = [*_iter_name_entries(call, quirks, size), *fragments]
    if "ids_late" in quirks:
        entries = [_remove_id(entry) for entry in entries[:-1]] + [_add_id(entries[-1], call)]
    return [*entries, *(entries[-1:] if "last_doubled" in quirks else ())]


def _iter_name_entries(
    call: JSONFields, quirks: Collection[StreamQuirk], size: int
) -> Iterator[JSONFields]:
    """Yield the pieces with the name; the first one also has the id."""
    name = call["function"].get("name")
    pieces = split_text(name, size) if "names_cut" in quirks and isinstance(name, str) else [name]
    for number, piece in enumerate(pieces):
        function = {**call["function"], "arguments": ""}
        if "name" in function:
            function["name"] = piece
        entry = {**call, "function": function}
        yield entry if number == 0 or "ids_repeated" in quirks else _remove_id(entry)


def _make_fragment(
    call: JSONFields, piece: str, number: int, quirks: Collection[StreamQuirk]
) -> JSONFields:
    if "names_repeated" in quirks:
        return {**call, "function": {**call["function"], "arguments": piece}}
    entry = {key: value for key, value in call.items() if key == "index"}
    if "ids_renewed" in quirks:
        entry["id"] = f"{call.get('id')}_{number}"
    elif "ids_repeated" in quirks:
        entry = _add_id(entry, call)
    return {**entry, "function": {"arguments": piece}}


def _remove_id(entry: JSONFields) -> JSONFields:
    return {key: value for key, value in entry.items() if key != "id"}


def _add_id(entry: JSONFields, call: JSONFields) -> JSONFields:
    return {**entry, "id": call["id"]} if "id" in call else entry
