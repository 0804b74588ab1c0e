"""What servers refuse, and what they are sent instead: one table, `ADAPTATIONS`.

A request is sent in OpenAI's full form. If the server refuses it, the first row of the table that
recognizes the refusal, and that changes the request, is learned: the request is repeated, and all
later ones to this model of this server are changed in the same way. Rules:

1. A row changes the JSON body of a request, and nothing else. It is pure, and changes a body that
   it has changed already no further, so that a refusal which it does not help against is an error.
2. Words decide, not the status alone. Several rows may recognize the same words: templates that
   "must alternate user/assistant" also say so of a system message or of a tool's result. The first
   row that changes the request is tried first.
3. What the server has accepted before is not given up for words that only may mean it.
4. A row is forgotten after an hour, and when the server cannot be reached or its model is gone, as
   it may be another version afterwards.
5. A server that refuses nothing pays nothing.

To add a row: an entry in `ADAPTATIONS`, and the server's words in
`tests/models/test_adaptations.py`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TypeAlias, cast

import agentcall.models.wire_messages as wire
from agentcall.dialects.answer_schema import ANSWER_NAME
from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import ContextOverflow, ModelRefused, RateLimited, ServerFailed
from agentcall.messages import JSON

RequestBody: TypeAlias = dict[str, JSON]
"""The JSON body of a chat request, with `messages` and `model`."""

REMEMBER_SECONDS = 3600.0
"""How long a refusal is remembered; then the server is sent the full form again."""

_logger = logging.getLogger("agentcall.models")


@dataclass(frozen=True, slots=True)
class Adaptation:
    """One row: words of refusals, and the change of a request that they ask for.

    name: the name in events and in `doctor`.
    description: what is sent from then on, for people.
    pattern: finds the refusal in the server's words.
    change: returns the changed body, or an equal one if there is nothing to change.
    stage: rows of a lower stage change a request first, as later ones need their result.
    is_fallback: the words may well mean something else: the row is not learned if the server has
        accepted what it gives up.
    """

    name: str
    description: str
    pattern: re.Pattern[str]
    change: Callable[[RequestBody], RequestBody]
    stage: int = 50
    is_fallback: bool = False

    def guess(self, pattern: str) -> Adaptation:
        """Return the row for words that may well mean something else."""
        return replace(self, pattern=_compile(pattern), is_fallback=True)


@dataclass(frozen=True, slots=True)
class LearnedAdaptation:
    """A row that was learned: from which status and words of the server, and when (`monotonic`)."""

    adaptation: Adaptation
    status: int
    words: str
    at: float

    @property
    def name(self) -> str:
        """The name of the row."""
        return self.adaptation.name

    @property
    def reason(self) -> str:
        """What is sent from now on, and the server's words."""
        return f"{self.adaptation.description} (the server answered {self.status}: {self.words})"


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


def _change_messages(
    change: Callable[[wire.WireMessages], wire.WireMessages],
) -> Callable[[RequestBody], RequestBody]:
    """Return the change of a body that changes its messages."""

    def change_body(body: RequestBody) -> RequestBody:
        messages = body.get("messages")
        if not isinstance(messages, list):
            return body
        return {**body, "messages": change(cast("wire.WireMessages", messages))}

    return change_body


def _drop_field(name: str) -> Callable[[RequestBody], RequestBody]:
    """Return the change that leaves a field of the request out."""

    def change_body(body: RequestBody) -> RequestBody:
        return {key: value for key, value in body.items() if key != name}

    return change_body


def _rename_field(old: str, new: str) -> Callable[[RequestBody], RequestBody]:
    def change_body(body: RequestBody) -> RequestBody:
        return {(new if key == old else key): value for key, value in body.items()}

    return change_body


def _request_json_object(body: RequestBody) -> RequestBody:
    match body.get("response_format"):
        case {"json_schema": {"name": "answer", "schema": {"type": other}}} if other != "object":
            return body  # the model could not write its answer at all
        case {"type": "json_schema"}:
            return {**body, "response_format": {"type": "json_object"}}
        case _:
            return body


def _send_thinking_as_effort(body: RequestBody) -> RequestBody:
    match body:
        case {"chat_template_kwargs": {"enable_thinking": bool(thinks), **others}}:
            if others.keys() - {"thinking"}:  # the caller's own
                return body
        case _:
            return body
    rest = {key: value for key, value in body.items() if key != "chat_template_kwargs"}
    return {"reasoning_effort": "medium" if thinks else "none", **rest}


def _wrap_answer(body: RequestBody) -> RequestBody:
    """Ask for an object with the answer, if the answer itself is not an object."""
    response_format = body.get("response_format")
    match response_format:
        case {"json_schema": {"name": "answer", "schema": dict(schema)} as form}:
            if schema.get("type") == "object":
                return body
        case _:
            return body
    wrapped: dict[str, JSON] = {
        "type": "object",
        "properties": {ANSWER_NAME: {key: schema[key] for key in schema if key != "$defs"}},
        "required": [ANSWER_NAME],
        "additionalProperties": False,
    }
    if "$defs" in schema:
        wrapped["$defs"] = schema["$defs"]
    named: dict[str, JSON] = {**cast("RequestBody", form), "schema": wrapped}
    return {**body, "response_format": {"type": "json_schema", "json_schema": named}}


