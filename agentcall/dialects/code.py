"""The dialect `code`: the model answers with a short Python program, whose functions are the tools.

The prompt shows each tool as a function with its docstring, and one example. An answer is words, or
a program in a fenced block. The form of a conversation:

    user: What do two anvils weigh?
    assistant: ```python
    ...
    print("Two anvils weigh", total, "kg")
    ```
    user: It printed: Two anvils weigh 14 kg

Rules:
1. A program is kept as the end of the thinking of its message, in a fence that has the time at
   which it began; the calls that it made follow as the calls of this and of later messages.
2. An answer is a program if it calls an offered function, or if it is nothing but one block or one
   text that is Python. Several blocks are one program. A text behind the program is dropped: it is
   a guess at the output.
3. A program that defines an offered function is refused: it would not call the tool.
4. The model sees what a program printed, and no results of calls, unless it printed nothing.

Source of the form: CodeAct, Wang et al., ICML 2024, arXiv:2402.01030.
"""

from __future__ import annotations

import ast
import inspect
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast, get_type_hints

from agentcall.dialects.prompt_safety import render_result_text
from agentcall.messages import JSON, Assistant, Message, Text, ToolCall, ToolResult, User
from agentcall.tools.search import FIND_TOOLS
from agentcall.tools.skill import FIND_SKILLS, LOAD_SKILL, READ_SKILL_FILE
from agentcall.tools.tool import Tool, tool_from_schema

MAX_PROGRAM_CHARS = 50_000
_LOADERS = (LOAD_SKILL, FIND_SKILLS, READ_SKILL_FILE, FIND_TOOLS)
ANSWER = "answer"
"""The function with which a program gives an answer of the output type."""

