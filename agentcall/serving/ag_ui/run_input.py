"""The body of a request, `RunAgentInput`, parsed and checked.

Source: the AG-UI specification 1.0, "Run Input" and "Interrupts and Resume". What the protocol
allows an agent to leave aside is left aside: the client's own tools, context, state, and parts of
messages that are not texts or images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from agentcall.errors import UsageError
from agentcall.messages import JSON, Message, clear_provenance
from agentcall.runtime.history import read_history
from agentcall.runtime.prompts import format_person_denial
from agentcall.serving.run_requests import MAX_MESSAGES, InvalidRequest, parse_object

Wire: TypeAlias = Mapping[str, Any]  # Any: JSON of a client, which this module checks

_ROLES = ("developer", "system", "user", "assistant", "tool", "reasoning", "activity")


@dataclass(frozen=True, slots=True)
class RunAgentInput:
    """A parsed request.

    messages: the conversation for the agent.
    shown: the conversation as the client has it.
    denials: results of the calls that a person did not approve, in AG-UI's form.
    fields: the whole body, for the application's own use.
    """

    thread_id: str
    run_id: str
    messages: tuple[Message, ...]
    shown: tuple[Wire, ...]
    denials: tuple[dict[str, JSON], ...]
    fields: Wire


def parse_run_input(body: bytes) -> RunAgentInput:
    """Parse the body of a request. Raise InvalidRequest if it is refused."""
    fields = parse_object(body)
    thread_id, run_id = (_get_text(fields, name, name) for name in ("threadId", "runId"))
    shown = tuple(_list_messages(fields))
    denials = tuple(_list_denials(fields, shown))
    wires = [
        *(_to_openai_form(message) for message in shown if message["role"] != "reasoning"),
        *map(_to_openai_form, denials),
    ]
    if not wires or (wires[-1]["role"] != "user" and not denials):
        raise InvalidRequest("the last message is not the user's", param="messages")
    try:
        messages = clear_provenance(read_history(wires))
    except (UsageError, AttributeError, TypeError, KeyError, ValueError) as error:
        raise InvalidRequest(f"{error!s:.500}", param="messages") from None
    return RunAgentInput(thread_id, run_id, messages, shown, denials, fields)


def _get_text(fields: Wire, name: str, param: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{param} is {value!r:.100}; send a text", param=param)
    return value


def _list_objects(fields: Wire, name: str) -> Sequence[Wire]:
    values: object = fields.get(name)
    if not isinstance(values, list) or not all(
        isinstance(value, dict) for value in cast("list[object]", values)
    ):
        raise InvalidRequest(f"{name} is not a list of objects", param=name)
    return cast("list[Wire]", values)


def _list_messages(fields: Wire) -> Iterator[Wire]:
    """Yield the messages, without those of activities, which belong to the client alone."""
    messages = _list_objects(fields, "messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequest(
            f"there are {len(messages):,} messages, more than {MAX_MESSAGES:,}; leave out the "
            "oldest ones",
            param="messages",
        )
    for index, message in enumerate(messages):
        _get_text(message, "id", f"messages[{index}].id")
        role = _get_text(message, "role", f"messages[{index}].role")
        if role not in _ROLES:
            raise InvalidRequest(
                f"messages[{index}].role is {role!r:.100}; use one of {', '.join(_ROLES)}",
                param="messages",
            )
        may_be_empty = role in ("assistant", "activity")
        if not may_be_empty and not isinstance(message.get("content"), (str, list)):
            raise InvalidRequest(
                f"messages[{index}].content is {message.get('content')!r:.100}; use a text or a "
                "list of parts",
                param="messages",
            )
        if role == "tool":
            _get_text(message, "toolCallId", f"messages[{index}].toolCallId")
        if role != "activity":
            yield message


def _to_openai_form(message: Wire) -> dict[str, Any]:  # Any: as in Wire
    """Return a message in the form that `read_history` reads, with nothing else of the client's."""
    role, content = message["role"], message.get("content")
    wire: dict[str, Any] = {"role": role, "content": content}  # Any: as in Wire
    if isinstance(content, list):
        parts = cast("list[object]", content)
        wire["content"] = [wired for part in parts if (wired := _read_part(part)) is not None]
    if role == "assistant" and message.get("toolCalls"):
        wire["tool_calls"] = message["toolCalls"]
    if role == "tool":
        wire["tool_call_id"] = message.get("toolCallId")
        wire["is_error"] = bool(message.get("error"))
    return wire


def _read_part(part: object) -> dict[str, JSON] | None:
    """Return a text or an image as a part of OpenAI's form, or None for anything else."""
    match part:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "image", "source": {"type": "url", "value": str(url)}}:
            return {"type": "image_url", "image_url": {"url": url}}
        case {
            "type": "image",
            "source": {"type": "data", "value": str(data), "mimeType": str(kind)},
        }:
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        case _:
            return None


def _list_denials(fields: Wire, shown: Sequence[Wire]) -> Iterator[dict[str, JSON]]:
    """Yield a result for each call that `resume` gives up.

    Nothing is executed on the word of a client: it could have written the call itself.
    """
    if fields.get("resume") is None:
        return
    answered = [message.get("toolCallId") for message in shown if message["role"] == "tool"]
    calls = (call for message in shown for call in _list_call_ids(message))
    waiting = [call_id for call_id in calls if call_id not in answered]
    denied: set[str] = set()
    for entry in _list_objects(fields, "resume"):
        interrupt_id = _get_text(entry, "interruptId", "resume.interruptId")
        for call_id in waiting:
            # A call of an agent that is a tool waits under the id of that tool's call.
            if call_id not in denied and f"{interrupt_id}/".startswith(f"{call_id}/"):
                _check_denial(entry, interrupt_id)
                denied.add(call_id)
                yield {
                    "id": f"{call_id}-denied",
                    "role": "tool",
                    "toolCallId": call_id,
                    "content": format_person_denial(""),
                }


def _list_call_ids(message: Wire) -> Iterator[str]:
    calls: object = message.get("toolCalls")
    for call in cast("list[object]", calls) if isinstance(calls, list) else ():
        match call:
            case {"id": str(call_id)} if call_id:
                yield call_id
            case _:
                pass


def _check_denial(entry: Wire, interrupt_id: str) -> None:
    match entry:
        case {"status": "cancelled"} | {"status": "resolved", "payload": {"approved": False}}:
            pass
        case _:
            raise InvalidRequest(
                f"the call {interrupt_id!r:.100} cannot be approved here; send the status "
                '"cancelled" or the payload {"approved": false}',
                param="resume",
            )