def _drop_answer_format(body: RequestBody) -> RequestBody:
    """Leave out that the answer is held to its type; a dialect's own format is left as it is."""
    match body.get("response_format"):
        case {"json_schema": {"name": "answer"}}:
            return {key: value for key, value in body.items() if key != "response_format"}
        case _:
            return body


def _force_stream(body: RequestBody) -> RequestBody:
    return {**body, "stream": True}


def _force_plain(body: RequestBody) -> RequestBody:
    return {key: value for key, value in body.items() if key not in ("stream", "stream_options")}


def _drop_tool_choice(body: RequestBody) -> RequestBody:
    """Leave the choice out; a choice of "none" is expressed by sending no tools."""
    names = ("tool_choice", "tools") if body.get("tool_choice") == "none" else ("tool_choice",)
    return {key: value for key, value in body.items() if key not in names}


def _drop_tools(body: RequestBody) -> RequestBody:
    if not body.get("tools"):
        return body
    names = ("tools", "tool_choice", "parallel_tool_calls")
    return {key: value for key, value in body.items() if key not in names}


_NOT = (
    r"(?:not (?:currently |yet )?(?:be )?(?:supported|permitted|allowed|available|enabled|accepted"
    r"|recognized|implemented|valid|compatible)|(?:does|do|is|are|can)(?: not|n't) "
    r"(?:currently |yet )?(?:support|accept|allow|recognize|have|permit)\w*"
    r"|unsupported|unrecognized|unknown|unexpected|extra (?:inputs?|fields?)|not support"
    r"|disallowed|unavailable|cannot be (?:used|set|specified)|invalid (?:parameter|argument|field)"
    r"|(?:must|should|may) not (?:be|have|contain|include|exist)"
    r"|(?:may|can) only be|only \S+ is (?:supported|allowed|accepted|valid)"
    r"|no such|configurable|only (?:the )?default|(?:cannot|can't|can not) both"
    r"|mutually exclusive|additional propert|deprecated|forbidden|no longer supported)"
)
"""How servers say that something is not accepted."""


def _is_refused(name: str, distance: int = 60) -> str:
    """Return the pattern of words that refuse a name: `_NOT` near it."""
    return rf"(?:{_NOT}.{{0,{distance}}}?(?:{name})|(?:{name}).{{0,{distance}}}?{_NOT})"


