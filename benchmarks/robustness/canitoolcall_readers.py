"""How many of canitoolcall's recorded answers the readers read rightly, per family.

    python -m venv V && V/bin/pip install canitoolcall
    python benchmarks/robustness/canitoolcall_readers.py V/lib/python3.11/site-packages/canitoolcall

Each answer is read whole and character by character, first with its family told by the text
(plain, chars), then with the reader of its family alone (named). "no prompt" does not tell the
reader that the prompt ended in an opened `<think>`, which a client cannot always know.

An answer counts if content, thinking, and calls with their arguments are the expected ones, or,
for answers that were cut or are malformed, if the outcome is one that is accepted. Blanks around
content and thinking do not count (canitoolcall's `soft-v1`); in the column "strict" they do.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentcall.dialects.parts import Part
from agentcall.dialects.reading import Reading, reading_of, text_reader

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
class Offer:
    """A tool of a fixture."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Fixture:
    """A recorded answer and what it should be read as."""

    record: dict[str, Any]
    prompt: str

    @property
    def offers(self) -> list[Offer]:
        functions = (tool["function"] for tool in self.record["tools"])
        return [Offer(one["name"], one.get("parameters") or {}) for one in functions]

    @property
    def family(self) -> str:
        found = FAMILY[str(self.record["family"])]
        if isinstance(found, str):
            return found
        tags = " ".join(tag for tag in self.record["tags"] if tag.startswith("x-")) + " "
        return next(name for key, name in found.items() if f"-{key} " in tags)

    @property
    def opening(self) -> str:
        """The thinking that the prompt has opened and not closed."""
        for marker in THINKING:
            _, begun, rest = self.prompt.rpartition(marker)
            if begun and not rest.strip():
                return begun + rest
        return ""

    @property
    def finish(self) -> str:
        return "length" if "truncated" in self.record["tags"] else "stop"


def folder(argument: str | None) -> Path:
    """The folder of fixtures of an installed canitoolcall, or of the one at this path."""
    if argument:
        root = Path(argument)
        inner = root / "_data" / "fixtures"
        return inner if inner.is_dir() else root
    spec = importlib.util.find_spec("canitoolcall")
    if spec is None or spec.origin is None:
        raise SystemExit(f"canitoolcall is not installed; see {__file__}")
    return Path(spec.origin).parent / "_data" / "fixtures"


def fixtures(root: Path) -> Iterator[Fixture]:
    """All fixtures, with the end of the prompt that they answer."""
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


def read(fixture: Fixture, pieces: Iterable[str], family: str | None) -> Reading:
    """The fixture's answer, read in these pieces."""
    reader = text_reader(fixture.offers, family, opening=fixture.opening)
    parts: list[Part] = []
    for piece in pieces:
        parts += reader.feed(piece)
    return reading_of(parts + reader.close(fixture.finish))


def arguments(text: str) -> Any:
    """Arguments as a value, or their text where that is no strict JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal, `true` being no `1`."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True) or (
        left == right and type(left) is type(right)
    )


def verdict(fixture: Fixture, reading: Reading, *, strict: bool = False) -> str:
    """Empty if the reading is right, else what is wrong with it."""
    expected = fixture.record.get("expected")
    if expected is None:
        accept = fixture.record["expected_error"]["accept"]
        if reading.calls:
            return f"a call of an answer that has none: {reading.calls}"
        passed = reading.text.strip() == fixture.record["raw_output"].strip()
        return "" if "no_tool_calls" in accept or passed else "not passed through"
    calls = [(call.name, arguments(call.arguments)) for call in reading.calls]
    wanted = [(call["name"], call["arguments"]) for call in expected["tool_calls"]]
    if len(calls) != len(wanted) or not all(
        one[0] == other[0] and same(one[1], other[1])
        for one, other in zip(calls, wanted, strict=True)
    ):
        return f"calls {calls}, expected {wanted}, broken {reading.broken}"
    for what, got in (("content", reading.text), ("reasoning_content", reading.thinking)):
        want = expected[what] or ""
        if (got if strict else got.strip()) != (want if strict else want.strip()):
            return f"{what} {got!r}, expected {want!r}"
    return ""


COLUMNS = ("answers", "plain", "chars", "named", "named/chars", "no prompt", "strict")


def measure(fixture: Fixture, row: list[int], *, verbose: bool) -> int:
    """Adds one fixture to its row; how often a call came out of an answer that holds none."""
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
    row[0] += 1
    unfinished = 0
    for column, (one, pieces, name) in enumerate(ways, 1):
        reading = read(one, pieces, name)
        wrong = verdict(one, reading)
        row[column] += not wrong
        row[6] += column == 1 and not verdict(one, reading, strict=True)
        unfinished += bool(reading.calls) and "expected_error" in fixture.record
        if wrong and verbose:
            print(f"{fixture.record['id']} [{COLUMNS[column]}] {wrong}\n    {raw[:300]!r}")
    return unfinished


def main() -> int:
    """Prints the table."""
    paths = [argument for argument in sys.argv[1:] if argument != "-v"]
    table: dict[str, list[int]] = {}
    unfinished = 0
    for fixture in fixtures(folder(paths[0] if paths else None)):
        row = table.setdefault(fixture.record["family"], [0] * len(COLUMNS))
        unfinished += measure(fixture, row, verbose="-v" in sys.argv)
    table["all"] = [sum(column) for column in zip(*table.values(), strict=True)]
    print(f"{'':14}" + "".join(f"{name:>12}" for name in COLUMNS))
    for name, row in table.items():
        print(f"{name:14}" + "".join(f"{count:12}" for count in row))
    print(f"calls out of answers that hold none or were cut: {unfinished}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