_INSTRUCTIONS = """\
You answer questions by writing one short Python program.

Example, with the functions find_code(word) and weight_of(code), which do not exist here:
Question: Which is heavier, an anvil or two hammers?
```python
anvil = weight_of(find_code("anvil"))
hammers = 2 * weight_of(find_code("hammer"))
heavier = "the anvil" if anvil > hammers else "two hammers"
print(f"An anvil weighs {{anvil}} kg and two hammers {{hammers}} kg, so {{heavier}} is heavier.")
```

Rules: get every fact from the functions; never invent a fact, a name, a number or an id, look it \
up. Do all that is asked in one program, in the order in which it is needed. Compare, decide and \
calculate in Python, with the values that the functions return. {ending} Modules such as math, re, \
json and datetime can be imported; there are no files and no network. Write only the program, in \
one ```python block. If no function is needed, print a friendly answer.

These functions exist already, and no others; do not define or import them:

{functions}"""
_PRINT_ENDING = (
    "The last line is print(...): a sentence that answers the question, with the values in it."
)
_ANSWER_ENDING = f"The last line is {ANSWER}(...), which gives the answer."
_NO_TOOLS = "Answer in plain words now, without a program."
_NOTHING_PRINTED = (
    "The program has ended and printed nothing. Answer the user in plain words, without a program."
)
_LOADED = "Continue with the task now: write the program for it."
_UNFINISHED = "The program was stopped before its end."
_FENCE = re.compile(
    r"^(`{3,})[ \t]*(\w*)[^\n]*\n(.*?)(?:^\1`*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_LANGUAGES = ("", "py", "python", "python3", "tool_code", "code")
_SAVED = re.compile(r"(?:\A|\n)(`{3,})python (\S+)\n(.*)\n\1\Z", re.DOTALL)
_CODE_START = re.compile(
    r"\s*(?:#|import |from \w+ import |def |for |if |while |try:|with |@"
    r"|[A-Za-z_][\w.]*(?:, \w+)* ?(?:[-+*/]?=[^=]|\())"
)


class Program(NamedTuple):
    """A program of a model: its code, and the time at which it began, in ISO 8601."""

    code: str
    began: str

    def format(self) -> str:
        """Return the program in the form in which a message keeps it."""
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", self.code)), default=0))
        return f"{fence}python {self.began}\n{self.code}\n{fence}"


def parse_saved_program(thinking: str) -> Program | None:
    """Return the program at the end of a message's thinking."""
    found = _SAVED.search(thinking)
    return None if found is None else Program(found[3], found[2])


class CodeAnswer(NamedTuple):
    """An answer: words for the user, and the code of a program, or why it is refused."""

    words: str
    code: str | None = None
    refusal: str = ""


def read_answer(text: str, functions: FunctionSet) -> CodeAnswer:
    """Split an answer into words and the code of a program; see rules 2 and 3."""
    blocks = [found for found in _FENCE.finditer(text) if found[2].lower() in _LANGUAGES]
    code = "\n".join(found[3].rstrip() for found in blocks).strip("\n")
    before = text[: blocks[0].start()].strip() if blocks else ""
    if not blocks:
        code = text.strip()
    tree = _parse(code)
    if tree is None:
        looks_like_code = blocks and functions.is_mentioned(code)
        if not looks_like_code:
            return CodeAnswer(text)
        return CodeAnswer(before, code)  # the interpreter says what is wrong with it
    names = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    calls_function = any(name in functions for name in names)
    is_all = not blocks or (len(text[blocks[-1].end() :].strip()) == 0 and not before)
    if not calls_function and not (is_all and names and (blocks or "print" in names)):
        return CodeAnswer(text)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    again = sorted(name for name in defined if name in functions)
    if again:
        return CodeAnswer(before, code, f"{again[0]} exists already; call it, do not define it")
    return CodeAnswer(before, code)


def may_be_code(text: str) -> bool:
    """Whether a text that has begun so may become a program."""
    return "`" in text or not text.strip() or _CODE_START.match(text) is not None


def _parse(code: str) -> ast.Module | None:
    """Return the syntax tree; None for a text that is not Python, or too long."""
    if len(code) > MAX_PROGRAM_CHARS:
        return None
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


# The functions.


@dataclass(frozen=True, eq=False)
class ToolFunction:
    """A tool as a function of a program.

    parameters: the names of its parameters in Python, with their names in JSON.
    """

    tool: Tool
    name: str
    parameters: Mapping[str, str]

    @classmethod
    def from_tool(cls, tool: Tool) -> ToolFunction:
        """Return the function that a tool is in a program."""
        names = cast("Mapping[str, JSON]", tool.parameters.get("properties", {}))
        return cls(tool, _make_identifier(tool.name), {_make_identifier(n): n for n in names})

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments of a call by their names in JSON. Raises TypeError, as Python."""
        names = list(self.parameters)
        if len(args) > len(names):
            raise TypeError(
                f"{self.name}() takes {len(names)} arguments but {len(args)} were given: "
                f"{self.signature}"
            )
        bound = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name in bound:
                raise TypeError(f"{self.name}() got {name} twice: {self.signature}")
            bound[name] = value
        return {self.parameters.get(name, name): value for name, value in bound.items()}

    @cached_property
    def signature(self) -> str:
        """The first line of its definition, without `def`."""
        schema = self.tool.parameters
        required = cast("Sequence[str]", schema.get("required", []))
        properties = cast("Mapping[str, Mapping[str, JSON]]", schema.get("properties", {}))
        definitions = cast("Mapping[str, JSON]", schema.get("$defs", {}))
        # Python allows no parameter without a default behind one that has it.
        names = sorted(self.parameters.items(), key=lambda item: item[1] not in required)
        shown = [
            _format_parameter(name, properties[key], definitions, is_required=key in required)
            for name, key in names
        ]
        in_order = [name for name, _ in names] == list(self.parameters)
        parameters = ", ".join(shown if in_order else ["*", *shown])
        return f"{self.name}({parameters}){_format_return(self.return_type)}"

    @cached_property
    def return_type(self) -> object:
        """The annotation of what it returns; `inspect.Signature.empty` without one."""
        function = inspect.unwrap(self.tool)
        function = getattr(function, "__func__", function)
        try:
            return get_type_hints(function).get("return", inspect.Signature.empty)
        except Exception:  # names that exist only for type checkers
            return inspect.Signature.empty

    def format(self) -> str:
        """Return its definition as the prompt shows it."""
        properties = cast(
            "Mapping[str, Mapping[str, JSON]]", self.tool.parameters.get("properties", {})
        )
        described = (
            f"{name}: {' '.join(str(properties[key]['description']).split())}"
            for name, key in self.parameters.items()
            if properties[key].get("description")
        )
        text = " ".join(filter(None, [" ".join(self.tool.description.split()), *described]))
        return f'def {self.signature}:\n    """{text}"""'


class FunctionSet:
    """The functions of programs, by their names: the tools, and the one that gives a typed answer.

    answer: that function; None if the answer is text.
    """

    def __init__(self, tools: Iterable[Tool], answer_schema: Mapping[str, JSON] | None) -> None:
        functions = list(map(ToolFunction.from_tool, tools))
        self._is_wrapped = answer_schema is not None and answer_schema.get("type") != "object"
        self.answer: ToolFunction | None = None
        if answer_schema is not None:
            self.answer = ToolFunction.from_tool(_make_answer_tool(answer_schema))
            functions.append(self.answer)
        self.by_name = {item.name: item for item in functions}

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def unwrap_answer(self, arguments: Mapping[str, object]) -> object:
        """Return the answer that the arguments of the answer's function give."""
        return arguments.get(_VALUE) if self._is_wrapped else arguments

    def is_mentioned(self, code: str) -> bool:
        """Whether a text seems to call one of the functions."""
        return any(f"{name}(" in code for name in self.by_name)

    def format(self) -> str:
        """Return the definitions as the prompt shows them."""
        return "\n\n".join(item.format() for item in self.by_name.values())


_VALUE = "value"
_MAX_TYPE_DEPTH = 4


def _make_answer_tool(schema: Mapping[str, JSON]) -> Tool:
    """Return the function that gives an answer, as a tool; it is never executed."""
    wrapped: Mapping[str, JSON] = schema
    if schema.get("type") != "object":
        inner = {key: value for key, value in schema.items() if key != "$defs"}
        wrapped = {"type": "object", "properties": {_VALUE: inner}, "required": [_VALUE]}
        if "$defs" in schema:
            wrapped = {**wrapped, "$defs": schema["$defs"]}
    description = "Gives the final answer, which ends the program."
    return tool_from_schema(str, name=ANSWER, description=description, parameters=wrapped)


def _make_identifier(name: str) -> str:
    """Return a name of JSON as one of Python."""
    plain = re.sub(r"\W", "_", name)
    if not plain or plain[0].isdigit():
        plain = f"_{plain}"
    return f"{plain}_" if keyword.iskeyword(plain) else plain


_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "object": "dict",
    "array": "list",
}


