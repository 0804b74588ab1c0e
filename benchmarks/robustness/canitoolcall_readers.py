"""Measure how many of canitoolcall's recorded answers agentcall reads correctly, by family.

    python -m benchmarks.robustness.canitoolcall_readers            # prints the table
    python -m benchmarks.robustness.canitoolcall_readers --write    # also writes it to the page

canitoolcall is installed once into its own environment; the fixtures of another folder can be given
as an argument. `-v` shows what is wrong with each answer that is read incorrectly.

Each answer is read whole and character by character, first with the family detected from the text
(plain, chars), then with the reader of its family (named). In "no prompt" the reader does not know
that the prompt ended in an open `<think>`, which a client cannot always know.

An answer counts if its content, thinking, and calls with their arguments are the expected ones. An
answer that was cut or is malformed counts if its outcome is an accepted one. Blanks around content
and thinking are ignored (canitoolcall's `soft-v1`), except in the column "strict".

The last column is the approach of most tutorials: a regex for `<tool_call>` with JSON in it. There
an answer counts if its calls are the expected ones; content and thinking are ignored.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentcall.dialects.answer_parts import MessagePart
from agentcall.dialects.parsers.response_parser import (
    ParsedResponse,
    collect_parts,
    create_text_reader,
)
from benchmarks.robustness.installation import Peer, find_python
from benchmarks.robustness.section import Section, format_row

CANITOOLCALL = Peer("canitoolcall", "", ("canitoolcall==0.1.1",))
SECTION = Section("python -m benchmarks.robustness.canitoolcall_readers --write")
TUTORIAL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)

FAMILY: dict[str, str | dict[str, str]] = {
    "deepseek": {"v3": "deepseek", "v31": "deepseek", "v32": "dsml", "v4": "dsml", "v41": "dsml"},
    "gemma4": "gemma",
    "glm": "glm",
    "gpt-oss": "harmony",
    "kimi": {"k2": "kimi", "k3": "kimi_k3"},
    "llama": {"json": "llama3", "pythonic": "pythonic"},
    "mistral": "mistral",
    "qwen3-hermes": "hermes",
    "qwen3-xml": "qwen_coder",
}
THINKING = ("<think>", "<|open|>think<|sep|>", "<|channel>thought")


@dataclass(frozen=True)
class OfferedTool:
    """A tool of a fixture."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Fixture:
    """A recorded answer and its expected reading."""

    record: dict[str, Any]
    prompt: str

    @property
    def offers(self) -> list[OfferedTool]:
        functions = (tool["function"] for tool in self.record["tools"])
        return [OfferedTool(f["name"], f.get("parameters") or {}) for f in functions]

    @property
    def family(self) -> str:
        found = FAMILY[str(self.record["family"])]
        if isinstance(found, str):
            return found
        tags = " ".join(tag for tag in self.record["tags"] if tag.startswith("x-")) + " "
        return next(name for key, name in found.items() if f"-{key} " in tags)

    @property
    def opening(self) -> str:
        """The thinking tag that the prompt has left open."""
        for marker in THINKING:
            _, tag, rest = self.prompt.rpartition(marker)
            if tag and not rest.strip():
                return tag + rest
        return ""

    @property
    def finish(self) -> str:
        return "length" if "truncated" in self.record["tags"] else "stop"


def find_folder(named: Path | None) -> Path:
    """Return the given folder of fixtures, or that of an installed canitoolcall."""
    if named is not None:
        inner = named / "_data" / "fixtures"
        return inner if inner.is_dir() else named
    root = find_python(CANITOOLCALL).parents[1]
    return next(root.glob("lib/python*/site-packages/canitoolcall/_data/fixtures"))


def load_fixtures(root: Path) -> Iterator[Fixture]:
    """Yield all fixtures, each with the end of its prompt."""
    for about in sorted(root.glob("*/family.json")):
        family = json.loads(about.read_text(encoding="utf-8"))
        prompts = {
            model["repo"]: model.get("default_generation_prompt", "")
            for model in family["reference_models"]
        }
        for path in sorted(about.parent.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                prompt = record.get("generation_prompt")
                if prompt is None:
                    prompt = prompts.get(record["models"][0], "")
                yield Fixture(record, prompt)


def read_answer(fixture: Fixture, pieces: Iterable[str], family: str | None) -> ParsedResponse:
    """Read the fixture's answer in these pieces."""
    reader = create_text_reader(fixture.offers, family, opener=fixture.opening)
    parts: list[MessagePart] = []
    for piece in pieces:
        parts += reader.feed(piece)
    return collect_parts(parts + reader.close(fixture.finish))


def parse_arguments(text: str) -> Any:
    """Parse arguments; return the text if it is not strict JSON."""
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
        )
    except ValueError:
        return text


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields := dict(pairs)) < len(pairs):
        raise ValueError("duplicate key")
    return fields


