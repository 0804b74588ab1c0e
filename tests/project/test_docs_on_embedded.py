"""The README and the tutorial on the embedded model: its answers are the printed ones.

The words of a model vary with the processor, so what an answer has to say is checked, in the
comment below the code and in the output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
OUTPUT = re.compile(r"^# (.*)$", re.MULTILINE)
NO_COAT = r"not need|n't need|not necessary"

ANSWERS = {
    "README.md": {
        "Agent(tools=[weather])\nprint(agent.run_sync(": NO_COAT,
        "What does my note on Paris say?": r"bring a map.* 1$",
        "Where is the Eiffel Tower?": r"^Paris",
        "asyncio.run(watch())": NO_COAT,
        "Tell Ann that": r"approval .*Ann.*ten",
        'run_id="oslo"': NO_COAT,
        "Where do I go?": r"Oslo",
    },
    "docs/tutorial.md": {
        'instructions="You serve in a shop': r"3\.2",
        "messages=first.messages": r"0\.50? ?EUR.*\b1\.50?\b",
        "session=session": r"\b1\.50?\b",
        "Where is the Eiffel Tower?": r"Paris",
        "Tell Ann that": r"Ann.*ten",
    },
}
"""What the output of a block has to say, by a piece of its code."""


def find_blocks(page: str) -> Iterator[str]:
    return (match[1] for match in BLOCK.finditer((ROOT / page).read_text("utf-8")))


def find_answer(page: str, block: str) -> str | None:
    return next((answer for code, answer in ANSWERS[page].items() if code in block), None)


def is_said(answer: str, output: str) -> bool:
    return re.search(answer, " ".join(output.split()), re.IGNORECASE) is not None


@pytest.mark.parametrize("page", ANSWERS)
def test_the_examples_of_a_page_say_what_is_printed_below_them(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTCALL_MODEL", "embedded")
    namespace: dict[str, object] = {"__name__": "docs"}
    checked = 0
    for block in find_blocks(page):
        exec(compile(block, page, "exec"), namespace)
        output = capsys.readouterr().out
        answer = find_answer(page, block)
        if answer is not None:
            printed = "\n".join(OUTPUT.findall(block))
            assert is_said(answer, printed), f"{page} prints {printed!r} below:\n{block}"
            assert is_said(answer, output), f"{output!r} is the output of:\n{block}"
            checked += 1
    assert checked >= len(ANSWERS[page])
