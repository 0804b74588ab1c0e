"""One JSON object per turn, constrained to a schema by the server: a plan, a call, or the answer.

For small models, and for servers whose own tool calling fails but which support
`response_format: json_schema` (llama.cpp, LMDeploy since 0.10.2, vLLM).

    {"plan": "a = price('tea'); answer = mul(3, a)"}        the calls that the task needs, as Python
    {"name": "mul", "arguments": {"a": 3, "b": 4}}          one call, constrained to its schema
    {"answer": "They cost 12 dollars."}                     the answer, of the requested type
    {"chat": "You are welcome!"}                            an answer to words that ask for no facts

Rules:
1. Calls of a plan that need no results are made at once. Below the results follows the next call
   with the results inserted: the model only has to copy it, and may do otherwise. A sentence or an
   error is never inserted: there the model chooses the argument. Below the last result the
   question is repeated.
2. `name` precedes `arguments`, so that the model first chooses a tool and is then bound to it.
3. The answer after the last result of a plan is written as plain text in a conversation of its own:
   the results, then the question. Asked to say first what the results say, a small model judges
   them far better ("Do I need a coat?") than inside a constrained object, below examples of calls.
   An answer of a requested type is an object all the same.
4. The first object of an answer counts, and objects with further calls right after it. What follows
   is a weak model's imagination of the next turns. Text that is not an object is read as text.
5. A plan is the thinking of its message, so that it is saved wherever the conversation is.
6. The `$defs` of a tool move to the root, under unique names: a `$ref` is resolved from the root.
7. No `pattern` of a tool is sent: grammar engines support a subset of regular expressions and
   reject a request with any other (llama.cpp requires both anchors). The tool validates it.

Measured on Qwen2.5-Coder-1.5B: calls alone solve half of the multi-step questions, and a free field
for thoughts made it worse; docs/embedded.md has the figures. Tools are shown as signatures,
`- add(a: integer, b?: integer): Add two numbers.`, which a small model reads better than JSON and
which take a third of the tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentcall.dialects.constrained.call_expression import (
    CompletedStep,
    PlanStep,
    RemainingPlan,
    build_plan_pattern,
    parse_plan,
)
from agentcall.dialects.constrained.parser import ConstrainedReader
from agentcall.dialects.dialect import (
    DialectReader,
    JSONObject,
    PromptSpec,
    RequestPrelude,
    ToolChoice,
)
from agentcall.dialects.prompt_safety import (
    escape_special_tokens,
    render_result_text,
    render_user_message,
)
from agentcall.messages import (
    JSON,
    Assistant,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    format_json,
    system_to_json,
    to_json,
)
from agentcall.tools.retry import says_try_again
from agentcall.tools.schema import format_shape
from agentcall.tools.tool import Tool

MAX_QUESTION_LENGTH = 300
"""How much of the question is repeated below the last result (characters)."""
_TOOLS_PROMPT = """\
You solve the user's task with tools:
{tools}
Reply with one JSON object, one of:
{{"plan": "..."}}: first, all the calls that the task needs, conversions too, as Python
{{"name": ..., "arguments": {{...}}}}: the next call of the plan
{{"answer": {answer}}}: the words to the user, when nothing is left to call
{chat}Facts come from tools, never from memory or from the examples.

Examples with other tools:
{greeting}User: How many pounds do 3 harps and 2 gongs weigh?
{{"plan": "a = times(3, kilos_of('harp')); b = times(2, kilos_of('gong')); answer = \
kilos_to_pounds(plus(a, b))"}}
kilos_of("harp") = 37
kilos_of("gong") = 26
Next: times(3, 37)
{{"name": "times", "arguments": {{"x": 3, "y": 37}}}}
...
kilos_to_pounds(163) = 359.4
Done. Answer the user, who said: How many pounds do 3 harps and 2 gongs weigh?
{{"answer": "They weigh 359.4 pounds."}}
User: And one gong?
{{"plan": "answer = kilos_to_pounds(kilos_of('gong'))"}}
...
{{"answer": "One gong weighs 57.3 pounds."}}
User: Which moon is wider, Rhea or Titan?
{{"plan": "a = width_of('Rhea'); b = width_of('Titan'); answer = a, b"}}
width_of("Rhea") = 1528
width_of("Titan") = 5150
Done. Answer the user, who said: Which moon is wider, Rhea or Titan?
{{"answer": "5150 > 1528, so Titan is wider."}}
{thanks}"""
"""Its tools and values are far from what users ask about, as a small model repeats the examples."""
_FINAL_TOOLS_PROMPT = """\
You do the user's task with tools:
{tools}
Reply with one JSON object, one of:
{{"plan": "..."}}: first, all the calls that the task needs, conversions too, as Python
{{"name": ..., "arguments": {{...}}}}: the next call of the plan
The last call is one of {final}: it ends the task, and nothing else does.
Facts come from tools, never from memory or from the examples.

