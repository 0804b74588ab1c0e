"""Measure the recall of tool search, with BFCL's questions over the pool of all its functions.

    python -m benchmarks.tool_search

The Berkeley Function Calling Leaderboard (PyPI `bfcl-eval`, Apache-2.0) contains functions and
questions; its package is downloaded once into a folder of the cache. A registry has one tool per
name: the first of several functions with the same name counts. A question is answered if every
function of its ground truth is among the first 5 or 10.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, NamedTuple

from agentcall import Tool, ToolRegistry
from agentcall.tools.search import SearchField, SearchIndex
from agentcall.tools.tool import tool_from_schema
from benchmarks.robustness.installation import Peer, find_python

BFCL = Peer("bfcl", "", ("--no-deps", "bfcl-eval==2026.3.23"))
CHOSEN_ON = ("simple_python", "live_simple")
MEASURED_ON = ("multiple", "live_multiple")
MANY = 10_000
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}

Search = Callable[[str, int], Sequence[str]]


class Question(NamedTuple):
    """A user's question, and the names of the functions that answer it."""

    text: str
    names: frozenset[str]


def find_data_folder() -> Path:
    """Return the folder with the leaderboard's files."""
    (found,) = find_python(BFCL).parent.parent.glob("lib/python*/site-packages/bfcl_eval/data")
    return found


def load_functions(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield every function of the leaderboard's questions."""
    for path in sorted(folder.glob("BFCL_v4_*.json")):
        if "format_sensitivity" not in path.name:
            for line in path.read_text("utf-8").splitlines():
                yield from json.loads(line).get("function", ())
    for path in sorted(folder.glob("multi_turn_func_doc/*.json")):
        yield from map(json.loads, path.read_text("utf-8").splitlines())


def load_questions(folder: Path, name: str) -> list[Question]:
    """Load the questions of a category."""
    wanted: dict[str, frozenset[str]] = {}
    for line in (folder / "possible_answer" / f"BFCL_v4_{name}.json").read_text().splitlines():
        row = json.loads(line)
        wanted[row["id"]] = frozenset(
            _clean_name(key) for call in row["ground_truth"] for key in call
        )
    found = []
    for line in (folder / f"BFCL_v4_{name}.json").read_text("utf-8").splitlines():
        row = json.loads(line)
        said = [m["content"] for turn in row["question"] for m in turn if m["role"] == "user"]
        found.append(Question("\n".join(said), wanted[row["id"]]))
    return found


def make_function_tool(function: Mapping[str, Any], suffix: str = "") -> Tool:
    """Make a tool of a leaderboard function, whose types are nearly those of JSON Schema."""
    return tool_from_schema(
        _do_nothing,
        name=(_clean_name(function["name"]) + suffix)[-64:],
        description=function.get("description", ""),
        parameters=_convert_schema(function.get("parameters") or {"type": "dict"}),
    )


def _do_nothing(arguments: object) -> str:
    return ""


def _clean_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[-64:]


def _convert_schema(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _convert_schema(part) for key, part in value.items() if key != "optional"}
        if isinstance(kept.get("type"), str):
            kept["type"] = _TYPES.get(kept["type"].lower(), kept["type"].lower())
            if kept["type"] not in ("object", "array", "string", "number", "integer", "boolean"):
                del kept["type"]
        return kept
    return [_convert_schema(part) for part in value] if isinstance(value, list) else value


def measure_recall(search: Search, asked: Iterable[Question], count: int) -> float:
    """Return the share of questions whose functions are all among the first `count` results."""
    hits = [question.names <= set(search(question.text, count)) for question in asked]
    return sum(hits) / len(hits)


def search_descriptions(tools: Sequence[Tool]) -> Search:
    """Return a search with plain BM25 over only the descriptions."""
    index = SearchIndex([SearchField(tool.description)] for tool in tools)
    return lambda query, count: [tools[number].name for number in index.search(query, count)]


def measure_speed(folder: Path, pool: Sequence[Mapping[str, Any]]) -> str:
    """Return the CPU time of a query among many tools, and of the first query, as text."""
    many = (make_function_tool(pool[n % len(pool)], f"_{n // len(pool)}") for n in range(MANY))
    registry = ToolRegistry(*many)
    began = process_time()
    registry.search("weather", 10)
    built = process_time() - began
    took = []
    for name in MEASURED_ON:
        for question in load_questions(folder, name):
            began = process_time()
            registry.search(question.text, 10)
            took.append((process_time() - began) * 1000)
    worst = sorted(took)[int(len(took) * 0.99)]
    return (
        f"{MANY:,} tools: {median(took):.1f} ms a query (99%: {worst:.1f} ms); the first query, "
        f"which builds the index, {built:.2f} s"
    )


def main() -> None:
    folder = find_data_folder()
    pool = list(
        {_clean_name(f["name"]): f for f in reversed(list(load_functions(folder)))}.values()
    )
    registry = ToolRegistry(*map(make_function_tool, pool))
    ways: dict[str, Search] = {
        "BM25, descriptions alone": search_descriptions(list(registry)),
        "ToolRegistry.search": lambda query, count: [t.name for t in registry.search(query, count)],
    }
    print(f"{len(registry):,} tools\n")
    print("| questions | search | recall at 5 | recall at 10 |\n| --- | --- | --- | --- |")
    for name in (*MEASURED_ON, *CHOSEN_ON):
        asked = load_questions(folder, name)
        for way, search in ways.items():
            five, ten = measure_recall(search, asked, 5), measure_recall(search, asked, 10)
            print(f"| `{name}` ({len(asked)}) | {way} | {five:.1%} | {ten:.1%} |", flush=True)
    every = len(json.dumps([tool.definition for tool in registry]))
    first = [registry.search(q.text, 10) for q in load_questions(folder, "multiple")]
    ten_of = [len(json.dumps([tool.definition for tool in found])) for found in first]
    print(f"\ndefinitions: all {every:,} characters, ten {median(ten_of):,.0f}")
    print(measure_speed(folder, pool))


if __name__ == "__main__":
    main()