_ALTERNATE = (
    r"roles? must alternate|must alternate (?:between )?user|alternate between user and"
    r"|roles .{0,40}should alternate|alternating (?:user|roles?)"
    r"|unexpected role .{1,20} after role|unexpected role|role ordering|roles? order"
    r"|consecutive (?:user|assistant|messages?|roles?)|(?:two|2) (?:user|assistant) messages"
    r"|messages? (?:must|should) (?:start|begin) with (?:a )?(?:system or )?user|same role"
    r"|first (?:\S+ )?message (?:\S+ )?(?:must|should|has to) .{0,30}user"
    r"|(?:conversation|chat|dialog\w*|messages?) (?:must|should) (?:start|begin) with .{0,20}user"
    r"|multi-?turn requests? alternate|function call turn comes immediately after"
    r"|function response turn comes immediately after|no user query found"
    r"|(?:expected|requires?) (?:an? )?assistant (?:message|role|turn|response)|message_order"
    r"|tool (?:message|result|response)s? must be followed by an? assistant"
    r"|user (?:message|role)s? (?:cannot|can't|can not|must not|may not) (?:directly )?follow"
)
_NO_SYSTEM = (
    r"system (?:role|messages?|prompts?|instructions?) (?:is |are )?(?:\S+ )?"
    r"(?:not (?:currently )?(?:supported|allowed|enabled|accepted|permitted|available)|unsupported)"
    r"|(?:developer|system) (?:instruction|message|role)s? (?:is|are) not"
    r"|not support .{0,12}system (?:role|message|prompt|instruction)|not support .?system\b"
    r"|unsupported.{0,30}role.{0,20}system|role .?system.? (?:is )?(?:not|invalid|un)"
    r"|role.{0,30}does not support .?system|unknown variant `system`"
    r"|(?:invalid|unknown|unsupported) (?:message )?role:? .?system"
)
_ONLY_USER_AND_ASSISTANT = (
    r"only .{0,12}?user.{0,6}?(?:and|or|,).{0,6}?(?:assistant|model).{0,3}?"
    r"(?: roles?| messages?)? (?:are|is) (?:supported|allowed|accepted|valid|permitted)(?!,? with)"
    r"|only supports? .{0,20}user.{0,4} and .{0,4}(?:assistant|model)"
    r"|valid roles?:? (?:user, model|model, user|user, assistant)"
    r"|input should be .?user.?(?:,| or| and) .?assistant.?(?! ?or)"
)
_ONE_SYSTEM = (
    r"system (?:(?:message|prompt|role)s? )?(?:must|should|ha(?:s|ve) to|can only|may only) "
    r"(?:only )?(?:be|come|appear|stand)(?! a)|system messages? (?:\S+ )?after"
    r"|system messages? (?:is|are) only (?:allowed|supported|permitted) (?:at|as|in)"
    r"|(?:only|at most) (?:one|a single|1) (?:optional )?system (?:message|prompt)"
    r"|(?:multiple|more than one|several|two|second) system (?:messages?|prompts?)"
    r"|with the exception of an initial optional system message|system .{0,20}at the (?:beginning"
    r"|start)|got system|unexpected role .?system|first message .{0,30}system"
    r"|role .?system.? (?:is )?only"
)
_NO_TOOL_ROLE = (
    r"role .?tool.? (?:is )?(?:not|invalid|un)|(?:invalid|unknown|unsupported) (?:message )?role:? "
    r".?tool|tool (?:role|messages?) (?:is |are )?(?:not supported|unsupported|not allowed)"
    r"|only user, (?:system and assistant|assistant and system)|unexpected role .?tool"
    r"|unexpected (?:message )?role\b|got tool\b|unknown variant `tool`|roleenum\.tool"
    r"|only (?:\S+ )?user(?:,| and) .{0,20}assistant roles (?:are|is) supported(?!, with)"
    r"|input should be .?system.?, .?user.? or"
    r"|role.{0,30}does not support .?tool|\btool.? is not one of"
)
_EMPTY = (
    r"content.{0,60}(?:must not be|cannot be|can't be|should not be|may not be|is) "
    r"(?:empty|blank)|empty (?:message )?content|non-?empty|content.{0,40}at least (?:1|one) "
    r"|string_too_short.{0,60}content|content.{0,60}(?:too short|min_?length)|content.{0,30}blank"
    r"|(?:must|should) have (?:either )?(?:a )?(?:non-empty )?content|empty (?:text|string)"
    r"|content (?:must|should) (?:be|have).{0,20}(?:null|omitted|none)"
    r"|assistant message must have"
)
_NULL = (
    r"invalid type: null|content.{0,80}(?:got null|null\b|none\b|nonetype)|nonetype.{0,80}"
    r"|(?:expected|input should be) an? (?:valid )?string.{0,40}(?:null|none)|null.{0,30}content"
    r"|content.{0,80}(?:expected (?:a )?string|input should be a valid string|must be a string)"
)
_NO_CONTENT = (
    r"content.{0,60}(?:required|missing|undefined)|(?:missing|requires?|no)\b.{0,40}content"
    r"|has no attribute .?content|'content'$"
)
_NO_RESULT = (
    r"same number of function calls and responses|must be followed by tool messages"
    r"|must be a response to a prec\w+ message|did not have response messages"
    r"|tool_call_ids? .{0,40}(?:not found|no (?:response|result))|without .{0,20}tool.?res"
    r"|tool (?:message|result|response)s? .{0,60}(?:without|\bno\b|missing|preced|corresponding)"
    r"|number of function response parts|unexpected tool call id|no tool (?:output|call) found"
    r"|unexpected .?tool_use_id|must have a corresponding"
    r"|unexpected role .?tool.? after"
)
_CALL_ID = (
    r"tool[ _]call[ _]ids?.{0,80}(?:length|alphanumeric|characters|a-z|must (?:match|be)|invalid"
    r"|pattern|too (?:long|short)|format|defined|required|empty|nine|9)"
    r"|tool_calls?.{0,20}\bid\b.{0,60}(?:too (?:short|long)|length|pattern|alphanumeric|a-z|must"
    r"|at (?:least|most)|required|empty|invalid|missing)|invalid.{0,40}tool_calls?.{0,12}\.?id\b"
    r"|tool_use\.id|(?:invalid|malformed) (?:\S+ )?call[ _]id|string_pattern_mismatch.{0,80}\bid\b"
    r"|(?<!unexpected `)tool_use_id|\btool_call_id\b.{0,40}(?:not valid|invalid)"
)
_IMAGES = (
    r"multimodal input is not supported|at most 0 image|missing data required for image"
    r"|not a (?:multimodal|vision) model|can only concatenate str \(not .list.\)"
    r"|(?:not|n't) (?:currently )?(?:support|accept|process|have|allow)\w* (?:\S+ ){0,3}"
    r"(?:image|vision|multimodal)|no endpoints found that support image"
    r"|(?:image|vision|multimodal)s?[ _]?(?:\S+ ){0,3}(?:is|are) (?:not|un)(?: ?\w+)?"
    r"(?:supported|allowed|enabled|available|accepted)"
    r"|image_?(?:url|input)?.{0,30}(?:not supported|unsupported|not allowed|invalid type)"
    r"|(?:unknown|unsupported|invalid|unexpected)[^.]{0,40}image|mmproj"
    r"|only (?:text|support text)|type.{0,8}(?:must|should) be .?text"
    r"|only .?text.? (?:content|is|type)"
    r"|image_url.{0,40}only supported by|unknown variant `image_url`|unsupported content"
    r"|content.{0,20}type.{0,40}not supported|不支持[^。]{0,8}(?:图|多模态|视觉)"
)
_NO_TOOLS = (
    r"(?:tools?|tool[ _](?:use|choice|call(?:s|ing)?)|function[ _]?call(?:s|ing)?|functions?)\b"
    r"[^.]{0,60}(?:not support|n't support|unsupported|not (?:currently )?enabled|not available"
    r"|not allowed|not implemented|disabled|requires|not permitted|unavailable)"
    r"|(?:not|n't) (?:currently )?support[^.]{0,40}(?:tool|function)|--jinja|tool-call-parser"
    r"|no endpoints found that support [^.]{0,20}tool|不支持[^。]{0,12}(?:工具|函数|tool|function)"
    r"|cannot use tools|not capable of tool"
    r"|(?:unknown|unrecognized|unexpected|extra|unsupported)[^.]{0,60}\btools\b"
    r"|\btools\b[^.]{0,40}(?:extra|unknown|unrecognized|unexpected)"
    r"|enable-auto-tool-choice|tools? (?:is|are) not|without tool support"
)
_STREAM_ONLY = (
    r"only supports? (?:\S+ )?stream|(?:only|requires?) stream(?:ing)?"
    r"|stream(?:ing)? (?:mode )?only"
    r"|non-?stream\w*[^.]{0,30}(?:not|unsupported|disabled|unavailable)"
    r"|not support non-?stream|must be (?:set to )?.?false for non-?stream|(?:仅|只)支持流式"
    r"|stream[^.]{0,30}(?:must|should|has to|needs to) be "
    r"(?:set to )?.?(?:true|enabled|on)|(?:must|please|should) (?:set|use|enable) .?stream"
    r"|(?:set|use|enable) .?stream.?(?:=|: ?| to )?true|stream(?:ing)? is required"
    r"|without stream|stream.?(?:=|: ?)false[^.]{0,30}not|only .?stream.?(?:=|: ?)true"
)
_PLAIN_ONLY = (
    r"stream(?:s|ing|ed)?\b(?!_options)[^.]{0,40}(?:not (?:currently )?(?:be )?(?:supported|enabled"
    r"|allowed|available|implemented|permitted)|unsupported|disabled|unavailable)"
    r"|(?:not|n't) (?:currently )?(?:support|allow)[^.]{0,30}stream(?:s|ing|ed)?\b(?!_options)"
    r"|stream(?:ing)?[^.]{0,30}(?:must|should) be (?:set to )?.?false|(?:set|use) .?stream.?"
    r"(?:=|: ?| to )false|verified to stream|不支持流式|(?:cannot|can't) (?:be )?stream"
    r"|(?:cannot|can't) use tools? with stream|only .{0,12}non-?stream"
    r"|unsupported value: .?stream.?\b(?!_options)"
)
_REASONING = (
    r"reasoning(?:_content)?\b.{0,60}(?:missing|must be (?:passed|sent|included|provided)|required)"
    r"|missing.{0,20}reasoning(?:_content)?|(?:must|should) (?:include|contain|have) "
    r".{0,20}reasoning(?:_content)?|expected.{0,60}(?:thinking|reasoning)"
)
_FIELD_REFUSED = re.compile(_NOT, re.IGNORECASE)
_RANGE = re.compile(
    r"must be (?:between|at (?:least|most)|less|greater|in|>|<|positive|non-neg)|out of range"
    r"|less than or equal|greater than|too (?:large|small|high|low|big)|exceeds?|between \S+ and"
    r"|maximum value|minimum value",
    re.IGNORECASE,
)
"""A value that the server does not accept, which the caller must know."""