def is_equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal at every depth: `1` equals `1.0`, but not `true`."""
    return _canonical(left) == _canonical(right)


def _canonical(value: Any) -> str:
    return json.dumps(json.loads(json.dumps(value), parse_float=_normalize_number), sort_keys=True)


def _normalize_number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def has_same_calls(calls: list[tuple[str, Any]], wanted: list[tuple[str, Any]]) -> bool:
    """Whether the calls are the expected ones, in this order."""
    return len(calls) == len(wanted) and all(
        name == right and is_equal(given, expected)
        for (name, given), (right, expected) in zip(calls, wanted, strict=True)
    )


def find_problem(fixture: Fixture, reading: ParsedResponse, *, strict: bool = False) -> str:
    """Return what is wrong with a reading; empty if it is right."""
    expected = fixture.record.get("expected")
    if expected is None:
        accept = fixture.record["expected_error"]["accept"]
        if reading.calls:
            return f"a call in an answer that has none: {reading.calls}"
        passed = reading.text.strip() == fixture.record["raw_output"].strip()
        return "" if "no_tool_calls" in accept or passed else "not passed through"
    calls = [(call.name, parse_arguments(call.arguments)) for call in reading.calls]
    wanted = [(call["name"], call["arguments"]) for call in expected["tool_calls"]]
    if not has_same_calls(calls, wanted):
        return f"calls {calls}, expected {wanted}, broken {reading.broken}"
    for what, got in (("content", reading.text), ("reasoning_content", reading.thinking)):
        want = expected[what] or ""
        if (got if strict else got.strip()) != (want if strict else want.strip()):
            return f"{what} {got!r}, expected {want!r}"
    return ""


def read_by_regex(fixture: Fixture) -> bool:
    """Whether the regex of most tutorials finds the right calls."""
    calls: list[tuple[str, Any]] = []
    for text in TUTORIAL.findall(fixture.record["raw_output"]):
        with suppress(ValueError, KeyError, TypeError):
            call = json.loads(text)
            calls.append((call["name"], call["arguments"]))
    expected: dict[str, Any] = fixture.record.get("expected") or {"tool_calls": []}
    wanted = [(call["name"], call["arguments"]) for call in expected["tool_calls"]]
    return has_same_calls(calls, wanted)


COLUMNS = ("answers", "plain", "chars", "named", "named/chars", "no prompt", "strict", "regex")


def measure(fixture: Fixture, figures: list[int], *, verbose: bool) -> int:
    """Add a fixture to its row; return how often a call was read from an answer without calls."""
    raw = fixture.record["raw_output"]
    blind = Fixture(fixture.record, "")
    family = fixture.family
    ways: list[tuple[Fixture, Iterable[str], str | None]] = [
        (fixture, [raw], None),
        (fixture, raw, None),
        (fixture, [raw], family),
        (fixture, raw, family),
        (blind, [raw], None),
    ]
    figures[0] += 1
    figures[7] += read_by_regex(fixture)
    unfinished = 0
    for column, (one, pieces, name) in enumerate(ways, 1):
        reading = read_answer(one, pieces, name)
        wrong = find_problem(one, reading)
        figures[column] += not wrong
        figures[6] += column == 1 and not find_problem(one, reading, strict=True)
        unfinished += bool(reading.calls) and "expected_error" in fixture.record
        if wrong and verbose:
            print(f"{fixture.record['id']} [{COLUMNS[column]}] {wrong}\n    {raw[:300]!r}")
    return unfinished


@dataclass(frozen=True)
class Table:
    """The figures by family, and how many calls were read from answers without calls."""

    rows: dict[str, list[int]]
    unfinished: int

    def __str__(self) -> str:
        lines = [f"{'':14}" + "".join(f"{name:>12}" for name in COLUMNS)]
        for name, figures in self.rows.items():
            lines.append(f"{name:14}" + "".join(f"{count:12}" for count in figures))
        return "\n".join((*lines, f"calls out of answers that hold none: {self.unfinished}"))

    @property
    def markdown(self) -> str:
        """The table for the page."""
        today = datetime.now(timezone.utc).date().isoformat()
        versions = f"agentcall {version('agentcall')}, {CANITOOLCALL.requirements_text.strip()}"
        lines = [f"{versions.replace('==', ' ')}, {today}.", ""]
        lines += [format_row("family", *COLUMNS), "|---" * (len(COLUMNS) + 1) + "|"]
        lines += [format_row(name, *figures) for name, figures in self.rows.items()]
        about = "Calls that came out of answers that hold none or were cut, in all these ways"
        return "\n".join((*lines, "", f"{about}: {self.unfinished}."))


def measure_all(root: Path, *, verbose: bool = False) -> Table:
    """Measure the fixtures in a folder."""
    rows: dict[str, list[int]] = {}
    unfinished = 0
    for fixture in load_fixtures(root):
        figures = rows.setdefault(fixture.record["family"], [0] * len(COLUMNS))
        unfinished += measure(fixture, figures, verbose=verbose)
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    return Table(rows, unfinished)


def main() -> None:
    """Print the table, and write it to the page if requested."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness.canitoolcall_readers")
    parser.add_argument("folder", nargs="?", type=Path, help="fixtures, or an installed package")
    parser.add_argument("--write", action="store_true", help="write the table to the page")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what is wrong")
    options = parser.parse_args()
    table = measure_all(find_folder(options.folder), verbose=options.verbose)
    print(table)
    if options.write:
        SECTION.write(table.markdown)


if __name__ == "__main__":
    main()
