"""Images of tool results: after all results of a turn, or one line; never base64 as text."""

from __future__ import annotations

import base64
import logging
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import orjson
import pytest
from isolated_tools import PIXEL
from isolated_tools import picture as isolated_picture
from rows import each_row

from agentcall import Agent, Image, tool
from agentcall.approvals import Approved
from agentcall.errors import ModelRefused, ToolError, UsageError
from agentcall.events import event_to_json
from agentcall.messages import Text, ToolResult, Untrusted, User, load_messages, to_json
from agentcall.models.http_chat import HTTPChat
from agentcall.result import RunResult
from agentcall.sessions import SQLiteSession
from agentcall.testing import FakeServer, ScriptedModel, call, calls, forever, openai_error, say
from agentcall.testing import status as http_status
from agentcall.tools.serialize import SerializedOutput, serialize_output

DATA = base64.b64encode(PIXEL).decode()
URL = f"data:image/png;base64,{DATA}"
NOTE = f"image/png, {len(PIXEL)} bytes"
DIALECTS = ["native", "internlm", "internlm-named", "constrained"]


class Drawing:
    """Has the members of `PIL.Image.Image` that are used."""

    mode, format = "CMYK", None

    def tobytes(self) -> bytes:
        return b""

    def convert(self, mode: str) -> Drawing:
        drawing = Drawing()
        drawing.mode = mode
        return drawing

    def save(self, file: BytesIO, format: str, **_: object) -> None:
        assert (self.mode, format) == ("RGB", "PNG")
        file.write(PIXEL)


@dataclass
class Page:
    title: str
    shot: object


@tool(read_only=True)
def shot() -> Image:
    """Take a screenshot."""
    return Image(URL)


@tool(untrusted=True, read_only=True)
def photo() -> Image:
    """Load a photo."""
    return Image(URL)


Point = namedtuple("Point", "x y")


@each_row(
    ("value", "text"),
    [
        (Image(URL), f"[image 1: {NOTE}]"),
        (PIXEL, f"[image 1: {NOTE}]"),
        (bytearray(PIXEL), f"[image 1: {NOTE}]"),
        (Drawing(), f"[image 1: {NOTE}]"),
        (URL, f"[image 1: {NOTE}]"),
        (["a dot:", Image(URL), "and"], f"a dot:\n[image 1: {NOTE}]\nand"),
        (("a dot:", PIXEL), f"a dot:\n[image 1: {NOTE}]"),
        ((Text("a dot:"), Image(URL)), f"a dot:\n[image 1: {NOTE}]"),
        ({"name": "dot", "file": PIXEL}, f'{{"name":"dot","file":"[image 1: {NOTE}]"}}'),
        ({"items": [{"shot": Drawing()}]}, f'{{"items":[{{"shot":"[image 1: {NOTE}]"}}]}}'),
        (Page("Dot", Image(URL)), f'{{"title":"Dot","shot":"[image 1: {NOTE}]"}}'),
        (Point(1, PIXEL), f'{{"x":1,"y":"[image 1: {NOTE}]"}}'),
        ([1, Image(URL)], f'[1,"[image 1: {NOTE}]"]'),
        ({"url": URL, 2: 2**70}, f'{{"url":"[image 1: {NOTE}]","2":{2**70}}}'),
        (f"![a dot]({URL}) is it", f"![a dot]([image 1: {NOTE}]) is it"),
    ],
)
def test_an_image_anywhere_in_a_result_is_taken_out_of_its_text(value: object, text: str) -> None:
    assert serialize_output(value) == SerializedOutput(text, images=(Image(URL),))


def test_images_are_numbered_and_keep_their_mark() -> None:
    output = serialize_output([Image(URL), "x", Image("https://x/y.png", untrusted=True)])
    assert output.text == f"[image 1: {NOTE}]\nx\n[image 2: https://x/y.png]"
    assert output.is_untrusted
    assert serialize_output({"a": Untrusted([PIXEL])}).is_untrusted


@pytest.mark.parametrize(
    "text", ["data:image/png;base64,iVBORw0KGgo", f"data:image/png;base64,{'A' * 80}", "a;base64,b"]
)
def test_a_text_that_only_resembles_an_image_stays_text(text: str) -> None:
    assert serialize_output(text) == SerializedOutput(text)