Examples with other tools, of which hand_in is the last call:
User: How many pounds do 3 harps and 2 gongs weigh?
{{"plan": "a = times(3, kilos_of('harp')); b = times(2, kilos_of('gong')); answer = \
hand_in(kilos_to_pounds(plus(a, b)))"}}
kilos_of("harp") = 37
kilos_of("gong") = 26
Next: times(3, 37)
{{"name": "times", "arguments": {{"x": 3, "y": 37}}}}
...
kilos_to_pounds(163) = 359.4
Next: hand_in(359.4)
{{"name": "hand_in", "arguments": {{"result": 359.4}}}}
User: Which moon is wider, Rhea or Titan?
{{"plan": "a = width_of('Rhea'); b = width_of('Titan'); answer = a, b"}}
width_of("Rhea") = 1528
width_of("Titan") = 5150
{done} Which moon is wider, Rhea or Titan?
{{"name": "hand_in", "arguments": {{"result": "Titan"}}}}
"""
_CHAT_FORM = '{"chat": "..."}: at once, only for greetings and thanks\n'
_GREETING_EXAMPLE = """\
User: Hi! What can you do?
{"chat": "I can look things up with my tools. How can I help you?"}
"""
_THANKS_EXAMPLE = """\
User: Thanks a lot!
{"chat": "You are welcome!"}
"""
_INSTRUCTIONS_NOTICE = "\nThe style of your words; look every fact up all the same: "
"""Precedes the user's instructions, which keep a small model from calling otherwise."""
_ANSWER_INSTRUCTIONS = "You are a helpful assistant."
_ANSWER_PROMPT = """\
These are the results of the lookups:
{results}

Use them to answer: {question}
Say first what the results say, then what follows from it."""
_CHINESE_ANSWER_PROMPT = """\
查询结果:
{results}

请根据这些结果回答: {question}
先说结果是什么, 再说由此得出的答案。"""
_FOLLOW_UP_PROMPT = """\
{earlier}
Now the user asks: {question}

These are the results of the lookups:
{results}

Answer what the user asks now. Say first what the results say, then what follows from it, \
computed step by step."""
_CHINESE_NOTICE = " 用中文回答。"
_CORRECTION = "Read the failure: call again with a value that it allows, not the same one."
_REPEAT = "Make the same call again."
_OWN_REFUSAL = "Not called: "
"""How the words of the runtime begin that say which call comes first."""
_ANSWER_STEP = "Done. Answer the user, who said:"
_FINAL_STEP = "Done. Now the last call, for what the user said:"
_REPETITION = "You had called this before. Write no plan again, but the next call with its name."
_CHINESE = re.compile("[\u4e00-\u9fff]")
MAX_EARLIER_MESSAGES = 4
"""How many messages before the question are repeated above the results."""
_NO_TOOLS_PROMPT = 'Reply with one JSON object: {{"answer": {answer}}}\n'


