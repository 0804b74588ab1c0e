r"""InternLM2 and 2.5 in raw mode: the plugin protocol is written into the messages.

Template: InternLM/InternLM chat/chat_format.md (InternLM2-Chat with plugins): the tools in
`<|im_start|>system name=<|plugin|>`, a call as
`<|action_start|><|plugin|>\n{"name": ..., "parameters": {...}}<|action_end|>`, its result in
`<|im_start|>environment name=<|plugin|>`. LMDeploy since 0.10 renders messages with the model's
own Jinja template, which supports neither tools nor `name` but copies any role verbatim: so the
name is part of the role. Before 0.10 the name is a field of its own.

All text from outside is escaped, arguments and tool descriptions included: here they become text
of the prompt, and a special token in them would end the turn.

`tool_choice: none` and `skip_special_tokens: false` keep every version from parsing or stripping
the call. The stop words are sent again, as a client's replace those of the template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentcall.dialects.dialect import (
    DialectReader,
    JSONObject,
    PromptSpec,
    RequestPrelude,
    ToolChoice,
)
from agentcall.dialects.native import (
    NativeReader,
    append_answer_format,
    append_tool_choice,
    constrain_answer,
)
from agentcall.dialects.prompt_safety import (
    escape_special_tokens,
    render_result_text,
    render_user_message,
)
from agentcall.messages import (
    Assistant,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    system_to_json,
    to_json,
)

DEFAULT_SYSTEM = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI"
    " Laboratory (上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the"
    " user such as English and 中文."
)
"""The system prompt that InternLM2 was trained with (LMDeploy 0.5.3 model.py, InternLM2Chat7B)."""


@dataclass(frozen=True, slots=True)
class InternLMDialect:
    """The plugin protocol, with the spelling of its two roles.

    `plugin` heads the message with the tools, `environment` the one with a result.
    """

    name: str = "internlm"
    plugin: JSONObject = field(
        hash=False, default_factory=lambda: {"role": "system name=<|plugin|>"}
    )
    environment: JSONObject = field(
        hash=False, default_factory=lambda: {"role": "environment name=<|plugin|>"}
    )

    def create_prelude(self, prompt: PromptSpec, tool_choice: ToolChoice) -> RequestPrelude:
        """Return the system message, a message with the tools, and the fields of raw mode."""
        instructions = append_tool_choice(
            append_answer_format(prompt) or DEFAULT_SYSTEM, prompt, tool_choice
        )
        messages: list[JSONObject] = [system_to_json(instructions)]
        if prompt.tools:
            functions = [tool.definition["function"] for tool in prompt.tools]
            encoded = json.dumps(functions, ensure_ascii=False)
            messages.append({**self.plugin, "content": escape_special_tokens(encoded)})
        fields = {**_RAW_MODE_FIELDS, **constrain_answer(prompt, tool_choice)}
        return RequestPrelude(tuple(messages), fields)

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[JSONObject]:
        """Render a message: calls as text, results as messages of the environment."""
        match message:
            case Assistant():
                calls = "\n".join(map(format_call, message.calls))
                return [
                    {"role": "assistant", "content": escape_special_tokens(message.text) + calls}
                ]
            case ToolResult():
                return [{**self.environment, "content": render_result_text(message)}]
            case User():
                return [to_json(render_user_message(message))]
            case System():
                return [system_to_json(message.text)]

    def create_reader(self, prompt: PromptSpec) -> DialectReader:
        """Create a reader of action blocks, and of native calls if the server did parse them."""
        return NativeReader(prompt.tools, "internlm")


_RAW_MODE_FIELDS: JSONObject = {
    "tool_choice": "none",
    "stop": ["<|im_end|>", "<|action_end|>"],
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
}

INTERNLM = InternLMDialect()
"""The spelling for LMDeploy 0.10 and later, and for servers that use the model's Jinja template."""

INTERNLM_NAMED = InternLMDialect(
    name="internlm-named",
    plugin={"role": "system", "name": "plugin"},
    environment={"role": "environment", "name": "plugin"},
)
"""The spelling for LMDeploy before 0.10, which knows the roles and takes the name as a field."""


def format_call(call: ToolCall) -> str:
    """Format a call as the model writes it."""
    name = json.dumps(call.name, ensure_ascii=False)
    payload = escape_special_tokens(f'{{"name": {name}, "parameters": {call.arguments}}}')
    return f"<|action_start|><|plugin|>\n{payload}<|action_end|>"