def test_an_image_that_cannot_be_sent_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcall.messages.MAX_IMAGE_BYTES", 20)
    assert "the maximum is" in serialize_output([PIXEL]).text
    assert "use Image.file(path)" in serialize_output(Image("dot.png")).text


def _is_hidden(value: object) -> bool:
    return DATA not in str(value)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_images_follow_all_results_of_the_turn(dialect: str) -> None:
    @tool
    def count() -> int:
        """Count."""
        return 1

    with FakeServer([say("a dot")]) as server:
        model = HTTPChat(server.url, "m", dialect=dialect)
        history = [
            {"role": "user", "content": "Look"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [_call("a", "shot"), _call("b", "count")],
            },
            {"role": "tool", "tool_call_id": "a", "content": [_part(URL)]},
            {"role": "tool", "tool_call_id": "b", "content": "1"},
        ]
        agent = Agent(model, tools=[shot, count])
        result = await agent.run(messages=[*history, {"role": "user", "content": "What is it?"}])
        (request,) = server.requests
    assert result.output
    users = [message for message in request.messages if isinstance(message["content"], list)]
    (carrier,) = users
    place = request.messages.index(carrier)
    assert carrier["role"] == "user"
    assert request.messages[place + 1] == {"role": "user", "content": "What is it?"}
    assert [part["image_url"]["url"] for part in carrier["content"] if "image_url" in part] == [URL]
    assert any("image 1 of shot (a)" in part.get("text", "") for part in carrier["content"])
    assert all(_is_hidden(message) for message in request.messages if message is not carrier)


def _call(call_id: str, name: str) -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}


def _part(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


@each_row("dialect", DIALECTS)
@each_row("stream", [False, True])
async def test_a_model_that_reads_only_text_gets_a_line(dialect: str, *, stream: bool) -> None:
    refusal = http_status(400, body=openai_error("m is not a multimodal model"))
    with FakeServer([call("shot"), refusal, say("no idea")]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect=dialect), tools=[shot])
        result = await _run(agent, "Look", stream)
        sent = orjson.dumps(server.requests[-1].messages).decode()
    assert result.output == "no idea"
    assert _is_hidden(sent)
    assert f"(image 1 is not shown, as you read only text: {NOTE})" in sent


async def _run(agent: Agent[Any, Any], prompt: str, stream: bool) -> RunResult[Any]:
    if not stream:
        return await agent.run(prompt)
    events = [event async for event in agent.run_stream(prompt)]
    return events[-1].result  # type: ignore[union-attr]  # RunFinished


REFUSALS = [
    http_status(400, body=openai_error("m is not a multimodal model")),
    http_status(500, body=openai_error("image input is not supported")),
    http_status(422, body=openai_error("messages[3].content: Input should be a valid string")),
    http_status(400, body=openai_error("unknown variant `image_url`, expected `text`")),
    http_status(400, body=openai_error("Request preprocessing failed.")),
]