@dataclass(frozen=True, slots=True)
class ConstrainedDialect:
    """The dialect that this module describes."""

    name: str = "constrained"
    is_final: bool = False

    @property
    def ending_by_call(self) -> ConstrainedDialect:
        """The dialect for a run that ends with a call: no object of it is an answer."""
        return _ENDING_BY_CALL

    def create_prelude(self, prompt: PromptSpec, tool_choice: ToolChoice) -> RequestPrelude:
        """Return the signatures, examples and instructions, and the turn's schema as a field."""
        if not prompt.tools and prompt.answer_schema is None:
            system = [system_to_json(prompt.instructions)] if prompt.instructions else []
            return RequestPrelude(tuple(system))
        is_typed = prompt.answer_schema is not None
        form = _FINAL_TOOLS_PROMPT if prompt.final else _TOOLS_PROMPT
        task = (form if prompt.tools else _NO_TOOLS_PROMPT).format(
            final=" or ".join(prompt.final),
            done=_FINAL_STEP,
            tools="\n".join(map(format_signature, prompt.tools)),
            answer=format_answer_type(prompt.answer_schema),
            chat="" if is_typed else _CHAT_FORM,
            greeting="" if is_typed else _GREETING_EXAMPLE,
            thanks="" if is_typed else _THANKS_EXAMPLE,
        )
        instructions = f"{task}{_INSTRUCTIONS_NOTICE}{prompt.instructions}"
        if not prompt.instructions:
            instructions = task
        elif not prompt.tools:
            instructions = f"{task}\n{prompt.instructions}"
        schema: JSON = {
            "name": "turn",
            "strict": True,
            "schema": build_turn_schema(prompt, tool_choice),
        }
        fields: JSONObject = {"response_format": {"type": "json_schema", "json_schema": schema}}
        return RequestPrelude((system_to_json(instructions),), fields)

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[JSONObject]:
        """Render the model's objects as written, and the results of a round as one user message."""
        if isinstance(message, ToolResult):
            return _render_results(message, before, _FINAL_STEP if self.is_final else _ANSWER_STEP)
        open_round: list[JSONObject] = []
        if _is_round_open(_find_round(before)):
            open_round = _create_user_message(_format_results(_find_round(before), before))
        match message:
            case Assistant(calls=()):
                answer = _format_answer(message.text, before)
                return [*open_round, _create_assistant_message(answer)]
            case Assistant():
                return [*open_round, _create_assistant_message(_format_calls(message))]
            case User():
                return [*open_round, to_json(render_user_message(message))]
            case System():
                return [*open_round, system_to_json(message.text)]

    def start_answer(
        self, prompt: PromptSpec, messages: Sequence[Message]
    ) -> tuple[PromptSpec, Sequence[Message]] | None:
        """Return the conversation for the plain answer of a plan whose calls are all made."""
        if prompt.answer_schema is not None or not prompt.tools or not prompt.may_answer:
            return None
        if not _is_plan_done(messages):
            return None
        return _create_answer_conversation(prompt, messages)

    def create_reader(self, prompt: PromptSpec) -> DialectReader:
        """Create a reader of the turn's object, or of text if nothing was constrained."""
        return ConstrainedReader(prompt)


CONSTRAINED = ConstrainedDialect()
_ENDING_BY_CALL = ConstrainedDialect(is_final=True)


# Messages of the model.


def _create_assistant_message(content: str) -> JSONObject:
    return {"role": "assistant", "content": content}


def _format_answer(text: str, before: Sequence[Message]) -> str:
    """Format the object of an answer; a typed answer's text is JSON already."""
    value = _parse_value(text)
    if value == text and before and isinstance(before[-1], User):
        return f'{{"chat": {format_json(text)}}}'
    is_json = text[:1] in ("{", "[") and value != text
    return f'{{"answer": {text if is_json else format_json(text)}}}'


def _format_calls(message: Assistant) -> str:
    prefix = f"{message.text}\n" if message.text else ""
    if _is_plan_message(message):
        return f'{prefix}{{"plan": {format_json(message.thinking)}}}'
    return prefix + "\n".join(
        f'{{"name": {format_json(call.name)}, "arguments": {_format_arguments(call)}}}'
        for call in message.calls
    )


def _format_arguments(call: ToolCall) -> str:
    """Return arguments as JSON, also if a history has invalid ones."""
    is_json = _parse_value(call.arguments) != call.arguments
    return call.arguments if is_json else format_json(call.arguments)


def _is_plan_message(message: Assistant) -> bool:
    """Whether the thinking of a message is a plan, whose first calls it makes."""
    plan = parse_plan(message.thinking) if message.calls and message.thinking else None
    return plan is not None and [s.name for s in plan.list_ready()] == [
        c.name for c in message.calls
    ]


# Results of tools, and the next step of the plan.


@dataclass(frozen=True, slots=True)
class _ToolRound:
    """The calls of one assistant message and their results so far."""

    calls: tuple[ToolCall, ...]
    results: tuple[ToolResult, ...]


