from __future__ import annotations

import re
from pathlib import Path

from agentcall.runtime import prompts

RUNTIME = Path(prompts.__file__).parent
SENTENCES = [name for name in vars(prompts) if re.match("format_|[A-Z]+_?[A-Z_]*$", name)]


def test_every_sentence_is_used() -> None:
    others = [file for file in RUNTIME.parent.rglob("*.py") if file.name != "prompts.py"]
    source = "\n".join(file.read_text("utf-8") for file in others)
    assert [name for name in SENTENCES if not re.search(rf"\b{name}\b", source)] == []


def test_a_result_without_content_leaves_no_gap() -> None:
    assert prompts.format_person_denial("").startswith("A person refused this call. It was not")
    assert prompts.format_policy_denial("no").startswith("This call is not allowed: no. It was not")
    assert prompts.format_no_answer("loop", "why", "") == "No answer (loop): why."
    assert prompts.format_handoff_description("billing", "") == (
        "Hand the conversation over to billing, who continues it."
    )


def test_what_a_malformed_call_quotes_is_short() -> None:
    message = prompts.format_malformed_call("it was cut", "x" * 5_000, ["add", "find"])
    assert "x" * 1_000 in message
    assert "x" * 1_001 not in message
    assert message.endswith("The tools are: add, find.")