def _format_parameter(
    name: str, schema: Mapping[str, JSON], definitions: Mapping[str, JSON], *, is_required: bool
) -> str:
    annotated = f"{name}: {_format_type(schema, definitions)}"
    return annotated if is_required else f"{annotated} = {schema.get('default')!r}"


def _format_type(schema: JSON, definitions: Mapping[str, JSON], depth: int = 0) -> str:
    """Return a JSON Schema as a type of Python, as far as it says something in one line."""
    if not isinstance(schema, Mapping) or depth > _MAX_TYPE_DEPTH:
        return "Any"
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _format_type(definitions.get(reference.rpartition("/")[2]), definitions, depth + 1)
    if "const" in schema:
        return repr(schema["const"])
    if isinstance(schema.get("enum"), list):
        return " | ".join(map(repr, cast("list[JSON]", schema["enum"])))
    for union in ("anyOf", "oneOf"):
        if isinstance(schema.get(union), list):
            parts = cast("list[JSON]", schema[union])
            return " | ".join(_format_type(part, definitions, depth + 1) for part in parts)
    kind = schema.get("type")
    if kind == "array" and "items" in schema:
        return f"list[{_format_type(schema['items'], definitions, depth + 1)}]"
    if kind == "object" and isinstance(schema.get("properties"), Mapping):
        fields = cast("Mapping[str, JSON]", schema["properties"])
        shown = (f"{n!r}: {_format_type(s, definitions, depth + 1)}" for n, s in fields.items())
        return "{" + ", ".join(shown) + "}"
    if isinstance(kind, list):
        return " | ".join(_TYPES.get(str(each), "Any") for each in kind)
    return _TYPES.get(str(kind), "Any")


def _format_return(annotation: object) -> str:
    if annotation is inspect.Signature.empty:
        return ""
    if annotation is None or annotation is type(None):
        return " -> None"
    if isinstance(annotation, type) and not getattr(annotation, "__args__", None):
        if annotation in (str, int, float, bool, list, dict):
            return f" -> {annotation.__name__}"
        fields = get_type_hints(annotation) if hasattr(annotation, "__annotations__") else {}
        if not fields:
            return ""
        shown = (f"{name!r}: {getattr(kind, '__name__', kind)}" for name, kind in fields.items())
        return " -> {" + ", ".join(shown) + "}"
    return f" -> {re.sub(r'[A-Za-z_][A-Za-z_0-9]*[.]', '', str(annotation))}"


# The prompt, and the conversation as the model sees it.


def format_instructions(instructions: str, functions: FunctionSet) -> str:
    """Return the system message."""
    if not functions.by_name:
        return instructions
    ending = _PRINT_ENDING if functions.answer is None else _ANSWER_ENDING
    code = _INSTRUCTIONS.format(functions=functions.format(), ending=ending)
    return f"{instructions}\n\n{code}" if instructions else code