def _find_round(messages: Sequence[Message]) -> _ToolRound:
    """Return the round at the end of a conversation."""
    results: list[ToolResult] = []
    for message in reversed(messages):
        if isinstance(message, ToolResult):
            results.append(message)
            continue
        calls = message.calls if isinstance(message, Assistant) else ()
        return _ToolRound(calls, tuple(reversed(results)))
    return _ToolRound((), tuple(reversed(results)))


def _is_round_open(tool_round: _ToolRound) -> bool:
    """Whether some calls of the round have results and others wait."""
    answered = {result.call_id for result in tool_round.results}
    return bool(answered) and any(call.id not in answered for call in tool_round.calls)


def _render_results(
    message: ToolResult, before: Sequence[Message], last_step: str
) -> list[JSONObject]:
    """Render all results of a round with its last one, and the next step."""
    tool_round = _find_round([*before, message])
    if _is_round_open(tool_round):
        return []
    previous = _find_round(before)
    if previous.results and not _is_round_open(previous):
        tool_round = _ToolRound(tool_round.calls, (message,))
    return _create_user_message(
        _format_results(tool_round, before), *_format_next_step([*before, message], last_step)
    )


def _create_user_message(*lines: str) -> list[JSONObject]:
    return [{"role": "user", "content": "\n".join(lines)}]


def _format_results(tool_round: _ToolRound, before: Sequence[Message]) -> str:
    return "\n".join(_format_result(tool_round, result) for result in tool_round.results)


def _format_result(tool_round: _ToolRound, result: ToolResult) -> str:
    sign = "failed:" if result.is_error else "="
    call = next(
        (str(_to_plan_step(c)) for c in tool_round.calls if c.id == result.call_id), result.name
    )
    return f"{escape_special_tokens(call)} {sign} {render_result_text(result)}"


def _format_next_step(messages: Sequence[Message], last_step: str) -> list[str]:
    """Return the plan's next call, or the question; nothing without a plan, or if it was left.

    last_step: precedes the question, when nothing of the plan is left.
    """
    start, remaining = _find_remaining(messages)
    if remaining is None or (remaining.ready_steps and remaining.has_strays):
        return []
    if remaining.ready_steps:
        step = remaining.ready_steps[0]
        note = ", with ... taken from the results" if step.has_open_value else ""
        repeated = [_REPETITION] if _is_round_repeated(messages) else []
        return [*repeated, f"Next: {escape_special_tokens(str(step))}{note}"]
    if _has_failed_round(messages):
        failed = [result.text for result in _find_round(messages).results if result.is_error]
        if any(text.startswith(_OWN_REFUSAL) for text in failed):
            return []
        return [_REPEAT if any(map(says_try_again, failed)) else _CORRECTION]
    question = _find_question(messages[:start])
    short = question if len(question) <= MAX_QUESTION_LENGTH else question[:MAX_QUESTION_LENGTH]
    return [f"{last_step} {short}{'...' if short != question else ''}"]


def _find_remaining(messages: Sequence[Message]) -> tuple[int, RemainingPlan | None]:
    """Return where the last plan is, and what is left of it; None if there is none."""
    start = next(
        (i for i in reversed(range(len(messages))) if _is_plan_boundary(messages[i])), None
    )
    first = None if start is None else messages[start]
    plan = parse_plan(first.thinking) if isinstance(first, Assistant) and first.calls else None
    if plan is None or start is None:
        return 0, None
    return start, plan.get_remaining(_collect_steps(messages[start:]))


def _has_failed_round(messages: Sequence[Message]) -> bool:
    return any(result.is_error for result in _find_round(messages).results)


def _is_round_repeated(messages: Sequence[Message]) -> bool:
    """Whether each call of the last round was made before, for the same question."""
    made = [
        (call.name, call.arguments)
        for m in messages[_find_question_start(messages) :]
        if isinstance(m, Assistant)
        for call in m.calls
    ]
    last = _find_round(messages).calls
    before = made[: len(made) - len(last)]
    return bool(last) and all((call.name, call.arguments) in before for call in last)