NO_TOOLS = "no tools field"
NO_SYSTEM_ROLE = "no system role"
NO_TOOL_ROLE = "no tool role"
NO_IMAGES = "no images"
NO_RESPONSE_FORMAT = "no response_format"
NO_ANSWER_FORMAT = "response_format ignored"
JSON_OBJECT = "response_format json_object"
UNHELD_ANSWER = frozenset({NO_RESPONSE_FORMAT, NO_ANSWER_FORMAT, JSON_OBJECT})
"""The rows with which an answer is not held to its JSON Schema."""
STREAM_ONLY = "streams only"
PLAIN_ONLY = "no streams"

_SYSTEM_STAGE, _TOOL_STAGE, _ORDER_STAGE, _CONTENT_STAGE = 20, 10, 30, 60

_WITHOUT_IMAGES = Adaptation(
    NO_IMAGES,
    "images are left out; the model reads a line in their place",
    _compile(_IMAGES),
    _change_messages(wire.replace_images),
    stage=_CONTENT_STAGE,
)

_WITH_ONE_SYSTEM_MESSAGE = Adaptation(
    "one system message",
    "system messages are joined into one at the beginning",
    _compile(_ONE_SYSTEM),
    _change_messages(wire.join_system),
    stage=_SYSTEM_STAGE,
)

