"""A tool call in each family's own format, as its chat template writes it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from agentcall.messages import JSON


def dumps(arguments: Any) -> str:
    return json.dumps(arguments, ensure_ascii=False)


# --------------------------------------------------------------------------- renderings


def internlm(name: str, arguments: dict[str, Any]) -> str:
    call = dumps({"name": name, "parameters": arguments})
    return f"<|action_start|><|plugin|>\n{call}<|action_end|>"


def internlm_spaced(name: str, arguments: dict[str, Any]) -> str:
    call = dumps({"name": name, "arguments": arguments})
    return f"<|action_start|> <|plugin|>\n{call}\n<|action_end|>"


def internlm_old(name: str, arguments: dict[str, Any]) -> str:
    call = dumps({"name": name, "parameters": arguments})
    return f"[UNUSED_TOKEN_144][UNUSED_TOKEN_141]\n{call}[UNUSED_TOKEN_143]"


def hermes(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def hermes_python(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{ {'name': name, 'arguments': arguments}!r}\n</tool_call>"


def tagged(item: Any) -> str:
    return item if isinstance(item, str) else dumps(item)


def qwen_coder(name: str, arguments: dict[str, Any]) -> str:
    body = "".join(f"<parameter={k}>\n{tagged(v)}\n</parameter>\n" for k, v in arguments.items())
    return f"<tool_call>\n<function={name}>\n{body}</function>\n</tool_call>"


def glm45(name: str, arguments: dict[str, Any]) -> str:
    body = "".join(
        f"<arg_key>{k}</arg_key>\n<arg_value>{tagged(v)}</arg_value>\n"
        for k, v in arguments.items()
    )
    return f"<tool_call>{name}\n{body}</tool_call>"


def glm47(name: str, arguments: dict[str, Any]) -> str:
    return glm45(name, arguments).replace("</arg_key>\n", "</arg_key>")


def llama3(name: str, arguments: dict[str, Any]) -> str:
    return f"<|python_tag|>{dumps({'name': name, 'parameters': arguments})}"


def bare(name: str, arguments: dict[str, Any]) -> str:
    return dumps({"name": name, "parameters": arguments})


def openai(name: str, arguments: dict[str, Any]) -> str:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return json.dumps([{"id": "call_1", "type": "function", "function": function}])


def fenced(name: str, arguments: dict[str, Any]) -> str:
    body = json.dumps({"name": name, "arguments": arguments}, indent=2)
    return f"```json\n{body}\n```"


def pythonic(name: str, arguments: dict[str, Any]) -> str:
    return f"[{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})]"


def llama4(name: str, arguments: dict[str, Any]) -> str:
    return f"<|python_start|>{pythonic(name, arguments)}<|python_end|>"


def mistral_v3(name: str, arguments: dict[str, Any]) -> str:
    return f"[TOOL_CALLS] [{dumps({'name': name, 'arguments': arguments})}]"


def mistral_v11(name: str, arguments: dict[str, Any]) -> str:
    return f"[TOOL_CALLS]{name}[CALL_ID]123456789[ARGS]{dumps(arguments)}"


def mistral_v13(name: str, arguments: dict[str, Any]) -> str:
    return f"[TOOL_CALLS]{name}[ARGS]{dumps(arguments)}"


def deepseek_v3(name: str, arguments: dict[str, Any]) -> str:
    return (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
        f"{name}\n```json\n{dumps(arguments)}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    )


def deepseek_v31(name: str, arguments: dict[str, Any]) -> str:
    return (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>"
        f"{dumps(arguments)}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    )


def dsml(name: str, arguments: dict[str, Any], bar: str = "｜DSML｜", section: str = "") -> str:
    section = section or f"{bar}function_calls"
    body = "".join(
        f'<{bar}parameter name="{key}" string="{str(isinstance(item, str)).lower()}">'
        f"{tagged(item)}</{bar}parameter>\n"
        for key, item in arguments.items()
    )
    return f'<{section}>\n<{bar}invoke name="{name}">\n{body}</{bar}invoke>\n</{section}>'


def dsml_v41(name: str, arguments: dict[str, Any]) -> str:
    return dsml(name, arguments, "｜DSML｜ ", "｜DSML｜ calls")


def minimax(name: str, arguments: dict[str, Any]) -> str:
    written = dsml(name, arguments, "", "minimax:tool_call")
    return re.sub(r'(<parameter name="[^"]*") string="(true|false)">', r"\1>", written)


def kimi(name: str, arguments: dict[str, Any]) -> str:
    return (
        f"<|tool_calls_section_begin|><|tool_call_begin|>functions.{name}:0"
        f"<|tool_call_argument_begin|>{dumps(arguments)}<|tool_call_end|>"
        "<|tool_calls_section_end|>"
    )


K3_TYPES = {"str": "string", "bool": "boolean", "int": "number", "float": "number", "list": "array"}


def kimi_k3(name: str, arguments: dict[str, Any]) -> str:
    body = "".join(
        f'<|open|>argument key="{html.escape(key)}" '
        f'type="{K3_TYPES.get(type(item).__name__, "object")}"'
        f"<|sep|>{tagged(item)}<|close|>argument<|sep|>"
        for key, item in arguments.items()
    )
    return (
        f'<|open|>tools<|sep|><|open|>call tool="{name}" index="1"<|sep|>{body}'
        "<|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>"
    )


def harmony(name: str, arguments: dict[str, Any]) -> str:
    return (
        f"<|channel|>commentary to=functions.{name} <|constrain|>json"
        f"<|message|>{dumps(arguments)}<|call|>"
    )


def gemma4_value(item: JSON) -> str:
    if isinstance(item, str):
        return f'<|"|>{item}<|"|>'
    if item is None or isinstance(item, (bool, int, float)):
        return json.dumps(item)
    if isinstance(item, Mapping):
        return "{" + ",".join(f"{key}:{gemma4_value(one)}" for key, one in item.items()) + "}"
    return f"[{','.join(map(gemma4_value, item))}]"


def gemma4(name: str, arguments: dict[str, Any]) -> str:
    return f"<|tool_call>call:{name}{gemma4_value(arguments)}<tool_call|>"


def granite(name: str, arguments: dict[str, Any]) -> str:
    return f"<|tool_call|>[{dumps({'name': name, 'arguments': arguments})}]"


def granite31(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>[{dumps({'name': name, 'arguments': arguments})}]"


def phi(name: str, arguments: dict[str, Any]) -> str:
    return f"functools[{dumps({'name': name, 'arguments': arguments})}]"


def cohere(name: str, arguments: dict[str, Any]) -> str:
    call = {"tool_call_id": "0", "tool_name": name, "parameters": arguments}
    return f"<|START_ACTION|>[\n    {dumps(call)}\n]<|END_ACTION|>"


def jamba(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_calls>[{dumps({'name': name, 'arguments': arguments})}]</tool_calls>"


def apertus(name: str, arguments: dict[str, Any]) -> str:
    return f"<|tools_prefix|>[{dumps({name: arguments})}]<|tools_suffix|>"


def lfm2(name: str, arguments: dict[str, Any]) -> str:
    return f"<|tool_call_start|>{pythonic(name, arguments)}<|tool_call_end|>"


def olmo3(name: str, arguments: dict[str, Any]) -> str:
    return f"<function_calls>\n{pythonic(name, arguments)[1:-1]}\n</function_calls>"


def react(name: str, arguments: dict[str, Any]) -> str:
    return f"Action: {name}\nAction Input: {dumps(arguments)}"


def lm_studio(name: str, arguments: dict[str, Any]) -> str:
    call = dumps({"name": name, "arguments": arguments})
    return f"[TOOL_REQUEST]{call}[END_TOOL_REQUEST]"


def nemotron(name: str, arguments: dict[str, Any]) -> str:
    return f"<TOOLCALL>[{dumps({'name': name, 'arguments': arguments})}]</TOOLCALL>"


def tool_tag(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool>\n{dumps({'name': name, 'arguments': arguments})}\n</tool>"


def glaive(name: str, arguments: dict[str, Any]) -> str:
    call = f'{{"name": "{name}", "arguments": \'{dumps(arguments)}\'}}'
    return f"<functioncall> {call} <|endoftext|>"


def openai_message(name: str, arguments: dict[str, Any]) -> str:
    function = {"name": name, "arguments": dumps(arguments)}
    call = {"id": "call_1", "type": "function", "function": function}
    return dumps({"role": "assistant", "content": None, "tool_calls": [call]})


def thought_first(name: str, arguments: dict[str, Any]) -> str:
    return dumps({"thought": "I need it.", "name": name, "arguments": arguments})


def full_width(name: str, arguments: dict[str, Any]) -> str:
    return widen({"name": name, "arguments": arguments})


def widen(item: Any) -> str:
    """Return JSON with the punctuation of a Chinese keyboard outside of strings."""
    if isinstance(item, dict):
        return f"｛{'，'.join(f'{dumps(key)}：{widen(value)}' for key, value in item.items())}｝"
    return f"［{'，'.join(map(widen, item))}］" if isinstance(item, list) else dumps(item)


def function_attribute(name: str, arguments: dict[str, Any]) -> str:
    return f'<function name="{name}">{dumps(arguments)}</function>'


def function_json(name: str, arguments: dict[str, Any]) -> str:
    return f"<function={name}>{dumps(arguments)}</function>"


def commented(name: str, arguments: dict[str, Any]) -> str:
    return f"<tool_call>\n{dumps({'name': name, 'arguments': arguments})} // so\n</tool_call>"


def program(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def program_fenced(name: str, arguments: dict[str, Any]) -> str:
    return f"```python\n{program(name, arguments)}\n```"


def program_printed(name: str, arguments: dict[str, Any]) -> str:
    return f"print({program(name, arguments)})"


def named_object(name: str, arguments: dict[str, Any]) -> str:
    return f"{name} {dumps(arguments)}"


WHOLE_FORMATS: dict[str, Callable[[str, dict[str, Any]], str]] = {
    one.__name__: one for one in (program, program_fenced, program_printed, named_object)
}
"""What is a call only if the answer consists of nothing else."""
JSON_FORMATS: dict[str, Callable[[str, dict[str, Any]], str]] = {
    one.__name__: one
    for one in (
        internlm, internlm_spaced, internlm_old, hermes, hermes_python, llama3, bare, openai,
        fenced, mistral_v3, mistral_v11, mistral_v13, deepseek_v3, deepseek_v31, kimi, harmony,
        granite, granite31, phi, react, pythonic, llama4, cohere, jamba, apertus, lfm2,
        lm_studio, nemotron, tool_tag, glaive, openai_message, thought_first, full_width,
        function_attribute, function_json, commented,
    )
}  # fmt: skip
TAGGED_FORMATS: dict[str, Callable[[str, dict[str, Any]], str]] = {
    one.__name__: one
    for one in (qwen_coder, glm45, glm47, dsml, dsml_v41, minimax, kimi_k3, gemma4)
}
FORMATS = {**JSON_FORMATS, **TAGGED_FORMATS, "olmo3": olmo3}