def _is_plan_done(messages: Sequence[Message]) -> bool:
    """Whether the last message is the last result of a plan."""
    if not messages or not isinstance(messages[-1], ToolResult):
        return False
    if _is_round_open(_find_round(messages)) or _has_failed_round(messages):
        return False
    _, remaining = _find_remaining(messages)
    return remaining is not None and not remaining.ready_steps


def _create_answer_conversation(
    prompt: PromptSpec, messages: Sequence[Message]
) -> tuple[PromptSpec, Sequence[Message]]:
    """Return the instructions, the last words of both sides, the results and the question."""
    start = _find_question_start(messages)
    steps = {
        call.id: str(_to_plan_step(call))
        for m in messages[start:]
        if isinstance(m, Assistant)
        for call in m.calls
    }
    results = "\n".join(
        f"{escape_special_tokens(steps.get(m.call_id, m.name))} = {render_result_text(m)}"
        for m in messages[start:]
        if isinstance(m, ToolResult) and not m.is_error
    )
    question = _find_question(messages)
    earlier = [
        f"{'User' if isinstance(m, User) else 'You'}: {_shorten_message(m)}\n"
        for m in messages[:start]
        if isinstance(m, User) or (isinstance(m, Assistant) and not m.calls)
    ]
    is_chinese = _CHINESE.search(question) is not None
    if earlier:
        form = f"{_FOLLOW_UP_PROMPT}{_CHINESE_NOTICE if is_chinese else ''}"
    else:
        form = _CHINESE_ANSWER_PROMPT if is_chinese else _ANSWER_PROMPT
    text = form.format(
        earlier="".join(earlier[-MAX_EARLIER_MESSAGES:]), results=results, question=question
    )
    return PromptSpec(prompt.instructions or _ANSWER_INSTRUCTIONS), [User(text)]


def _shorten_message(message: User | Assistant) -> str:
    text = message.trusted_text if isinstance(message, User) else message.text
    return " ".join(text.split())[:MAX_QUESTION_LENGTH]


def _find_question_start(messages: Sequence[Message]) -> int:
    """Return the position of the question: after the last answer without calls."""
    answers = (i for i, m in enumerate(messages) if isinstance(m, Assistant) and not m.calls)
    after = max(answers, default=-1) + 1
    return next((i for i in range(after, len(messages)) if isinstance(messages[i], User)), after)


def _is_plan_boundary(message: Message) -> bool:
    """Whether the search for a plan stops here: at a plan, or at an answer."""
    return isinstance(message, Assistant) and (not message.calls or _is_plan_message(message))


def _collect_steps(messages: Sequence[Message]) -> list[CompletedStep]:
    steps = {
        call.id: _to_plan_step(call)
        for m in messages
        if isinstance(m, Assistant)
        for call in m.calls
    }
    results = [m for m in messages if isinstance(m, ToolResult) and m.call_id in steps]
    return [CompletedStep(steps[r.call_id], _parse_value(r.text), r.is_error) for r in results]


def _find_question(messages: Sequence[Message]) -> str:
    """Return the first of the last user messages in a row; the others report mistakes."""
    asked = ""
    for message in reversed(messages):
        if isinstance(message, User):
            asked = message.trusted_text
        elif asked:
            break
    return escape_special_tokens(" ".join(asked.split()))


def _to_plan_step(call: ToolCall) -> PlanStep:
    values = _parse_value(call.arguments)
    return PlanStep(call.name, tuple(values.values()) if isinstance(values, dict) else (values,))


def _parse_value(text: str) -> JSON:
    """Return the JSON value of a text, or the text itself."""
    try:
        value: JSON = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def format_signature(tool: Tool) -> str:
    """Format a tool as one line, with a line for each parameter that has a description."""
    fields = _to_mapping(tool.parameters.get("properties"))
    parameters = ", ".join(_format_parameter(tool, name, schema) for name, schema in fields.items())
    description = f": {' '.join(tool.description.split())}" if tool.description else ""
    notes = (_format_note(name, schema) for name, schema in fields.items())
    definitions = _format_definitions(tool.parameters)
    return "\n".join(
        [f"- {tool.name}({parameters}){description}", *filter(None, notes), *definitions]
    )