_WITH_ALTERNATING_ROLES = Adaptation(
    "alternating roles",
    "messages of one role are joined, and a short answer stands between a result and a user",
    _compile(_ALTERNATE),
    _change_messages(wire.alternate_roles),
    stage=_ORDER_STAGE,
)

_WITHOUT_SYSTEM_ROLE = Adaptation(
    NO_SYSTEM_ROLE,
    "the instructions stand at the beginning of the first message of the user",
    _compile(_NO_SYSTEM),
    _change_messages(wire.move_system_to_user),
    stage=_SYSTEM_STAGE + 1,
)

_WITHOUT_TOOL_ROLE = Adaptation(
    NO_TOOL_ROLE,
    "calls and results of tools are sent as text of the model and of the user",
    _compile(f"{_NO_TOOL_ROLE}|{_ONLY_USER_AND_ASSISTANT}|{_ALTERNATE}|{_NO_RESULT}|{_CALL_ID}"),
    _change_messages(wire.write_calls_as_text),
    stage=_TOOL_STAGE,
)

_WITHOUT_TOOLS = Adaptation(
    NO_TOOLS,
    "tools are described in the prompt",
    _compile(_NO_TOOLS),
    _drop_tools,
)

ADAPTATIONS: tuple[Adaptation, ...] = (
    Adaptation(
        "no stream_options",
        "streams are requested without their usage, which is estimated",
        _compile(r"stream[_ ]options|include_usage"),
        _drop_field("stream_options"),
    ),
    Adaptation(
        STREAM_ONLY,
        "all answers are requested as streams",
        _compile(_STREAM_ONLY),
        _force_stream,
    ),
    Adaptation(
        PLAIN_ONLY,
        "all answers are requested in one piece",
        _compile(_PLAIN_ONLY),
        _force_plain,
    ),
    Adaptation(
        "max_completion_tokens",
        "max_tokens is sent as max_completion_tokens",
        _compile(r"max_tokens.{0,120}max_completion_tokens|" + _is_refused("max_tokens")),
        _rename_field("max_tokens", "max_completion_tokens"),
    ),
    Adaptation(
        "max_tokens",
        "max_completion_tokens is sent as max_tokens",
        _compile(_is_refused("max_completion_tokens")),
        _rename_field("max_completion_tokens", "max_tokens"),
    ),
    Adaptation(
        "no parallel_tool_calls",
        "parallel_tool_calls is left out",
        _compile(r"parallel_tool_calls|parallel tool calls?.{0,30}not"),
        _drop_field("parallel_tool_calls"),
    ),
    Adaptation(
        "no tool_choice",
        "tool_choice is left out",
        _compile(r"tool[_ ]choice(?!.{0,40}requires)"),
        _drop_tool_choice,
    ),
    Adaptation(
        "answer in an object",
        "a JSON Schema for an answer that is not an object is sent as that of an object with it",
        _compile(
            r"schema (?:must|should|has to) (?:be|have)[^.]{0,40}object"
            r"|(?:root|top[- ]?level)[^.]{0,60}(?:object|anyof|oneof)"
        ),
        _wrap_answer,
    ),
    Adaptation(
        JSON_OBJECT,
        "a JSON Schema for the answer is not sent, only that it is JSON",
        _compile(
            r"response_format|json_schema|json schema|structured output|guided|grammar|constrained"
        ),
        _request_json_object,
    ),
    Adaptation(
        NO_ANSWER_FORMAT,
        "the type of the answer is in the prompt only",
        _compile(r"(?!)"),  # learned from an answer that does not fit, not from words
        _drop_answer_format,
    ),
    Adaptation(
        NO_RESPONSE_FORMAT,
        "the form of the answer is asked for in the prompt only",
        _compile(
            r"response_format|json_schema|json_object|json[ _](?:schema|mode|object)|guided|grammar"
            r"|structured output|constrained|word .?json"
        ),
        _drop_field("response_format"),
    ),
    _WITHOUT_IMAGES,
    Adaptation(
        "reasoning sent back",
        "the model's thinking is sent back with its messages",
        _compile(_REASONING),
        _change_messages(wire.add_reasoning),
        stage=_CONTENT_STAGE,
    ),
    Adaptation(
        "extra_content sent back",
        "what the server adds to a call is sent back with it",
        _compile(r"thought_?signature|thought signature|extra_content"),
        _change_messages(wire.add_extra_content),
        stage=_CONTENT_STAGE,
    ),
    Adaptation(
        "calls with thinking, without text",
        "the text of a message with calls is left out if its thinking is sent",
        _compile(r"both content and thinking"),
        _change_messages(wire.drop_text_beside_thinking),
        stage=_CONTENT_STAGE + 1,
    ),
    Adaptation(
        "thinking as reasoning_effort",
        "whether the model thinks is sent as reasoning_effort",
        _compile(_is_refused("chat_template_kwargs", 80)),
        _send_thinking_as_effort,
    ),
    Adaptation(
        "no reasoning_effort",
        "reasoning_effort is left out",
        _compile(_is_refused(r"reasoning[ _]effort|\bthink(?:ing)?\b")),
        _drop_field("reasoning_effort"),
    ),
    Adaptation(
        "no reasoning_content",
        "the model's thinking is sent back as `reasoning` alone",
        _compile(_is_refused("reasoning_content")),
        _change_messages(wire.drop_reasoning_content),
        stage=_CONTENT_STAGE + 1,
    ),
    Adaptation(
        "no reasoning sent back",
        "the model's thinking is not sent back",
        _compile(_is_refused(r"reasoning(?:_content)?|thinking")),
        _change_messages(wire.drop_reasoning),
        stage=_CONTENT_STAGE + 1,
    ),
    Adaptation(
        "call ids of nine letters and digits",
        "ids of tool calls are sent as nine letters and digits",
        _compile(_CALL_ID),
        _change_messages(wire.shorten_call_ids),
    ),
    Adaptation(
        "one call per message",
        "several calls of one message are sent as a message each, with its result",
        _compile(
            r"single tool[- ]calls? at once|(?:only|at most) (?:one|1|a single) tool[- _]?call"
            r"|(?:multiple|parallel) tool[- _]?calls?.{0,40}not"
        ),
        _change_messages(wire.split_calls),
        stage=_TOOL_STAGE,
    ),
    Adaptation(
        "a result for each call",
        "calls without a result, and results without a call, are completed or sent as text",
        _compile(_NO_RESULT),
        _change_messages(wire.pair_results),
        stage=_TOOL_STAGE - 2,
    ),
    Adaptation(
        "no name on tool messages",
        "the results of tools are sent without the name of the tool",
        _compile(_is_refused(r"\bname\b", 80)),
        _change_messages(wire.drop_names),
    ),
    _WITH_ONE_SYSTEM_MESSAGE,
    _WITH_ALTERNATING_ROLES,
    Adaptation(
        "last message of the user",
        "a short message of the user is sent at the end",
        _compile(
            r"last (?:role|message|turn|\S+ message)[^.]{0,30}"
            r"(?:must|should|has to|user|to be|is from)"
            r"|(?:must|should|cannot|can't|not) end (?:with|on|in)|expected last role|prefill"
            r"|final message|assistant messages? at the end|(?:last|end).{0,30}got assistant"
        ),
        _change_messages(wire.end_with_user),
        stage=_ORDER_STAGE + 1,
    ),
    _WITHOUT_SYSTEM_ROLE,
    _WITHOUT_TOOL_ROLE,
    _WITHOUT_SYSTEM_ROLE.guess(f"{_ONLY_USER_AND_ASSISTANT}|{_ALTERNATE}|{_ONE_SYSTEM}"),
    _WITHOUT_IMAGES.guess(
        r"image|multi-?modal|vision|content\b.{0,60}\b(?:string|text)"
        r"|(?:string|text)\b.{0,60}\bcontent"
    ),
    Adaptation(
        "null content beside calls",
        "the content of a message with calls is null if it has no text",
        _compile(_EMPTY),
        _change_messages(wire.null_empty_content),
        stage=_CONTENT_STAGE,
    ),
    Adaptation(
        "no content beside calls",
        "a message with calls is sent without content if it has no text",
        _compile(f"{_EMPTY}|{_NULL}"),
        _change_messages(wire.drop_empty_content),
        stage=_CONTENT_STAGE + 1,
    ),
    Adaptation(
        "no empty content",
        "a message without text is sent with a few words in its place",
        _compile(f"{_EMPTY}|{_NULL}|{_NO_CONTENT}"),
        _change_messages(wire.fill_empty_content),
        stage=_CONTENT_STAGE + 2,
    ),
    Adaptation(
        "calls without text",
        "the text of a message with calls is left out",
        _compile(r"either content or tool_calls,? (?:but )?not|content and tool_calls"),
        _change_messages(wire.drop_text_beside_calls),
        stage=_CONTENT_STAGE,
    ),
    Adaptation(
        "content as parts",
        "the content of a message is sent as a list of parts",
        _compile(
            r"invalid type: string, expected a seq"
            r"|content.{0,80}(?:expected an? (?:array|sequence|list)|a valid (?:list|array)"
            r"|must be an? (?:array|list))"
        ),
        _change_messages(wire.write_content_as_parts),
        stage=_CONTENT_STAGE + 3,
    ),
    _WITHOUT_TOOLS,
    _WITH_ONE_SYSTEM_MESSAGE.guess(r"\bsystem\b"),
    _WITH_ALTERNATING_ROLES.guess(
        r"\broles?\b|\bturns?\b|\buser\b|assistant|alternat|\border\b|consecutive"
    ),
    _WITHOUT_SYSTEM_ROLE.guess(r"\bsystem\b|\broles?\b"),
    _WITHOUT_TOOL_ROLE.guess(r"\broles?\b|\bturns?\b"),
    _WITHOUT_TOOLS.guess(r"tool|function"),
)
"""The rows, the most certain words first."""

