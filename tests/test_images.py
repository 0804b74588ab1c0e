"""Images: files as data URLs, mistakes told before anything is sent, and servers without eyes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from command_line import agentcall
from rows import each_row

from agentcall import Agent, Image, messages
from agentcall.errors import ModelRefused, UsageError
from agentcall.messages import Text, User
from agentcall.models.errors import parse_error_response
from agentcall.models.http_chat import HTTPChat
from agentcall.testing import FakeServer, forever, openai_error, say, status

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJg"
    "gg=="
)
BEGINNINGS = {
    "png": PIXEL,
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "gif": b"GIF89a\x01\x00",
    "webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
}


@pytest.mark.parametrize("kind", BEGINNINGS)
@pytest.mark.parametrize("name", ["photo.jpg", "photo"])
def test_the_kind_of_an_image_is_told_by_its_bytes(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BEGINNINGS[kind])
    url = f"data:image/{kind};base64,{base64.b64encode(BEGINNINGS[kind]).decode()}"
    assert Image.file(path) == Image.file(str(path)) == Image(url)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Dear Ann", r"not a PNG, JPEG, WebP or GIF file: it starts with b'Dear Ann'"),
        (b"RIFF1234WAVE", "it starts with"),
        (b"", "it is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "0 MiB; the maximum is"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_IMAGE_BYTES", 64)
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        Image.file(path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no image file .*nowhere\.png"):
        Image.file(tmp_path / "nowhere.png")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        Image.file(tmp_path)


@each_row(
    ("status", "words"),
    [
        (400, "Multimodal input is not supported by this model."),
        (500, "image input is not supported - hint: you may need to provide the mmproj"),
        (400, "At most 0 image(s) may be provided in one prompt."),
        (400, "llama3 is not a multimodal model"),
        (400, "This model does not support image inputs"),
        (500, "this model is missing data required for image input"),
    ],
)
def test_a_model_without_eyes_is_told_whoever_serves_it(status: int, words: str) -> None:
    error = parse_error_response(status, {"error": {"message": words}})
    assert type(error) is ModelRefused
    assert "serve one that does, such as InternVL2, or remove them" in str(error)


def test_other_words_about_images_are_no_such_thing() -> None:
    for words in ("image decoding failed", "tools are not supported", "cannot load image"):
        assert "serve one that does" not in str(parse_error_response(500, {"message": words}))


async def test_a_server_without_eyes_is_asked_once() -> None:
    blind = openai_error("image input is not supported")
    with FakeServer([forever(status(500, body=blind))]) as server:
        with pytest.raises(ModelRefused, match="the model does not accept images"):
            await Agent(HTTPChat(server.url, "m", dialect="native")).run(["?", Image("https://x")])
        assert len(server.requests) == 1


async def test_internlm_is_sent_no_image_and_a_conversation_without_one_goes() -> None:
    models = ["internlm2_5-7b-chat"]
    with FakeServer([forever(say("hi"))], models=models) as server:
        agent = Agent(server.url)
        with pytest.raises(UsageError, match="internlm2_5-7b-chat reads only text"):
            await agent.run(["What is it?", Image("https://x/y.png")])
        history = [User((Text("See"), Image("https://x/y.png")))]
        assert (await agent.run("And?", messages=history)).output == "hi"
        sent = server.requests[-1].messages[-2]["content"]
        assert sent == "See\n(an image is not shown, as you read only text: https://x/y.png)"
        assert (await agent.run(["only", "text"])).output == "hi"


# --- agentcall run --image ---


def test_images_are_sent_before_the_words(tmp_path: Path) -> None:
    (tmp_path / "dot.png").write_bytes(PIXEL)
    words = ["What is on it?", "--image", "dot.png", "--image", "https://x/y.png"]
    with FakeServer([say("a dot")]) as server:
        done = agentcall("run", *words, "-m", server.url, cwd=tmp_path)
        (request,) = server.requests
    assert done.stdout == "a dot\n", done.stderr
    first, second, third = request.messages[-1]["content"]  # type: ignore[misc]
    assert first["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert second["image_url"]["url"] == "https://x/y.png"
    assert third == {"type": "text", "text": "What is on it?"}


def test_an_image_alone_is_a_question(tmp_path: Path) -> None:
    (tmp_path / "dot.png").write_bytes(PIXEL)
    with FakeServer([say("a dot")]) as server:
        done = agentcall("run", "--image", "dot.png", "-m", server.url, cwd=tmp_path)
        (request,) = server.requests
    assert done.returncode == 0
    assert [part["type"] for part in request.messages[-1]["content"]] == ["image_url"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no.png", "there is no image file no.png"),
        ("letter.png", "letter.png is not a PNG, JPEG, WebP or GIF"),
        (".", "the image . cannot be read"),
    ],
)
def test_a_wrong_image_ends_with_2_and_says_so(image: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("Dear Ann")
    done = agentcall("run", "?", "--image", image, "-m", "http://127.0.0.1:9/v1", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