def format_answer_type(answer_schema: Mapping[str, JSON] | None) -> str:
    """Format the type of an answer; without a schema it is text."""
    if answer_schema is None:
        return '"..."'
    return "".join(
        [
            format_shape(dict(answer_schema)),
            *(f"; {line.strip()}" for line in _format_definitions(answer_schema)),
        ]
    )


def _format_definitions(schema: Mapping[str, JSON]) -> list[str]:
    """Return a line for each named type of a schema, such as `Node = {"value": integer}`."""
    definitions = _to_mapping(schema.get("$defs"))
    return [
        f"    {name} = {format_shape(dict(_to_mapping(form)))}"
        for name, form in definitions.items()
    ]


def _format_parameter(tool: Tool, name: str, schema: JSON) -> str:
    required = tool.parameters.get("required")
    is_required = isinstance(required, Sequence) and name in required
    return f"{name}{'' if is_required else '?'}: {format_shape(dict(_to_mapping(schema)))}"


def _format_note(name: str, schema: JSON) -> str:
    description = _to_mapping(schema).get("description")
    return f"    {name}: {' '.join(description.split())}" if isinstance(description, str) else ""


def _to_mapping(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, Mapping) else {}


_DEFS = ("$defs", "definitions")


def build_turn_schema(prompt: PromptSpec, tool_choice: ToolChoice) -> JSONObject:
    """Build the schema of a turn, which holds the model to the `tool_choice`.

    A tool's name leaves only a call of this tool: no plan, which may begin with another one. So do
    the rules of the run: a tool that may not be called yet is not an option, and neither is an
    answer before the calls that it needs, or where a call ends the run.
    """
    definitions: JSONObject = {}
    options: list[JSONObject] = []
    is_named = tool_choice not in ("auto", "none", "required")
    tools = [tool for tool in prompt.tools if not is_named or tool.name == tool_choice]
    callable_tools = [tool for tool in tools if is_named or tool.name not in prompt.withheld]
    if tools and tool_choice != "none":
        if not is_named:
            plan: JSONObject = {
                "type": "string",
                "pattern": build_plan_pattern([tool.name for tool in tools]),
            }
            options.append(_create_object_schema(plan=plan))
        options += [
            _create_object_schema(
                name={"const": tool.name},
                arguments=_lift_definitions(tool.parameters, tool.name, definitions),
            )
            for tool in callable_tools
        ]
    may_answer = prompt.may_answer or tool_choice == "none"
    if options and may_answer and tool_choice == "auto" and prompt.answer_schema is None:
        options.append(_create_object_schema(chat={"type": "string"}))
    if (may_answer and tool_choice in ("auto", "none")) or not options:
        options.append(
            _create_object_schema(
                answer=_lift_definitions(
                    prompt.answer_schema or {"type": "string"}, "answer", definitions
                )
            )
        )
    schema: JSONObject = options[0] if len(options) == 1 else {"anyOf": options}
    return {**schema, "$defs": definitions} if definitions else schema


def _create_object_schema(**properties: JSON) -> JSONObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _lift_definitions(schema: Mapping[str, JSON], owner: str, defs: JSONObject) -> JSON:
    """Move the definitions of a schema to those of the root; return the schema without them."""
    for key in _DEFS:
        owned = schema.get(key)
        for name, value in owned.items() if isinstance(owned, Mapping) else ():
            defs[f"{owner}.{name}"] = _rewrite_schema(value, owner)
    return _rewrite_schema({key: value for key, value in schema.items() if key not in _DEFS}, owner)


def _rewrite_schema(schema: JSON, owner: str) -> JSON:
    """Return a schema as it is sent: references point to the root, patterns are removed."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_rewrite_schema(item, owner) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: _rewrite_keyword(key, value, owner)
        for key, value in schema.items()
        if key != "pattern"
    }


def _rewrite_keyword(key: str, value: JSON, owner: str) -> JSON:
    """Rewrite a keyword's value; keys below `properties` are names, and constants are data."""
    match key, value:
        case "properties" | "patternProperties", Mapping():
            return {name: _rewrite_schema(item, owner) for name, item in value.items()}
        case "const" | "enum" | "default" | "examples", _:
            return value
        case "$ref", str():
            for kind in _DEFS:
                value = value.replace(f"#/{kind}/", f"#/$defs/{owner}.", 1)
            return value
        case _:
            return _rewrite_schema(value, owner)