_ESSENTIAL_FIELDS = ("model", "messages", "stream", "tools", "max_tokens", "max_completion_tokens")
"""Fields that are not simply left out: rows of their own change them."""

_JINJA_ERROR = re.compile(r".*Jinja Exception:\s*", re.DOTALL)
_TEMPLATE_EXCERPT = re.compile(r"\s+at row \d+, column \d+:?\s*\n?.*", re.DOTALL)
_WORDS_LENGTH = 200
_GUESS_STATUSES = (400, 422, 500, 501)
_MAX_EXTRA_CONTENTS = 4096


def extract_words(text: str) -> str:
    """Return what a server says of a request, without excerpts of its chat template.

    llama.cpp's engines quote the lines of the template around the one that raised, which have the
    words of its other exceptions.
    """
    return _TEMPLATE_EXCERPT.sub("", _JINJA_ERROR.sub("", text)) or text


_LOOSE_ROWS = (JSON_OBJECT, NO_RESPONSE_FORMAT, "reasoning sent back")
_CERTAIN_PATTERNS = tuple(
    row.pattern for row in ADAPTATIONS if not row.is_fallback and row.name not in _LOOSE_ROWS
)
_TRANSIENT = re.compile(
    r"try again|temporar|overload|busy|timed? ?out|out of memory|capacity|connection|crash",
    re.IGNORECASE,
)