@dataclass(frozen=True, eq=False)
class ProgramRecord:
    """A program in a conversation, and the calls that it made, with their results.

    is_open: nothing follows it, so that it may continue. output: the text that it printed.
    """

    program: Program
    words: str
    calls: Sequence[tuple[ToolCall, ToolResult]]
    is_open: bool
    output: Assistant | None = None

    @property
    def has_loaded(self) -> bool:
        """Whether its last call has loaded or found what the model needs for the next program."""
        return bool(self.calls) and self.calls[-1][0].name in _LOADERS


def read_conversation(messages: Iterable[Message]) -> list[Message | ProgramRecord]:
    """Return a conversation with each program and what belongs to it as one record."""
    items: list[Message | ProgramRecord] = []
    source = list(messages)
    index = 0
    while index < len(source):
        message = source[index]
        program = parse_saved_program(message.thinking) if isinstance(message, Assistant) else None
        if program is None or not isinstance(message, Assistant):
            items.append(message)
            index += 1
            continue
        record, index = _read_program(source, index, message, program)
        items.append(record)
    return items


def _read_program(
    source: Sequence[Message], index: int, first: Assistant, program: Program
) -> tuple[ProgramRecord, int]:
    """Return the record of the program at `index`, and the index of what follows it."""
    asked = {call.id: call for call in first.calls}
    results: dict[str, ToolResult] = {}
    index += 1
    while index < len(source):
        message = source[index]
        if isinstance(message, ToolResult) and message.call_id in asked:
            results[message.call_id] = message
        elif isinstance(message, Assistant) and message.calls and not message.thinking:
            asked.update((call.id, call) for call in message.calls)
        else:
            break
        index += 1
    # In the order of the calls: one that waited for approval has its result later.
    calls = [(call, results[call_id]) for call_id, call in asked.items() if call_id in results]
    output = None
    if index < len(source):
        after = source[index]
        if isinstance(after, Assistant) and not after.calls and not after.thinking:
            output, index = after, index + 1
    is_open = output is None and index == len(source)
    return ProgramRecord(program, first.text, calls, is_open, output), index


def render_conversation(
    items: Sequence[Message | ProgramRecord], *, can_call: bool
) -> Iterator[Message]:
    """Yield the messages that the model sees: programs, what they printed, and words.

    can_call: whether the model may write a program now.
    """
    notes: list[str] = []
    tainted = False
    for item in items:
        if isinstance(item, ProgramRecord):
            if notes:
                yield _make_note(notes, tainted=tainted)
            notes, tainted = [], False
            yield Assistant(f"{item.words}\n```python\n{item.program.code}\n```".strip())
            notes.append(_describe_end(item))
            tainted = any(result.untrusted for _, result in item.calls)
        elif isinstance(item, User) and notes:
            notes.append(item.text)
            yield _make_note(notes, tainted=tainted or item.tainted, after=item)
            notes, tainted = [], False
        elif isinstance(item, ToolResult):
            notes.append(f"{item.name} returned: {render_result_text(item)}")
            tainted = tainted or item.untrusted
        elif isinstance(item, Assistant) and item.calls:
            yield Assistant("\n".join(filter(None, [item.text, *map(_format_call, item.calls)])))
        else:
            yield item
    if not can_call:
        notes.append(_NO_TOOLS)
    if notes:
        yield _make_note(notes, tainted=tainted)


def _describe_end(record: ProgramRecord) -> str:
    """Describe to the model how a program ended."""
    if record.output is not None:
        untrusted = any(result.untrusted for _, result in record.calls)
        printed = ToolResult("", "program", record.output.text, untrusted=untrusted)
        return f"It printed: {render_result_text(printed)}"
    results = "\n".join(
        f"{_format_call(call)} returned: {render_result_text(result)}"
        for call, result in record.calls
    )
    ending = _NOTHING_PRINTED if record.is_open else _UNFINISHED
    if record.has_loaded:
        ending = _LOADED
    return "\n".join(filter(None, [results, ending]))


def _format_call(call: ToolCall) -> str:
    return f"{call.name}({call.arguments})"


def _make_note(notes: Sequence[str], *, tainted: bool, after: User | None = None) -> User:
    text = "\n\n".join(notes)
    if after is not None and not isinstance(after.content, str):  # it has images
        return User((Text(text), *(p for p in after.content if not isinstance(p, Text))), tainted)
    return User(text, tainted)
