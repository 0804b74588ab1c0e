"""InternLM's own prompt format for tools, as a table (InternLM/InternLM, chat/chat_format.md)."""

import json
from collections.abc import Iterable, Mapping

TURNS = {
    "system": "<|im_start|>system\n{}<|im_end|>\n",
    "tools": "<|im_start|>system name=<|plugin|>\n{}<|im_end|>\n",
    "user": "<|im_start|>user\n{}<|im_end|>\n",
    "assistant": "<|im_start|>assistant\n{}<|im_end|>\n",
    "result": "<|im_start|>environment name=<|plugin|>\n{}<|im_end|>\n",
}
BEGIN = "<s>"
ANSWER = "<|im_start|>assistant\n"
CALL = "<|action_start|><|plugin|>\n{}<|action_end|>"


def prompt(turns: Iterable[tuple[str, str]]) -> str:
    """The whole prompt of turns, each a key of TURNS and its text."""
    return BEGIN + "".join(TURNS[kind].format(text) for kind, text in turns) + ANSWER


def call(name: str, parameters: Mapping[str, object]) -> str:
    """A call as the model writes it, after its thought in the same turn."""
    payload = {"name": name, "parameters": parameters}
    return CALL.format(json.dumps(payload, ensure_ascii=False))