_TEMPLATE = re.compile(r"jinja|chat[ _]template|template error|raise_exception", re.IGNORECASE)
_NOT_OF_FORM = re.compile(
    r"content[_ ]?filter|\bpolic(?:y|ies)\b|safety (?:system|filter|reason)|\bflagged\b|moderation"
    r"|guardrail|\bquota\b|billing|payment|api[_ ]key|not a member|access denied|expired"
    r"|(?:no such|unknown|invalid|unsupported) model\b|inspection|inappropriate|prohibited",
    re.IGNORECASE,
)
"""What is refused for its content, or for who asks: another form of it does not help."""
_SHORTEST_ECHO, _LONG_ECHO = 12, 40
_NOT_REFUSED = re.compile(
    r"input_value=.{20,}?(?=, input_type=)|(?<=unknown field )(\S+), expected one of .*", re.DOTALL
)
"""The values that pydantic shows, and the fields that serde knows."""


def is_refusal(text: str) -> bool:
    """Whether a server's error 500 refuses the form of a request, so that repeating it is futile.

    The engines of chat templates raise: llama.cpp answers with 500 what others answer with 400.
    """
    words = extract_words(text)
    if _TRANSIENT.search(words):
        return False
    if _TEMPLATE.search(text):
        return any(row.pattern.search(words) for row in ADAPTATIONS)
    return any(pattern.search(words) for pattern in _CERTAIN_PATTERNS)


def _remove_echo(words: str, body: RequestBody) -> str:
    """Return the words of a refusal without what they quote, but do not refuse."""
    words = _NOT_REFUSED.sub(lambda found: found[1] or "", words)
    messages = body.get("messages")
    for message in cast("wire.WireMessages", messages) if isinstance(messages, list) else ():
        for text in wire.list_texts(message):
            start = words.find(text[:_SHORTEST_ECHO]) if len(text) >= _SHORTEST_ECHO else -1
            if start >= 0:
                forms = (text, json.dumps(text, ensure_ascii=False)[1:-1])
                length = max(_count_equal(words[start:], form) for form in forms)
                if length >= min(len(text), _LONG_ECHO):  # and not only the same first words
                    words = words[:start] + words[start + length :]
    return words


