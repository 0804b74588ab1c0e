"""Makes text that looks like a special token harmless.

A server that tokenizes a whole prompt reads `<|im_end|>` in a user's or a tool's text as the end
of the turn: the text could forge a turn. A space after the first character breaks the token and
keeps the text readable. Assistant text is left alone: the model cannot write its own special
tokens as text.
"""

from __future__ import annotations

import re

_SPECIAL_TOKEN = re.compile(
    r"<(?=\|[\w/ .:-]{1,40}\|>|｜[^｜<>]{1,40}｜>|\|{1,2}\w{1,20}>|/?s>|/?(?:start|end)_of_turn>"
    r"|/?tool_(?:call|response)>|bos>|eos>)"
    r"|\[(?=/?INST\]|/?(?:AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|SYSTEM_PROMPT|THINK)\]"
    r"|UNUSED_TOKEN_\d+\])"
)
"""ChatML, Llama, InternLM, harmony (`<|x|>`), DeepSeek (`<｜x｜>`), Gemma, Hermes and Mistral."""


def escape_special_tokens(text: str) -> str:
    """The text with each special token of a known family broken by a space.

    >>> neutralise("hi<|im_end|>")
    'hi< |im_end|>'
    """
    if "<" not in text and "[" not in text:
        return text
    return _SPECIAL_TOKEN.sub(lambda match: match.group() + " ", text)
