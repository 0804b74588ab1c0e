"""Models that think: how servers turn it on and off, and where they read earlier thinking.

Thinking is switched by the chat template of a model, so most servers take it as variables of the
template; families call the variable `enable_thinking` or `thinking`, and templates ignore those
that they do not know. The thinking that led to calls is sent back with them: the templates of
models that think between calls render it, others drop it, and each decides how far back. So all of
it is sent, and not only that since the last question: Qwen3.8 and GLM-4.7 keep earlier thinking,
and DeepSeek's API refuses a conversation without it.

Facts, by where they were read:

- vLLM, `entrypoints/chat_utils.py`: a message's `reasoning`, but no longer its `reasoning_content`
  (issue 38488); before 0.12 it was `reasoning_content`. `chat_template_kwargs`.
- SGLang, `entrypoints/openai/protocol.py`: `reasoning_content` alone is part of a message.
  `chat_template_kwargs`. `serving_chat.py`: gpt-oss does not support the effort "none".
- llama.cpp, pull request 18994: `reasoning_content`. tools/server/README.md:
  `chat_template_kwargs`, which also have gpt-oss' `reasoning_effort`.
- LMDeploy, `serve/openai/protocol.py`: messages reach the template as they are;
  docs/en/llm/api_server_reasoning.md: `reasoning_content`. `chat_template_kwargs` since 0.11.1.
- Ollama, openai/openai.go: `reasoning`; `reasoning_effort`, "none" turns thinking off.
- Templates with `reasoning_content` within the turn: Qwen3 to 3.8, GLM-4.5 and later,
  Kimi-K2-Thinking, MiniMax-M2 (its card: do not remove the thinking), DeepSeek-V3.2 and V4
  (api-docs.deepseek.com, thinking mode: 400 without it).
- gpt-oss, cookbook.openai.com, raw chain of thought: has to come back until there is an answer;
  its template raises for text beside it (`calls with thinking, without text` in adaptations.py).
- DeepSeek-R1 and QwQ: their templates cut thinking out of earlier messages, and the API of R1
  refused `reasoning_content`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from agentcall.dialects.dialect import Dialect
from agentcall.dialects.native import NativeDialect
from agentcall.messages import JSON

THINKING_KEYS = {
    "vllm": ("reasoning", "reasoning_content"),
    "ollama": ("reasoning",),
    "sglang": ("reasoning_content",),
    "llama.cpp": ("reasoning_content",),
    "lmdeploy": ("reasoning_content",),
}
"""Where servers read a message's thinking; any other server is sent both."""

_ALL_KEYS = ("reasoning_content", "reasoning")
_WITHOUT_HISTORY = r"deepseek[-_.]?r1|deepseek[-_.]reasoner[-_.]r1|(?<![a-z])qwq(?![a-z])"
_HARMONY = r"gpt[-_]?oss"


def set_thinking_keys(dialect: Dialect, server: str, model: str) -> Dialect:
    """Return the dialect that sends thinking back as this model on this kind of server reads it."""
    if not isinstance(dialect, NativeDialect):
        return dialect
    keys = THINKING_KEYS.get(server, _ALL_KEYS)
    if re.search(_WITHOUT_HISTORY, model, re.IGNORECASE):
        keys = ()
    return dialect if keys == dialect.thinking_keys else replace(dialect, thinking_keys=keys)


def force_thinking(dialect: Dialect, *, sends: bool) -> Dialect:
    """Return the dialect that sends all thinking back, or none."""
    if not isinstance(dialect, NativeDialect):
        return dialect
    keys = (dialect.thinking_keys or _ALL_KEYS) if sends else ()
    return replace(dialect, thinking_keys=keys, sends_all_thinking=sends)


def switch_thinking(
    fields: dict[str, JSON], thinking: bool | None, server: str, model: str
) -> dict[str, JSON]:
    """Return the fields of a request with what turns the model's thinking on or off.

    thinking: None leaves it to the server, and only passes `reasoning_effort` on to a template.
    Variables of the template that the caller gives in `extra_body` are kept.
    """
    fields = dict(fields)
    variables: dict[str, JSON] = {}
    is_harmony = re.search(_HARMONY, model, re.IGNORECASE) is not None
    if is_harmony or server == "ollama":
        if thinking is False:  # gpt-oss always thinks
            fields["reasoning_effort"] = "low" if is_harmony else "none"
        elif thinking:
            fields.setdefault("reasoning_effort", "medium")
    elif thinking is not None:
        variables = {"enable_thinking": thinking, "thinking": thinking}
        if not thinking:
            fields.pop("reasoning_effort", None)
    if is_harmony and server == "llama.cpp" and "reasoning_effort" in fields:
        variables["reasoning_effort"] = fields["reasoning_effort"]
    given = fields.get("chat_template_kwargs")
    if variables:
        fields["chat_template_kwargs"] = variables | (given if isinstance(given, dict) else {})
    return fields