@each_row("refusal", REFUSALS)
@each_row("stream", [False, True])
async def test_a_server_that_refuses_the_image_is_asked_without(
    refusal: Any, *, stream: bool
) -> None:
    with FakeServer([call("shot"), refusal, say("no idea"), say("as I said")]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"), tools=[shot])
        first = await _run(agent, "Look", stream)
        assert first.output == "no idea"
        sent = server.requests[-1].messages
        assert _is_hidden(sent)
        assert "not shown" in str(sent)
        if refusal is not REFUSALS[-1]:  # its words say that it is about images
            second = await agent.run("And now?", messages=first.messages)
            assert second.output == "as I said"
            assert len(server.requests) == 4


async def test_a_picture_in_the_question_is_not_left_out_silently() -> None:
    refusal = http_status(400, body=openai_error("m is not a multimodal model"))
    with FakeServer([forever(refusal)]) as server:
        agent = Agent(HTTPChat(server.url, "m", dialect="native"), tools=[shot])
        with pytest.raises(ModelRefused, match="does not accept images"):
            await agent.run(["What is it?", PIXEL])
        assert len(server.requests) == 1


async def test_the_image_of_an_untrusted_tool_is_untrusted_content() -> None:
    model = ScriptedModel([call("photo"), say("a dot")])
    result = await Agent(model, tools=[photo]).run("Look")
    carrier = model.requests[-1].messages[-1]
    assert "untrusted data" in str(carrier["content"])
    assert [m for m in result.messages if isinstance(m, User)] == [User("Look")]
    (found,) = (m for m in result.messages if isinstance(m, ToolResult))
    assert found.untrusted


async def test_the_words_of_an_image_message_are_not_the_user_s() -> None:
    @tool(egress=["url"], read_only=True)
    def fetch(url: str) -> str:
        """Fetch a page."""
        return url

    model = ScriptedModel([call("photo"), call("fetch", url="photo"), say("no")])
    result = await Agent(model, tools=[photo, fetch]).run("Look")
    assert result.stop_reason == "approval"


@pytest.mark.parametrize("make", [lambda: [shot], lambda: [isolated_picture]])
async def test_no_base64_reaches_events_logs_or_texts(
    make: Callable[[], list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    tools = make()
    model = ScriptedModel([call(tools[0].name), say("a dot")])
    with caplog.at_level(logging.DEBUG):
        events = [event async for event in Agent(model, tools=tools).run_stream(["Look", PIXEL])]
    assert _is_hidden([event_to_json(event) for event in events])
    assert _is_hidden(repr(events))
    assert _is_hidden(caplog.text)
    result = events[-1].result  # type: ignore[union-attr]  # RunFinished
    (found,) = (m for m in result.messages if isinstance(m, ToolResult))
    assert found.images == (Image(URL),)
    assert _is_hidden(found.text)


async def test_a_saved_result_and_a_session_keep_the_image(tmp_path: Any) -> None:
    session = SQLiteSession("s", tmp_path / "s.db")
    model = ScriptedModel([call("shot"), say("a dot"), say("still a dot")])
    agent = Agent(model, tools=[shot])
    result = await agent.run("Look", session=session)
    assert RunResult[Any].from_json(result.to_json()).messages == result.messages
    assert load_messages(map(to_json, result.messages)) == result.messages
    await agent.run("And now?", session=session)
    assert URL in str(model.requests[-1].messages)


async def test_an_image_of_a_run_that_waits_is_shown_when_it_continues() -> None:
    @tool(requires_approval=True)
    def send() -> str:
        """Send it."""
        return "sent"

    model = ScriptedModel([calls(call("shot"), call("send")), say("done")])
    agent = Agent(model, tools=[shot, send])
    waiting = await agent.run("Look and send")
    (pending,) = waiting.pending
    await agent.resume(waiting.to_json(), {pending.call.id: Approved()})
    *_, first, second, carrier = model.requests[-1].messages
    assert (first["role"], second["role"], carrier["role"]) == ("tool", "tool", "user")
    assert URL in str(carrier)


async def test_an_error_may_have_an_image() -> None:
    @tool
    def click() -> str:
        """Click."""
        raise ToolError("no such button", Image(URL))

    model = ScriptedModel([call("click"), say("a pity")])
    await Agent(model, tools=[click]).run("Click")
    *_, failed, carrier = model.requests[-1].messages
    assert failed["content"] == f"no such button\n[image 1: {NOTE}]"
    assert URL in str(carrier)


@each_row("prompt", [PIXEL, Image(URL), Drawing(), ["What?", PIXEL], ("What?", Drawing())])
async def test_a_question_may_have_an_image_in_any_form(prompt: Any) -> None:
    model = ScriptedModel([say("a dot")])
    await Agent(model).run(prompt)
    parts = model.requests[-1].messages[-1]["content"]
    assert _part(URL) in parts


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (["What?", 5], "part 1 of the prompt is 5"),
        ([Image("dot.png")], r"use Image\.file\(path\)"),
        ([b"Dear Ann"], "part 0 of the prompt is b'Dear Ann'"),
    ],
)
async def test_a_question_with_another_thing_is_refused(prompt: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await Agent(ScriptedModel([say("?")])).run(prompt)


def test_an_image_of_pillow_is_read() -> None:
    pillow = pytest.importorskip("PIL.Image")
    for mode in ("RGB", "RGBA", "CMYK", "L", "1", "P", "F", "LA"):
        (image,) = serialize_output(pillow.new(mode, (3, 2))).images
        assert image.description.startswith("image/png, ")
    buffer = BytesIO()
    pillow.new("RGB", (3, 2)).save(buffer, format="JPEG")
    (image,) = serialize_output({"x": pillow.open(BytesIO(buffer.getvalue()))}).images
    assert image.description.startswith("image/jpeg, ")