def _count_equal(first: str, second: str) -> int:
    """Return how many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def find_adaptations(refused: ModelRefused, body: RequestBody) -> Iterable[Adaptation]:
    """Yield the rows that recognize a refusal and change the refused body, in their order."""
    words = _remove_echo(extract_words(refused.body), body)
    if _NOT_OF_FORM.search(words):
        return
    for row in ADAPTATIONS:
        if row.pattern.search(words) and row.change(body) != body:
            yield row
    yield from _find_refused_fields(words, body)


def _find_refused_fields(words: str, body: RequestBody) -> Iterable[Adaptation]:
    """Yield the rows that leave an optional field out, for each that a refusal names."""
    if not _FIELD_REFUSED.search(words) or _RANGE.search(words):
        return
    for name in body:
        if name not in _ESSENTIAL_FIELDS[:4] and re.search(rf"\b{re.escape(name)}\b", words):
            yield Adaptation(f"no {name}", f"{name} is left out", re.compile(""), _drop_field(name))


class LearnedAdaptations:
    """What is known of one model of one server: the rows that were learned, by name.

    accepts_tools, accepts_system: whether a request with tools, or with instructions, was answered.
    extra_contents: what the server has added to its latest calls, by call id.
    window: the reported context window in tokens, and when it was; None if it is to be asked for.
    clock: seconds; `monotonic` outside of tests.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.accepts_tools = False
        self.accepts_system = False
        self.extra_contents: dict[str, JSON] = {}
        self.window: tuple[int | None, float] | None = None
        self._learned: tuple[LearnedAdaptation, ...] = ()
        self._clock = clock

    @property
    def active(self) -> tuple[LearnedAdaptation, ...]:
        """The rows that were learned in the last hour, in the order in which they apply."""
        if self._learned:
            since = self._clock() - REMEMBER_SECONDS
            if any(item.at < since for item in self._learned):
                self._learned = tuple(item for item in self._learned if item.at >= since)
        return self._learned

    def learn(
        self,
        refused: ModelRefused,
        body: RequestBody,
        used: Sequence[LearnedAdaptation],
        excluded: Collection[str] = (),
    ) -> LearnedAdaptation | None:
        """Return what a refusal teaches; None if it is final.

        body, used: the body that was refused, and the rows that it had been changed by.
        excluded: names of rows that must not change this request.
        """
        if isinstance(refused, ContextOverflow) or refused.status in (401, 402, 407):
            return None
        if isinstance(refused, RateLimited) and not isinstance(refused, ServerFailed):
            return None
        used_names = {learned.name for learned in used}
        for row in find_adaptations(refused, body):
            if row.name in used_names or row.name in excluded:
                continue
            if row.is_fallback and (
                isinstance(refused, ServerFailed)
                or not self._may_guess(row, refused.status, body, used_names)
            ):
                continue
            known = next((item for item in self.active if item.name == row.name), None)
            return known or self._add(row, refused.status, extract_words(refused.body))
        return None

    def _may_guess(
        self, row: Adaptation, status: int, body: RequestBody, used: Collection[str]
    ) -> bool:
        """Whether an uncertain row gives up nothing that the server has accepted."""
        if row.name == NO_IMAGES:
            return True
        if status not in _GUESS_STATUSES:
            return False
        if row.name != NO_TOOLS:
            return row.name != NO_SYSTEM_ROLE or not self.accepts_system
        has_results = NO_TOOL_ROLE in used or wire.has_tool_messages(body.get("messages"))
        return not (self.accepts_tools or has_results) and status != 500

    def learn_ignored_format(self, answer: str) -> None:
        """Note that the server has not held an answer to its JSON Schema."""
        if not any(item.name in UNHELD_ANSWER for item in self.active):
            row = next(row for row in ADAPTATIONS if row.name == NO_ANSWER_FORMAT)
            self._add(row, 200, answer)

    def _add(self, row: Adaptation, status: int, text: str) -> LearnedAdaptation:
        words = " ".join(text.split())
        shown = words if len(words) <= _WORDS_LENGTH else words[:_WORDS_LENGTH] + "..."
        learned = LearnedAdaptation(row, status, shown, self._clock())
        self._learned = tuple(
            sorted((*self.active, learned), key=lambda item: item.adaptation.stage)
        )
        _logger.info("learned of a server: %s: %s", learned.name, learned.reason)
        return learned

    def keep_extra_contents(self, contents: Mapping[str, JSON]) -> None:
        """Keep what the server added to calls, of the last thousands of calls."""
        if not contents:
            return
        self.extra_contents.update(contents)
        while len(self.extra_contents) > _MAX_EXTRA_CONTENTS:
            self.extra_contents.pop(next(iter(self.extra_contents)), None)

    def unlearn(self, learned: Iterable[LearnedAdaptation | None]) -> None:
        """Forget rows that did not help."""
        names = {item.name for item in learned if item is not None}
        self._learned = tuple(item for item in self._learned if item.name not in names)

    def note_accepted(self, prompt: PromptSpec) -> None:
        """Note that a request with this prompt was answered."""
        self.accepts_tools = self.accepts_tools or bool(prompt.tools)
        self.accepts_system = self.accepts_system or bool(prompt.instructions)

    def forget(self) -> None:
        """Forget everything, as the server may be another one now."""
        self._learned, self.accepts_tools, self.accepts_system = (), False, False
        self.window = None


def apply_adaptations(body: RequestBody, learned: Iterable[LearnedAdaptation]) -> RequestBody:
    """Return the body of a request as the server accepts it."""
    for item in learned:
        body = item.adaptation.change(body)
    return body


_servers: dict[tuple[str, str, str], LearnedAdaptations] = {}
"""By base URL, model and API key."""


def get_learned(url: str, model: str, api_key: str) -> LearnedAdaptations:
    """Return what this process knows of a model of a server; all clients share it."""
    return _servers.setdefault((url.rstrip("/"), model, api_key), LearnedAdaptations())


def forget_server(url: str | None = None) -> None:
    """Forget what was learned of the server at a URL; of all servers by default."""
    for key, learned in list(_servers.items()):
        if url is None or key[0] == url.rstrip("/"):
            learned.forget()
