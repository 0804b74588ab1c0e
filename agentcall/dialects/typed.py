"""How the model is told what type its final answer has."""

from __future__ import annotations

import json

from agentcall.dialects.protocol import PromptSpec


def append_answer_format(prompt: PromptSpec) -> str:
    """The instructions, with the JSON Schema of a typed answer behind them."""
    if prompt.answer_schema is None:
        return prompt.instructions
    schema = json.dumps(prompt.answer_schema, ensure_ascii=False)
    notice = (
        "When you give your final answer, write only one JSON value, without any other text, "
        f"that matches this JSON Schema:\n{schema}"
    )
    return f"{prompt.instructions}\n\n{notice}" if prompt.instructions else notice
