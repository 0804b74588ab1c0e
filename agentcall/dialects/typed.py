"""How the model is told what type its final answer has."""

from __future__ import annotations

import json

from agentcall.dialects.protocol import Offer


def with_answer_format(offer: Offer) -> str:
    """The instructions, with the JSON Schema of a typed answer behind them."""
    if offer.answer is None:
        return offer.instructions
    schema = json.dumps(offer.answer, ensure_ascii=False)
    told = (
        "When you give your final answer, write only one JSON value, without any other text, "
        f"that matches this JSON Schema:\n{schema}"
    )
    return f"{offer.instructions}\n\n{told}" if offer.instructions else told
